"""The fields of a CSV file by column: separator and header found, every line checked, texts told from numbers."""

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdl.data.errors import DataError
from jaxdl.data.files import limit, read_text

SEPARATORS = (",", ";", "\t")
FIELDS = 20_000_000  # of a table: some 4 GB while it is read
MAX_FIELDS = "JAXDL_MAX_FIELDS"  # the variable that raises it
LARGEST = float(np.finfo(np.float32).max)


class Column(NamedTuple):
    """The fields of a column, blanks stripped; None where the value is missing."""

    name: str
    values: list[str | None]
    lines: list[int]  # where each field stands in the file


def read_columns(path: str | Path, missing: Sequence[str]) -> tuple[dict[str, Column], str]:
    """The columns of a file by name, and its separator.

    Raises:
      MissingData: there is no such file.
      DataError: no header, a line of another length, quotes that are not closed; the line is named.
    """
    text = read_text(path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}: line {line}: a zero byte; save the file as plain UTF-8 text")
    # csv.Sniffer guesses from letter statistics and is often wrong; the header holds every separator once a column.
    first = re.match(r"[\r\n]*([^\r\n]*)", text)
    separator = max(SEPARATORS, key=(first[1] if first else "").count)
    count, most = text.count(separator) + text.count("\n"), limit(MAX_FIELDS, FIELDS)
    if count > most:
        raise DataError(f"{path}: has about {count:,} fields, at most {most:,} are read; set {MAX_FIELDS} to read more")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if row:
                rows.append([field.strip() for field in row])
                lines.append(reader.line_num)
    except csv.Error as e:
        raise DataError(f"{path}: line {reader.line_num}: {e}; fields with quotes must be closed and separated") from e
    header = rows[0] if rows else []
    _check_header(path, header)
    if len(rows) == 1:
        raise DataError(f"{path}: holds a header but no rows; at least one is needed")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise DataError(f"{path}: line {line}: {len(row)} fields; the header has {len(header)}")
    absent = frozenset(word.lower() for word in missing)
    fields = (
        [None if field.lower() in absent else field for field in column] for column in zip(*rows[1:], strict=True)
    )
    return {name: Column(name, values, lines[1:]) for name, values in zip(header, fields, strict=True)}, separator


def _check_header(path: str | Path, header: list[str]) -> None:
    if not any(header):
        raise DataError(f"{path}: holds no text; a header line and rows are needed")
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
