"""Reads CSV files of numbers and text into arrays; the note and the schema record every decision.

`read_csv` reads a table to train on. `encode_csv` reads another file of the same columns with the schema of the first,
so that a column of the array means the same in both; `encode_columns` does so with columns from elsewhere.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.csv_columns import (
    USUAL,
    Column,
    Columns,
    Reading,
    numbers_of,
    read_columns,
    texts_of,
    whole_numbers_of,
)
from jaxdl.data.csv_dates import date_columns, date_formats, days_of
from jaxdl.data.csv_schema import MISSING, column_names, describe, make_schema, names_of, target_kind
from jaxdl.data.errors import COMPARED, DataError, nearest, shown, some
from jaxdl.data.files import limit

NUMBERS = 100_000_000  # in x, 0.4 GB: a text column becomes up to CATEGORIES columns
MAX_NUMBERS = "JAXDL_MAX_NUMBERS"  # the environment variable that raises it
NOTED = 8  # columns that the note describes individually


class Table(NamedTuple):
    """A table for supervised learning: x float32 [N, D]; y float32 [N] (regression) or int32 [N] (classes)."""

    x: np.ndarray
    y: np.ndarray
    columns: tuple[str, ...]  # of x
    target: str
    names: tuple[str, ...]  # of the classes: y indexes it; empty for regression
    note: str  # one line for the user: counts, source, decisions
    schema: dict[str, Any]  # how a file becomes x and y, JSON-serializable: see `make_schema`
    days: np.ndarray | None = None  # float64 [N]: of the first column of dates, dropped or not, NaN where missing
    dated: str = ""  # the name of that column
    groups: np.ndarray | None = None  # int [N]: equal for rows that belong together


class Encoded(NamedTuple):
    """Rows of another table, encoded with the schema of the first."""

    x: np.ndarray  # float32 [N, D]
    y: np.ndarray | None  # float32 [N] (regression) or int32 [N] (classes); None: no target column
    notes: list[str]  # unknown texts, dropped rows, ignored columns


def read_csv(
    path: str | Path,
    *,
    target: str,
    classification: bool | None = None,
    drop: Sequence[str] = (),
    missing: Sequence[str] = MISSING,
    reading: Reading = USUAL,
    group: str = "",
) -> Table:
    """Reads a table in UTF-8; fields are separated by comma, semicolon, tab or blanks, and quoted where needed.

    A numeric column stays one column; missing values are replaced with its median. A text column is one-hot encoded:
    one 0/1 column for each of its values, in alphabetical order, with "missing" for missing values. When another file
    is read, a text that the training table does not have becomes all zeros. A column is text if at least half of its
    values are not numbers, and a date column if all of them are dates: see `jaxdl.data.csv_dates.date_columns`. Rows
    without target are dropped. Medians are computed over all rows; where that matters, put the test rows into a file
    of their own and read it with `encode_csv`.

    Args:
      path: the file, plain or gzipped.
      target: name of the column to predict.
      classification: whether the target holds classes; None: if it is text. Classes are sorted.
      drop: names of columns to remove.
      missing: texts that mark a missing value, in upper or lower case.
      reading: separator, header and decimal sign.
      group: name of a column with equal values for rows that belong together; no input.

    Raises:
      MissingData: the file does not exist.
      DataError: the file is broken (names the line or column), or a column is unknown (names the closest one).
    """
    columns = read_columns(path, missing, reading)
    for name in (target, *drop, *([group] if group else [])):
        _known(columns, name)
    if target in drop or target == group:
        other = "--drop" if target in drop else "--group"
        raise DataError(f"{path}: column {target!r} is both --target and {other}; choose one")
    columns = _with_target(columns, target)
    dropped = frozenset((*drop, group))
    kind, names = target_kind(path, columns.columns[target], classification)
    inputs = [column for name, column in columns.columns.items() if name != target and name not in dropped]
    if not inputs:
        raise DataError(f"{path}: no input column is left besides the target {target!r}; at least one is needed")
    described, notes = describe(path, inputs, drop)
    schema = make_schema(described, target, kind, names, [name for name in (*drop, group) if name], missing, reading)
    x, y, _ = _encode(columns, schema)
    assert y is not None  # the target column exists and has no missing values
    if len(notes) > NOTED:
        dates = [i for i, entry in enumerate(described) if entry["kind"] == "date"]
        notes[NOTED:] = [f"and {len(notes) - NOTED:,} more columns with missing values, dates or text"]
        notes += [f"dates: {some([described[i]['name'] for i in dates])}"] if dates else []
    notes.insert(0, f"target {target}" + (f" with {len(names)} classes" if names else ""))
    notes += [f"dropped columns: {some(drop)}"] if drop else []
    notes += columns.notes
    encoded = f" encoded as {x.shape[1]:,}" if x.shape[1] != len(inputs) else ""
    note = f"{shown(path)}: {len(y):,} rows, {len(inputs):,} input columns{encoded}; {'; '.join(notes)}"
    table = Table(x, y, column_names(schema), target, names, note, schema)
    if group:
        table = table._replace(groups=np.unique(texts_of(columns.columns[group]), return_inverse=True)[1])
    for name, column in columns.columns.items():
        if name != target and (formats := date_formats(column.values)):
            return table._replace(days=days_of(column.values, formats[0]), dated=name)
    return table


def encode_csv(path: str | Path, schema: Mapping[str, Any], *, target: bool = True) -> Encoded:
    """Reads another file of the same columns, in any order, with the schema of the first.

    Args:
      path: the file, plain or gzipped.
      schema: `Table.schema`, also after a round trip through JSON.
      target: as for `encode_columns`.

    Raises:
      MissingData: the file does not exist.
      DataError: the file is broken, or as for `encode_columns`.
    """
    reading = Reading(**schema.get("reading", {}))
    columns = read_columns(path, schema["missing"], reading)
    return encode_columns(columns._replace(notes=[]), schema, target=target)


def encode_columns(columns: Columns, schema: Mapping[str, Any], *, target: bool = True) -> Encoded:
    """Encodes columns, in any order, with the schema of the first table.

    A missing number or date becomes the median of the first table. A text that the first table does not have, or a
    missing one if it had none, becomes zeros in all columns of its values. Columns that the first table did not have
    are ignored. Rows without target are dropped. The notes list all of this.

    Args:
      columns: columns of one length.
      schema: `Table.schema`, also after a round trip through JSON.
      target: False ignores the target column, whatever it contains.

    Raises:
      DataError: a column is missing or misspelled, a value is not a number or date where one is needed, or a class is
        unknown.
    """
    path, there, notes = columns
    wanted = [entry["name"] for entry in schema["columns"]]
    known = {*wanted, schema["target"], *schema["dropped"]}
    extra = [name for name in there if name not in known]
    for name in wanted:
        if name not in there:
            near = _near(name, extra)
            hint = f"rename {near!r}" if near else f"the columns are {some(there)}"
            raise DataError(f"{path}: no column {name!r:.60}, which is an input of the training table; {hint}")
    if extra:
        notes = [*notes, f"ignored columns that the training table does not have: {some(extra)}"]
    columns = Columns(path, there, notes)
    if target and schema["target"] in there:
        columns = _with_target(columns, schema["target"])
    elif schema["target"] in there:
        columns = columns._replace(columns={name: one for name, one in there.items() if name != schema["target"]})
    x, y, unknown = _encode(columns, schema)
    if unknown:
        told = f"{'; '.join(unknown[:NOTED])}{f'; and {len(unknown) - NOTED} more columns' if unknown[NOTED:] else ''}"
        columns.notes.append(f"{told}; encoded as none of the known values")
    return Encoded(x, y, columns.notes)


def _near(name: str, names: Iterable[str]) -> str:
    """Returns the name with the closest spelling, in upper or lower case; "" if none is close."""
    lower = {one.lower(): one for one in islice(names, COMPARED)}
    return lower.get(name.lower()) or lower.get(nearest(name.lower(), lower), "")


def _known(columns: Columns, name: str) -> None:
    path, there, notes = columns
    if not name:
        raise DataError(f"{path}: no target column given; set --target to one of {some(there)}")
    if name in there:
        return
    near = _near(name, there)
    hint = f"did you mean {near!r}? The columns are {some(there)}" if near else f"the columns are {some(there)}"
    read = f" ({'; '.join(notes)}; change this with --separator or --no_header)" if notes else ""
    if not notes and len(there) == 1:
        read = " (one column only; set --separator if others are not separated by commas)"
    raise DataError(f"{path}: no column {name!r:.60}; {hint}{read}")


def _with_target(columns: Columns, name: str) -> Columns:
    """Returns the rows that have a target, with a note on the others."""
    path, there, notes = columns
    rows = [value is not None for value in there[name].values]
    if all(rows):
        return columns
    if not any(rows):
        raise DataError(f"{path}: the target {name!r} is empty in every row; fill it in or choose another --target")
    count = len(rows) - sum(rows)
    said = f"dropped {count:,} {'row' if count == 1 else 'rows'} without {name}"
    return Columns(path, {one: column.taken(rows) for one, column in there.items()}, [*notes, said])


def _encode(columns: Columns, schema: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Returns x, y and notes on unknown texts for columns that exist; the target column may be absent."""
    path, there, _ = columns
    widths = [len(names_of(entry)) for entry in schema["columns"]]
    length = len(there[schema["columns"][0]["name"]].values)
    count, most = length * sum(widths), limit(MAX_NUMBERS, NUMBERS)
    if count > most:
        raise DataError(
            f"{path}: {length:,} rows of {sum(widths):,} encoded columns are {count:,} numbers, the limit is {most:,}; "
            f"drop text columns, use fewer rows, or set {MAX_NUMBERS}={count} if there is enough memory"
        )
    x = np.zeros((length, sum(widths)), np.float32)
    at, unknown = 0, []
    for entry, width in zip(schema["columns"], widths, strict=True):
        column = there[entry["name"]]
        if entry["kind"] == "text":
            codes = {text: i for i, text in enumerate(entry["categories"])}
            found = np.array([codes.get(text, -1) for text in texts_of(column)])
            rows = np.flatnonzero(found >= 0)
            x[rows, at + found[rows]] = 1
            unknown += [f"{column.name}: {_counted(column, codes)}"] if len(rows) < length else []
        elif entry["kind"] == "date":
            x[:, at : at + width] = date_columns(_days(path, column, entry["format"]), entry)
        else:
            numbers = np.array(numbers_of(path, column))
            x[:, at] = np.where(np.isnan(numbers), entry["median"], numbers)
        at += width
    return x, _encode_target(path, there.get(schema["target"]), schema), unknown


def _counted(column: Column, known: Mapping[str, int]) -> str:
    """Counts the texts that are not among the known ones."""
    counts = Counter(value for value in column.values if ("missing" if value is None else value) not in known)
    told = [f"{count} x {value!r:.40} unknown" for value, count in counts.most_common(4) if value is not None]
    rest = len(counts) - len(told) - (None in counts)
    absent = [f"{counts[None]:,} missing"] if None in counts else []
    return ", ".join([*absent, *told, *([f"{rest:,} other texts unknown"] if rest else [])])


def _days(path: str | Path, column: Column, form: str) -> np.ndarray:
    days = days_of(column.values, form)
    for value, place, number in zip(column.values, column.places, days, strict=True):
        if value is not None and np.isnan(number):
            raise DataError(f"{path}: {column.at(place)}: {value!r:.40} is not a date; expected {form}")
    return days


def _encode_target(path: str | Path, column: Column | None, schema: Mapping[str, Any]) -> np.ndarray | None:
    if column is None:
        return None
    if schema["target_kind"] == "number":
        return np.array(numbers_of(path, column), np.float32)
    texts = texts_of(column)
    if schema["target_kind"] == "whole number":
        texts = [str(value) for value in whole_numbers_of(path, column)]
    codes = {text: i for i, text in enumerate(schema["names"])}
    for text, place in zip(texts, column.places, strict=True):
        if text not in codes:
            near = nearest(text, codes)
            hint = f" (did you mean {near!r}?)" if near else ""
            listed = some([repr(name) for name in codes])
            raise DataError(
                f"{path}: {column.at(place)}: unknown class {text!r:.40}{hint}; the classes in training are {listed}"
            )
    return np.array([codes[text] for text in texts], np.int32)
