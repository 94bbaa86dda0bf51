"""CSV files of numbers and text -> arrays; every decision that was taken stands in the note."""

import csv
import difflib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdl.data.errors import DataError
from jaxdl.data.files import read_text

SEPARATORS = (",", ";", "\t")
LARGEST = float(np.finfo(np.float32).max)
CATEGORIES = 50  # one-hot columns that one text column may become


class Table(NamedTuple):
    """A supervised task in rows: x float32 [N, D]; y float32 [N] (regression) or int32 [N] (classes)."""

    x: np.ndarray
    y: np.ndarray
    columns: tuple[str, ...]  # of x
    target: str
    names: tuple[str, ...]  # of the classes: y indexes it; empty for regression
    note: str  # one line for the person who runs it: counts, where from, what was decided


class Column(NamedTuple):
    """The fields of a column, blanks stripped; None where the value is missing."""

    name: str
    values: list[str | None]
    lines: list[int]  # where each field stands in the file


def read_csv(
    path: str | Path,
    *,
    target: str,
    classification: bool | None = None,
    drop: Sequence[str] = (),
    missing: Sequence[str] = ("", "NA", "nan", "?"),
) -> Table:
    """Reads a table in UTF-8 with a header line; fields separated by comma, semicolon or tab, quoted where needed.

    A column of numbers stays one; its missing values become the median of the others. A column of text becomes one
    0/1 column for each of its values, in alphabetical order, where a missing value is the value "missing". A column is
    one of text when at least half of its values are not numbers. The medians are those of all rows: split off test
    rows in a file of its own where that matters.

    Args:
      path: the file, plain or gzipped.
      target: name of the column to predict; must not have missing values.
      classification: whether the target's values are classes; None: if they are text. Classes are sorted.
      drop: names of columns to leave out.
      missing: what stands for a missing value, in any case of letters.

    Raises:
      MissingData: there is no such file.
      DataError: a broken file; the line or column is named, for an unknown column the nearest one.
    """
    columns = _columns(path, frozenset(text.lower() for text in missing))
    for name in (target, *drop):
        _known(path, name, [column.name for column in columns])
    if target in drop:
        raise DataError(f"{path}: column {target!r} is both the target and dropped; choose one")
    y, names, decided = _target(path, next(column for column in columns if column.name == target), classification)
    features, used, notes = [], [], []
    for column in columns:
        if column.name != target and column.name not in drop:
            block, labels, said = _feature(path, column)
            features.append(block)
            used += labels
            notes += said
    if not features:
        raise DataError(f"{path}: no column besides the target {target!r}; at least one is needed to predict it from")
    x = np.concatenate(features, axis=1)
    note = f"{path}: {len(y):,} rows, {x.shape[1]} input columns from {len(features)}; " + "; ".join([decided, *notes])
    return Table(x, y, tuple(used), target, names, note + (f"; dropped: {', '.join(drop)}" if drop else ""))


def _columns(path: str | Path, missing: frozenset[str]) -> list[Column]:
    text = read_text(path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}: line {line}: a zero byte; save the file as plain UTF-8 text")
    # csv.Sniffer guesses from letter statistics and is often wrong; the header holds every separator once a column.
    first = text.lstrip("\r\n").splitlines()[:1]
    separator = max(SEPARATORS, key=(first[0] if first else "").count)
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
    fields = (
        [None if field.lower() in missing else field for field in column] for column in zip(*rows[1:], strict=True)
    )
    return [Column(name, values, lines[1:]) for name, values in zip(header, fields, strict=True)]


def _check_header(path: str | Path, header: list[str]) -> None:
    if not any(header):
        raise DataError(f"{path}: holds no text; a header line and rows are needed")
    if all(_number(name) is not None for name in header):
        raise DataError(f"{path}: line 1: numbers ({', '.join(header[:3])}, ...); a header with column names is needed")
    if not all(header):
        raise DataError(f"{path}: line 1: column {header.index('') + 1} has no name; every column needs one")
    twice = [name for i, name in enumerate(header) if name in header[:i]]
    if twice:
        raise DataError(f"{path}: line 1: column {twice[0]!r} stands there twice; names must differ")


def _known(path: str | Path, name: str, columns: list[str]) -> None:
    if name not in columns:
        near = difflib.get_close_matches(name, columns, 1, cutoff=0)[0]
        raise DataError(f"{path}: no column {name!r}; the nearest is {near!r} (of {', '.join(columns)})")


def _target(path: str | Path, column: Column, classification: bool | None) -> tuple[np.ndarray, tuple[str, ...], str]:
    for value, line in zip(column.values, column.lines, strict=True):
        if value is None:
            raise DataError(
                f"{path}: line {line}: the target {column.name!r} is missing; fill it in or delete the line"
            )
    texts = [value for value in column.values if value is not None]
    if not classification and (classification is False or not _is_text(column)):
        return np.array(_numbers(path, column), np.float32), (), f"target {column.name}"
    if _is_text(column):
        names = tuple(sorted(set(texts)))
        codes = {name: i for i, name in enumerate(names)}
        y = np.array([codes[text] for text in texts], np.int32)
    else:
        numbers = _numbers(path, column)
        for number, line in zip(numbers, column.lines, strict=True):
            if number != int(number):
                raise DataError(
                    f"{path}: line {line}: {number} as class {column.name!r}; whole numbers or text are needed"
                )
        values, inverse = np.unique(np.array(numbers), return_inverse=True)
        names, y = tuple(str(int(value)) for value in values), inverse.astype(np.int32)
    if len(names) < 2:
        raise DataError(f"{path}: column {column.name!r} has the one class {names[0]!r}; at least two are needed")
    return y, names, f"target {column.name}: {len(names)} classes"


def _feature(path: str | Path, column: Column) -> tuple[np.ndarray, list[str], list[str]]:
    absent = column.values.count(None)
    if absent == len(column.values):
        raise DataError(f"{path}: column {column.name!r} has no value in any row; drop it")
    if not _is_text(column):
        numbers = np.array(_numbers(path, column))
        median = np.nanmedian(numbers)
        said = [f"{column.name}: {absent:,} missing, set to the median {median:g}"] if absent else []
        return np.where(np.isnan(numbers), median, numbers)[:, None].astype(np.float32), [column.name], said
    texts = ["missing" if value is None else value for value in column.values]
    categories = sorted(set(texts))
    if len(categories) > CATEGORIES:
        raise DataError(
            f"{path}: text column {column.name!r} has {len(categories):,} different values (line {column.lines[0]}: "
            f"{texts[0]!r:.40}); at most {CATEGORIES} become one-hot: drop the column"
        )
    codes = {category: i for i, category in enumerate(categories)}
    one_hot = np.eye(len(categories), dtype=np.float32)[[codes[text] for text in texts]]
    said = [f"{column.name}: {len(categories)} categories, one-hot{f', {absent:,} missing as one' if absent else ''}"]
    return one_hot, [f"{column.name}={category}" for category in categories], said


def _is_text(column: Column) -> bool:
    present = [value for value in column.values if value is not None]
    return 2 * sum(_number(value) is None for value in present) >= max(1, len(present))


def _numbers(path: str | Path, column: Column) -> list[float]:
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


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)  # Python reads 1_000 as a number, which no other program does
    except ValueError:
        return None
