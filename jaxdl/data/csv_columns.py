"""The fields of a CSV file by column: separator and header found, every line checked, texts told from numbers."""

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
FIELDS = 25_000_000  # of a table: some 3 GB while it is read, 4 if they are long
COLUMNS = 1_000_000  # of a table: each is kept with its name, what it means and what the schema says of it, some 0.7 kB
MAX_FIELDS, MAX_COLUMNS = "JAXDL_MAX_FIELDS", "JAXDL_MAX_COLUMNS"  # the variables that raise them
LARGEST = float(np.finfo(np.float32).max)
LOOKED_AT = 1 << 16  # bytes of a line in which blanks are looked for
BLANKS = re.compile(rb"[ \t]+")
FIELD = re.compile(rb'"[^"]*"|[^\s"]+')  # of a line that blanks separate


class Reading(NamedTuple):
    """How a file is written, as far as the file itself does not say."""

    separator: str = "auto"  # one of SEPARATORS; blank: any run of blanks and tabs
    header: bool = True  # whether the first line names the columns; False: they are c1, c2, ...
    decimal: str = "point"  # one of DECIMALS: 2.5 or 2,5


USUAL = Reading()


class Column(NamedTuple):
    """The fields of a column, blanks stripped; None where the value is missing."""

    name: str
    values: list[str | None]
    places: Sequence[int]  # where each field stands
    unit: str = "line"  # what `places` counts
    decimal: str = "point"

    def taken(self, rows: Sequence[bool]) -> "Column":
        """The column without the rows that are False."""
        return self._replace(values=list(compress(self.values, rows)), places=list(compress(self.places, rows)))


class Columns(NamedTuple):
    """The columns of a table by name, where they are from, and what was decided in reading them."""

    source: str | Path
    columns: dict[str, Column]
    notes: list[str]


def read_columns(path: str | Path, missing: Sequence[str], reading: Reading = USUAL) -> Columns:
    """The columns of a file.

    Separated by what the first line holds most of, comma, semicolon or tab, and by runs of blanks where it has none of
    them, or numbers between which are blanks.

    Raises:
      MissingData: there is no such file.
      DataError: no header, a line of another length, quotes that are not closed; the line is named.
    """
    absent = frozenset(word.lower() for word in missing)
    header, fields, lines, separator = _parsed(path, absent, reading)
    columns = {
        name: Column(name, fields[i :: len(header)], lines, decimal=reading.decimal) for i, name in enumerate(header)
    }
    shown = {"semicolon": "';'", "tab": "tab", "blank": "blanks"}
    notes = [f"separator {shown[separator]}"] if separator != "comma" else []
    if not reading.header:
        first = [f"{name} ({column.values[0] or 'missing'})" for name, column in islice(columns.items(), 20)]
        more = f" and {len(columns) - 20:,} more" if len(columns) > 20 else ""
        notes.append(f"columns {some(first)}{more}")
    return Columns(path, columns, notes)


def _parsed(
    path: str | Path, absent: frozenset[str], reading: Reading
) -> tuple[list[str], list[str | None], Sequence[int], str]:
    """(header, the fields of all rows in one list, the line of each row, the name of the separator)."""
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
                    f"{path}: line {reader.line_num}: {len(row)} fields; {has} has {len(header)}"
                    + (f", separated by {separator}; --separator=... takes another" if separator != "comma" else "")
                )
            fields += [None if field.lower() in absent else field for field in row]
            lines.append(reader.line_num)
    except csv.Error as e:
        raise DataError(f"{path}: line {reader.line_num}: {e}; fields with quotes must be closed and separated") from e
    if not header:
        _check_header(path, header)
    if not lines:
        raise DataError(f"{path}: holds a header but no rows; at least one is needed")
    return header, fields, lines, separator


def _guessed(content: bytes) -> str:
    """The name of the separator: what the first line holds most of; blanks where it has none and the second agrees."""
    # csv.Sniffer guesses from letter statistics and is often wrong; the header holds every separator once a column.
    found = re.match(rb"(?:%b)?[\r\n]*([^\r\n]*)[\r\n]*([^\r\n]*)" % MARK, content)
    first, second = found.groups() if found else (b"", b"")
    best = max(("comma", "semicolon", "tab"), key=lambda name: first.count(MARKS[name].encode()))
    if b"," in first or b";" in first or max(len(first), len(second)) > LOOKED_AT:
        return best
    if b"\t" in first:  # it may stand among blanks, but hardly between columns whose names are rows of numbers
        words = [field.split() for field in first.split(b"\t")]
        number = lambda word: re.fullmatch(rb"[-+.\d]+(?:[eE][-+]?\d+)?|\?|NA", word)
        return "blank" if any(len(one) > 1 and all(map(number, one)) for one in words) else "tab"
    count = len(FIELD.findall(first))
    return "blank" if count > 1 and len(FIELD.findall(second)) == count else best


def _without_zeros(path: str | Path, lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DataError(f"{path}: line {number}: a zero byte; save the file as plain UTF-8 text")
        yield line


def _check_size(path: str | Path, content: bytes, separator: str) -> None:
    """DataError where the fields may be too many, before any is made: one of two bytes needs 70."""
    ends = content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")
    ends += not content.endswith((b"\n", b"\r"))
    blank = separator == "blank"
    marks = sum(1 for _ in BLANKS.finditer(content)) if blank else content.count(MARKS[separator].encode())
    count, most = marks + ends, limit(MAX_FIELDS, FIELDS)
    if count > most:
        raise DataError(
            f"{path}: has up to {count:,} fields, by its separators and lines, and {most:,} are read; "
            f"take fewer rows or columns, or set {MAX_FIELDS}={count} if the memory is enough"
        )


def _check_header(path: str | Path, header: list[str]) -> None:
    if not any(header):
        raise DataError(f"{path}: holds no text; a header line and rows are needed")
    _check_width(path, header)
    if all(_number(name, "point") is not None for name in header):
        raise DataError(
            f"{path}: line 1: numbers ({', '.join(header[:3])}, ...); a header with column names is needed, or "
            "--no_header, which names them c1, c2, ..."
        )
    if not all(header):
        raise DataError(f"{path}: line 1: column {header.index('') + 1} has no name; every column needs one")
    seen = set[str]()
    twice = [name for name in header if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise DataError(f"{path}: line 1: column {twice[0]!r} stands there twice; names must differ")
    broken = [name for name in header if len(name.splitlines()) > 1]
    if broken:
        raise DataError(f"{path}: line 1: the name of column {broken[0]!r:.60} goes over several lines; one is needed")


def _check_width(path: str | Path, row: list[str]) -> None:
    if len(row) > (most := limit(MAX_COLUMNS, COLUMNS)):
        raise DataError(
            f"{path}: line 1: {len(row):,} columns, and {most:,} are read; take fewer, or set "
            f"{MAX_COLUMNS}={len(row)} if the memory is enough"
        )


def texts_of(column: Column) -> list[str]:
    """The fields, "missing" where one is."""
    return ["missing" if value is None else value for value in column.values]


def is_text(column: Column, decimal: str = "") -> bool:
    """Whether at least half of the values are no numbers, with the column's decimal sign or the one given."""
    present = [value for value in column.values if value is not None]
    decimal = decimal or column.decimal
    return 2 * sum(_number(value, decimal) is None for value in present) >= max(1, len(present))


def numbers_of(path: str | Path, column: Column) -> list[float]:
    """The column as numbers that float32 can hold, NaN where missing."""
    numbers = []
    for value, place in zip(column.values, column.places, strict=True):
        number = math.nan if value is None else _number(value, column.decimal)
        if number is None:
            other = other_decimal(column)
            hint = f"; --decimal={other} takes it for one" if _number(value or "", other) is not None else ""
            raise DataError(
                f"{path}: {column.unit} {place}: {value!r:.40} in column {column.name!r}; a number is needed{hint}"
            )
        if value is not None and not abs(number) <= LARGEST:
            raise DataError(
                f"{path}: {column.unit} {place}: {value!r:.40} in column {column.name!r} is not a finite float32"
            )
        numbers.append(number)
    return numbers


def whole_numbers_of(path: str | Path, column: Column) -> list[int]:
    """The column as classes that are numbers; none may be missing."""
    numbers = numbers_of(path, column)
    for number, place in zip(numbers, column.places, strict=True):
        if not number.is_integer():
            raise DataError(
                f"{path}: {column.unit} {place}: {number} as class {column.name!r}; whole numbers or text are needed"
            )
    return [int(number) for number in numbers]


def other_decimal(column: Column) -> str:
    """The decimal sign that the column is not read with."""
    return "point" if column.decimal == "comma" else "comma"


def _number(text: str, decimal: str) -> float | None:
    if decimal == "comma":  # 1.234 may be a thousand and more there: a point is no part of a number
        text = "_" if "." in text else text.replace(",", ".")
    try:
        return None if "_" in text else float(text)  # Python reads 1_000 as a number, which no other program does
    except ValueError:
        return None
