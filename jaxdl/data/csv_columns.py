"""The fields of a CSV file by column: separator and header found, every line checked, texts told from numbers."""

import csv
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdl.data.errors import DataError
from jaxdl.data.files import MARK, decoded_lines, limit, read_bytes

SEPARATORS = (",", ";", "\t")
FIELDS = 25_000_000  # of a table: some 3 GB while it is read, 4 if they are long
COLUMNS = 1_000_000  # of a table: each is kept with its name, what it means and what the schema says of it, some 0.7 kB
MAX_FIELDS, MAX_COLUMNS = "JAXDL_MAX_FIELDS", "JAXDL_MAX_COLUMNS"  # the variables that raise them
LARGEST = float(np.finfo(np.float32).max)


class Column(NamedTuple):
    """The fields of a column, blanks stripped; None where the value is missing."""

    name: str
    values: list[str | None]
    lines: Sequence[int]  # where each field stands in the file


def read_columns(path: str | Path, missing: Sequence[str]) -> tuple[dict[str, Column], str]:
    """The columns of a file by name, and its separator.

    Raises:
      MissingData: there is no such file.
      DataError: no header, a line of another length, quotes that are not closed; the line is named.
    """
    header, fields, lines, separator = _parsed(path, frozenset(word.lower() for word in missing))
    return {name: Column(name, fields[i :: len(header)], lines) for i, name in enumerate(header)}, separator


def _parsed(path: str | Path, absent: frozenset[str]) -> tuple[list[str], list[str | None], Sequence[int], str]:
    """(header, the fields of all rows in one list, the line of each row, separator)."""
    content = read_bytes(path)
    # csv.Sniffer guesses from letter statistics and is often wrong; the header holds every separator once a column.
    first = re.match(rb"(?:%b)?[\r\n]*([^\r\n]*)" % MARK, content)
    separator = max(SEPARATORS, key=lambda mark: first[1].count(mark.encode()) if first else 0)
    _check_size(path, content, separator.encode())
    reader = csv.reader(_without_zeros(path, decoded_lines(path, content)), delimiter=separator, strict=True)
    header: list[str] = []
    fields: list[str | None] = []
    lines = array("q")
    try:
        for row in filter(None, reader):
            row = [field.strip() for field in row]
            if not header:
                _check_header(path, row)
                header = row
            elif len(row) != len(header):
                raise DataError(f"{path}: line {reader.line_num}: {len(row)} fields; the header has {len(header)}")
            else:
                fields += [None if field.lower() in absent else field for field in row]
                lines.append(reader.line_num)
    except csv.Error as e:
        raise DataError(f"{path}: line {reader.line_num}: {e}; fields with quotes must be closed and separated") from e
    if not header:
        _check_header(path, header)
    if not lines:
        raise DataError(f"{path}: holds a header but no rows; at least one is needed")
    return header, fields, lines, separator


def _without_zeros(path: str | Path, lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DataError(f"{path}: line {number}: a zero byte; save the file as plain UTF-8 text")
        yield line


def _check_size(path: str | Path, content: bytes, separator: bytes) -> None:
    """DataError where the fields may be too many, before any is made: one of two bytes needs 70."""
    ends = content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")
    ends += not content.endswith((b"\n", b"\r"))
    count, most = content.count(separator) + ends, limit(MAX_FIELDS, FIELDS)
    if count > most:
        raise DataError(
            f"{path}: has up to {count:,} fields, by its separators and lines, and {most:,} are read; "
            f"take fewer rows or columns, or set {MAX_FIELDS}={count} if the memory is enough"
        )


def _check_header(path: str | Path, header: list[str]) -> None:
    if not any(header):
        raise DataError(f"{path}: holds no text; a header line and rows are needed")
    if len(header) > (most := limit(MAX_COLUMNS, COLUMNS)):
        raise DataError(
            f"{path}: line 1: {len(header):,} columns, and {most:,} are read; take fewer, or set "
            f"{MAX_COLUMNS}={len(header)} if the memory is enough"
        )
    if all(_number(name) is not None for name in header):
        raise DataError(f"{path}: line 1: numbers ({', '.join(header[:3])}, ...); a header with column names is needed")
    if not all(header):
        raise DataError(f"{path}: line 1: column {header.index('') + 1} has no name; every column needs one")
    seen = set[str]()
    twice = [name for name in header if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise DataError(f"{path}: line 1: column {twice[0]!r} stands there twice; names must differ")
    broken = [name for name in header if len(name.splitlines()) > 1]
    if broken:
        raise DataError(f"{path}: line 1: the name of column {broken[0]!r:.60} goes over several lines; one is needed")


def texts_of(column: Column) -> list[str]:
    """The fields, "missing" where one is."""
    return ["missing" if value is None else value for value in column.values]


def is_text(column: Column) -> bool:
    """Whether at least half of the values are no numbers."""
    present = [value for value in column.values if value is not None]
    return 2 * sum(_number(value) is None for value in present) >= max(1, len(present))


def numbers_of(path: str | Path, column: Column) -> list[float]:
    """The column as numbers that float32 can hold, NaN where missing."""
    numbers = []
    for value, line in zip(column.values, column.lines, strict=True):
        number = math.nan if value is None else _number(value)
        if number is None:
            raise DataError(f"{path}: line {line}: {value!r:.40} in column {column.name!r}; a number is needed")
        if value is not None and not abs(number) <= LARGEST:
            raise DataError(f"{path}: line {line}: {value!r:.40} in column {column.name!r} is not a finite float32")
        numbers.append(number)
    return numbers


def whole_numbers_of(path: str | Path, column: Column) -> list[int]:
    """The column as classes that are numbers; none may be missing."""
    numbers = numbers_of(path, column)
    for number, line in zip(numbers, column.lines, strict=True):
        if not number.is_integer():
            raise DataError(f"{path}: line {line}: {number} as class {column.name!r}; whole numbers or text are needed")
    return [int(number) for number in numbers]


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)  # Python reads 1_000 as a number, which no other program does
    except ValueError:
        return None
