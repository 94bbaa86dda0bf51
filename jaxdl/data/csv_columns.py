"""Reads the columns of a CSV file: detects the separator, checks every line, distinguishes text from numbers."""

import csv
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import compress, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdl.data.errors import DataError, some
from jaxdl.data.files import MARK, decoded_lines, limit, read_bytes

MARKS = {"comma": ",", "semicolon": ";", "tab": "\t", "blank": " "}
SEPARATORS, DECIMALS = ("auto", *MARKS), ("point", "comma")
FIELDS = 25_000_000  # in a table: about 3 GB while it is read, 4 if they are long
COLUMNS = 1_000_000  # in a table: the name, the description and the schema entry of each take about 0.7 kB
MAX_FIELDS, MAX_COLUMNS = "JAXDL_MAX_FIELDS", "JAXDL_MAX_COLUMNS"  # the environment variables that raise them
LARGEST = float(np.finfo(np.float32).max)
LOOKED_AT = 1 << 16  # bytes of a line that are searched for blanks
BLANKS = re.compile(rb"[ \t]+")
FIELD = re.compile(rb'"[^"]*"|[^\s"]+')  # in a line separated by blanks


class Reading(NamedTuple):
    """How a CSV file is written."""

    separator: str = "auto"  # one of SEPARATORS; blank: any run of spaces and tabs
    header: bool = True  # whether the first line names the columns; False: they are c1, c2, ...
    decimal: str = "point"  # one of DECIMALS: 2.5 or 2,5


USUAL = Reading()


class Column(NamedTuple):
    """The fields of a column without surrounding blanks; None where a value is missing."""

    name: str
    values: list[str | None]
    places: Sequence[int]  # the line or row number of each field
    unit: str = "line"  # what `places` counts
    decimal: str = "point"

    def taken(self, rows: Sequence[bool]) -> "Column":
        """Returns the column without the rows that are False."""
        return self._replace(values=list(compress(self.values, rows)), places=list(compress(self.places, rows)))

    def at(self, place: int) -> str:
        """Returns the position of a field for a message: "line 7: column 'size'"."""
        return f"{self.unit} {place}: column {self.name!r:.60}"


class Columns(NamedTuple):
    """The columns of a table by name, their source, and notes on how they were read."""

    source: str | Path
    columns: dict[str, Column]
    notes: list[str]


def read_columns(path: str | Path, missing: Sequence[str], reading: Reading = USUAL) -> Columns:
    """Reads the columns of a file.

    The separator is the most frequent of comma, semicolon and tab in the first line; or runs of blanks if it has none
    of these, or several numbers between two tabs.

    Raises:
      MissingData: the file does not exist.
      DataError: there is no header, a line has another number of fields, a quote is not closed; names the line.
    """
    absent = frozenset(word.lower() for word in missing)
    header, fields, lines, separator = _parsed(path, absent, reading)
    columns = {
        name: Column(name, fields[i :: len(header)], lines, decimal=reading.decimal) for i, name in enumerate(header)
    }
    notes = [f"separator: {separator}"] if separator != "comma" else []
    if not reading.header:
        first = [f"{name} ({column.values[0] or 'missing'})" for name, column in islice(columns.items(), 20)]
        more = f" and {len(columns) - 20:,} more" if len(columns) > 20 else ""
        notes.append(f"columns and their first values: {some(first)}{more}")
    return Columns(path, columns, notes)


def _parsed(
    path: str | Path, absent: frozenset[str], reading: Reading
) -> tuple[list[str], list[str | None], Sequence[int], str]:
    """Returns (header, the fields of all rows in one list, the line of each row, the name of the separator)."""
    content = read_bytes(path)
    separator = _guessed(content) if reading.separator == "auto" else reading.separator
    _check_size(path, content, separator)
    decoded = _without_zeros(path, decoded_lines(path, content))
    if separator == "blank":
        decoded = (line.replace("\t", " ").strip() + "\n" for line in decoded)
    blank = separator == "blank"
    reader = csv.reader(decoded, delimiter=MARKS[separator], strict=True, skipinitialspace=blank)
    header: list[str] = []
    fields: list[str | None] = []
    lines = array("q")
    try:
        for row in filter(None, reader):
            row = [field.strip() for field in row]
            if not header and reading.header:
                _check_header(path, row)
                header = row
                continue
            if not header:
                _check_width(path, row)
                header = [f"c{i + 1}" for i in range(len(row))]
            if len(row) != len(header):
                has = "the header" if reading.header else "the first line"
                raise DataError(
                    f"{path}: line {reader.line_num}: {len(row)} fields, but {has} has {len(header)}; "
                    f"correct the line, or set --separator ({separator} was used)"
                )
            fields += [None if field.lower() in absent else field for field in row]
            lines.append(reader.line_num)
    except csv.Error as e:
        raise DataError(f"{path}: line {reader.line_num}: {e}; quoted fields must be closed and separated") from e
    if not header:
        _check_header(path, header)
    if not lines:
        raise DataError(f"{path}: contains a header but no rows; at least one row is needed")
    return header, fields, lines, separator


def _guessed(content: bytes) -> str:
    """Returns the most frequent separator of the first line; blank if it has none and the second line agrees."""
    # csv.Sniffer guesses from letter statistics and is often wrong; a header has one separator per column.
    found = re.match(rb"(?:%b)?[\r\n]*([^\r\n]*)[\r\n]*([^\r\n]*)" % MARK, content)
    first, second = found.groups() if found else (b"", b"")
    best = max(("comma", "semicolon", "tab"), key=lambda name: first.count(MARKS[name].encode()))
    if b"," in first or b";" in first or max(len(first), len(second)) > LOOKED_AT:
        return best
    if b"\t" in first:  # also among blanks, but then with several numbers between two tabs
        words = [field.split() for field in first.split(b"\t")]
        number = lambda word: re.fullmatch(rb"[-+.\d]+(?:[eE][-+]?\d+)?|\?|NA", word)
        return "blank" if any(len(one) > 1 and all(map(number, one)) for one in words) else "tab"
    count = len(FIELD.findall(first))
    return "blank" if count > 1 and len(FIELD.findall(second)) == count else best


def _without_zeros(path: str | Path, lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DataError(f"{path}: line {number}: contains a zero byte; save the file as plain UTF-8 text")
        yield line


def _check_size(path: str | Path, content: bytes, separator: str) -> None:
    """Raises DataError if there may be too many fields, before any is made: one of two bytes needs 70."""
    ends = content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")
    ends += not content.endswith((b"\n", b"\r"))
    blank = separator == "blank"
    marks = sum(1 for _ in BLANKS.finditer(content)) if blank else content.count(MARKS[separator].encode())
    count, most = marks + ends, limit(MAX_FIELDS, FIELDS)
    if count > most:
        raise DataError(
            f"{path}: has up to {count:,} fields, the limit is {most:,}; use fewer rows or columns, or set "
            f"{MAX_FIELDS}={count} if there is enough memory"
        )


def _check_header(path: str | Path, header: list[str]) -> None:
    if not any(header):
        raise DataError(f"{path}: contains no text; a header line and rows are needed")
    _check_width(path, header)
    if all(_number(name, "point") is not None for name in header):
        raise DataError(
            f"{path}: line 1: numbers ({', '.join(header[:3])}, ...) where column names are expected; add a header, "
            "or set --no_header to name the columns c1, c2, ..."
        )
    if not all(header):
        raise DataError(f"{path}: line 1: column {header.index('') + 1} has no name; every column needs one")
    seen = set[str]()
    twice = [name for name in header if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise DataError(f"{path}: line 1: two columns have the name {twice[0]!r:.60}; names must differ")
    broken = [name for name in header if len(name.splitlines()) > 1]
    if broken:
        raise DataError(f"{path}: line 1: the column name {broken[0]!r:.60} spans several lines; put it on one")


def _check_width(path: str | Path, row: list[str]) -> None:
    if len(row) > (most := limit(MAX_COLUMNS, COLUMNS)):
        raise DataError(
            f"{path}: line 1: {len(row):,} columns, the limit is {most:,}; use fewer, or set "
            f"{MAX_COLUMNS}={len(row)} if there is enough memory"
        )


def texts_of(column: Column) -> list[str]:
    """Returns the fields, with "missing" for each missing value."""
    return ["missing" if value is None else value for value in column.values]


def is_text(column: Column, decimal: str = "") -> bool:
    """Returns whether at least half of the values are not numbers, with the column's decimal sign or the given one."""
    present = [value for value in column.values if value is not None]
    decimal = decimal or column.decimal
    return 2 * sum(_number(value, decimal) is None for value in present) >= max(1, len(present))


def numbers_of(path: str | Path, column: Column) -> list[float]:
    """Returns the column as numbers within the range of float32, NaN where a value is missing.

    Raises:
      DataError: a value is not such a number; names the line.
    """
    numbers = []
    for value, place in zip(column.values, column.places, strict=True):
        number = math.nan if value is None else _number(value, column.decimal)
        if number is None:
            other = other_decimal(column)
            found = _number(value or "", other) is not None
            hint = f"set --decimal={other} to read it as one" if found else "correct it, or leave it empty if missing"
            raise DataError(f"{path}: {column.at(place)}: {value!r:.40} is not a number; {hint}")
        if value is not None and not abs(number) <= LARGEST:
            raise DataError(f"{path}: {column.at(place)}: {value!r:.40} is not a finite float32 number; correct it")
        numbers.append(number)
    return numbers


def whole_numbers_of(path: str | Path, column: Column) -> list[int]:
    """Returns the column as integer classes; no value may be missing."""
    numbers = numbers_of(path, column)
    for number, place in zip(numbers, column.places, strict=True):
        if not number.is_integer():
            raise DataError(
                f"{path}: {column.at(place)}: {number} is not a class; classes must be whole numbers or text"
            )
    return [int(number) for number in numbers]


def other_decimal(column: Column) -> str:
    """Returns the decimal sign that the column is not read with."""
    return "point" if column.decimal == "comma" else "comma"


def _number(text: str, decimal: str) -> float | None:
    if decimal == "comma":  # a point may separate thousands, as in 1.234, and is not accepted
        text = "_" if "." in text else text.replace(",", ".")
    try:
        return None if "_" in text else float(text)  # Python accepts 1_000, other programs do not
    except ValueError:
        return None
