"""CSV files of numbers and text -> arrays; every decision that was taken stands in the note and in the schema.

`read_csv` reads a table to train on; `encode_csv` reads another file of the same columns by the schema of the first, so
that a column of the array means the same in both, and `encode_columns` does so with columns from elsewhere.
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

NUMBERS = 100_000_000  # of x, 0.4 GB: one text column becomes up to CATEGORIES columns of it
MAX_NUMBERS = "JAXDL_MAX_NUMBERS"  # the variable that raises it
NOTED = 8  # columns that the note describes one by one


class Table(NamedTuple):
    """A supervised task in rows: x float32 [N, D]; y float32 [N] (regression) or int32 [N] (classes)."""

    x: np.ndarray
    y: np.ndarray
    columns: tuple[str, ...]  # of x
    target: str
    names: tuple[str, ...]  # of the classes: y indexes it; empty for regression
    note: str  # one line for the person who runs it: counts, where from, what was decided
    schema: dict[str, Any]  # how a file becomes x and y, in values that JSON has: see `make_schema`
    days: np.ndarray | None = None  # float64 [N]: of the first column of dates, dropped or not, NaN where missing
    dated: str = ""  # the name of that column
    groups: np.ndarray | None = None  # int [N]: which rows belong together


class Encoded(NamedTuple):
    """Rows of another table, as the first one's were read."""

    x: np.ndarray  # float32 [N, D]
    y: np.ndarray | None  # float32 [N] (regression) or int32 [N] (classes); None: there is no target column
    notes: list[str]  # what was read otherwise than it stands there, and what was passed over


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
    """Reads a table in UTF-8; fields separated by comma, semicolon, tab or blanks, quoted where needed.

    A column of numbers stays one; its missing values become the median of the others. A column of text becomes one
    0/1 column for each of its values, in alphabetical order, where a missing value is the value "missing"; a text that
    training did not have is all zeros there when another file is read, a point between those that the net has seen. A
    column is one of text when at least half of its values are not numbers, and one of dates when all of them are: see
    `jaxdl.data.csv_dates.date_columns`. Rows without target are left out. The medians are those of all rows: split off
    test rows in a file of its own where that matters, and read it with `encode_csv`.

    Args:
      path: the file, plain or gzipped.
      target: name of the column to predict.
      classification: whether the target's values are classes; None: if they are text. Classes are sorted.
      drop: names of columns to leave out.
      missing: what stands for a missing value, in any case of letters.
      reading: separator, header and decimal sign.
      group: name of a column whose equal values mark rows that belong together; left out of x.

    Raises:
      MissingData: there is no such file.
      DataError: a broken file; the line or column is named, for an unknown column the nearest one.
    """
    columns = read_columns(path, missing, reading)
    for name in (target, *drop, *([group] if group else [])):
        _known(columns, name)
    if target in drop or target == group:
        other = "dropped" if target in drop else "the group"
        raise DataError(f"{path}: column {target!r} is both the target and {other}; choose one")
    columns = _with_target(columns, target)
    dropped = frozenset((*drop, group))
    kind, names = target_kind(path, columns.columns[target], classification)
    inputs = [column for name, column in columns.columns.items() if name != target and name not in dropped]
    if not inputs:
        raise DataError(f"{path}: no column besides the target {target!r}; at least one is needed to predict it from")
    described, notes = describe(path, inputs, drop)
    schema = make_schema(described, target, kind, names, [name for name in (*drop, group) if name], missing, reading)
    x, y, _ = _encode(columns, schema)
    assert y is not None  # the target has a column and all its values
    if len(notes) > NOTED:
        dates = [i for i, entry in enumerate(described) if entry["kind"] == "date"]
        notes[NOTED:] = [f"and {len(notes) - NOTED:,} more columns with missing values, dates or text"]
        notes += [f"dates: {some([described[i]['name'] for i in dates])}"] if dates else []
    notes.insert(0, f"target {target}" + (f": {len(names)} classes" if names else ""))
    notes += [f"dropped: {some(drop)}"] if drop else []
    notes += columns.notes
    note = f"{shown(path)}: {len(y):,} rows, {x.shape[1]} input columns from {len(inputs)}; {'; '.join(notes)}"
    table = Table(x, y, column_names(schema), target, names, note, schema)
    if group:
        table = table._replace(groups=np.unique(texts_of(columns.columns[group]), return_inverse=True)[1])
    for name, column in columns.columns.items():
        if name != target and (formats := date_formats(column.values)):
            return table._replace(days=days_of(column.values, formats[0]), dated=name)
    return table


def encode_csv(path: str | Path, schema: Mapping[str, Any], *, target: bool = True) -> Encoded:
    """Reads another file of the same columns, in any order, exactly as the one that the schema describes was read.

    Args:
      path: the file, plain or gzipped.
      schema: `Table.schema`, as it was or back from JSON.
      target: as for `encode_columns`.

    Raises:
      MissingData: there is no such file.
      DataError: a broken file, or as `encode_columns`.
    """
    reading = Reading(**schema.get("reading", {}))
    columns = read_columns(path, schema["missing"], reading)
    return encode_columns(columns._replace(notes=[]), schema, target=target)


def encode_columns(columns: Columns, schema: Mapping[str, Any], *, target: bool = True) -> Encoded:
    """Columns, in any order, as those were read that the schema describes.

    A missing number or date becomes the median of the first table; a text that the first table lacks, also one that is
    missing where none was, becomes a row of zeros in the columns of its values: none of the known ones. Columns that
    the first table did not have are passed over. Rows without target are left out. The notes tell it all.

    Args:
      columns: of one length.
      schema: `Table.schema`, as it was or back from JSON.
      target: False leaves the target column alone, whatever stands in it.

    Raises:
      DataError: a missing or misspelled column, no number or date where one is needed, an unknown class.
    """
    path, there, notes = columns
    wanted = [entry["name"] for entry in schema["columns"]]
    known = {*wanted, schema["target"], *schema["dropped"]}
    extra = [name for name in there if name not in known]
    for name in wanted:
        if name not in there:
            near = _near(name, extra)
            hint = f"rename {near!r}" if near else f"it has {some(there)}"
            raise DataError(f"{path}: no column {name!r}, which the training table has; {hint}")
    if extra:
        notes = [*notes, f"passed over, as training had no such column: {some(extra)}"]
    columns = Columns(path, there, notes)
    if target and schema["target"] in there:
        columns = _with_target(columns, schema["target"])
    elif schema["target"] in there:
        columns = columns._replace(columns={name: one for name, one in there.items() if name != schema["target"]})
    x, y, unknown = _encode(columns, schema)
    if unknown:
        told = f"{'; '.join(unknown[:NOTED])}{f'; and {len(unknown) - NOTED} more columns' if unknown[NOTED:] else ''}"
        columns.notes.append(f"{told}: read as none of the known values")
    return Encoded(x, y, columns.notes)


def _near(name: str, names: Iterable[str]) -> str:
    """The name that is spelled most like this one, in upper or lower case; "" if none is."""
    lower = {one.lower(): one for one in islice(names, COMPARED)}
    return lower.get(name.lower()) or lower.get(nearest(name.lower(), lower), "")


def _known(columns: Columns, name: str) -> None:
    path, there, notes = columns
    if not name:
        raise DataError(f"{path}: no target column is given; name one of {some(there)}")
    if name in there:
        return
    near = _near(name, there)
    hint = f"did you mean {near!r}? It has {some(there)}" if near else f"it has {some(there)}"
    read = f" ({'; '.join(notes)}; --separator and --no_header say otherwise)" if notes else ""
    raise DataError(f"{path}: no column {name!r:.60}; {hint}{read}")


def _with_target(columns: Columns, name: str) -> Columns:
    """The rows that have a target, and a note on the others."""
    path, there, notes = columns
    rows = [value is not None for value in there[name].values]
    if all(rows):
        return columns
    if not any(rows):
        raise DataError(f"{path}: the target {name!r} has no value in any row; fill it in or take another --target")
    count = len(rows) - sum(rows)
    said = f"{count:,} {'row' if count == 1 else 'rows'} without {name} left out"
    return Columns(path, {one: column.taken(rows) for one, column in there.items()}, [*notes, said])


def _encode(columns: Columns, schema: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """x and y of columns that are known to be there, and what is told of unknown texts; the target may be absent."""
    path, there, _ = columns
    widths = [len(names_of(entry)) for entry in schema["columns"]]
    length = len(there[schema["columns"][0]["name"]].values)
    count, most = length * sum(widths), limit(MAX_NUMBERS, NUMBERS)
    if count > most:
        raise DataError(
            f"{path}: {length:,} rows of {sum(widths):,} input columns are {count:,} numbers, and {most:,} are made; "
            f"drop columns of text, take fewer rows, or set {MAX_NUMBERS}={count} if the memory is enough"
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
    """The texts that are none of the known ones, and how often each is there."""
    counts = Counter(value for value in column.values if ("missing" if value is None else value) not in known)
    told = [f"{count} x {value!r:.40} unknown" for value, count in counts.most_common(4) if value is not None]
    rest = len(counts) - len(told) - (None in counts)
    absent = [f"{counts[None]:,} missing"] if None in counts else []
    return ", ".join([*absent, *told, *([f"{rest:,} other texts unknown"] if rest else [])])


def _days(path: str | Path, column: Column, form: str) -> np.ndarray:
    days = days_of(column.values, form)
    for value, place, number in zip(column.values, column.places, days, strict=True):
        if value is not None and np.isnan(number):
            raise DataError(
                f"{path}: {column.unit} {place}: {value!r:.40} in column {column.name!r}; a date is needed, as {form}"
            )
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
                f"{path}: {column.unit} {place}: column {column.name!r} has the unknown class {text!r:.40}{hint}; "
                f"training had {listed}"
            )
    return np.array([codes[text] for text in texts], np.int32)
