"""CSV files of numbers and text -> arrays; every decision that was taken stands in the note and in the schema.

`read_csv` reads a table to train on; `encode_csv` reads another file of the same columns by the schema of the first, so
that a column of the array means the same in both.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.csv_columns import Column, is_text, numbers_of, read_columns, texts_of, whole_numbers_of
from jaxdl.data.errors import DataError, nearest, shown, some
from jaxdl.data.files import limit

MISSING = ("", "NA", "nan", "?")
CATEGORIES = 50  # one-hot columns that one text column may become
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


def read_csv(
    path: str | Path,
    *,
    target: str,
    classification: bool | None = None,
    drop: Sequence[str] = (),
    missing: Sequence[str] = MISSING,
) -> Table:
    """Reads a table in UTF-8 with a header line; fields separated by comma, semicolon or tab, quoted where needed.

    A column of numbers stays one; its missing values become the median of the others. A column of text becomes one
    0/1 column for each of its values, in alphabetical order, where a missing value is the value "missing". A column is
    one of text when at least half of its values are not numbers. The medians are those of all rows: split off test
    rows in a file of its own where that matters, and read it with `encode_csv`.

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
    columns, separator = read_columns(path, missing)
    for name in (target, *drop):
        _known(path, name, columns)
    dropped = frozenset(drop)
    if target in dropped:
        raise DataError(f"{path}: column {target!r} is both the target and dropped; choose one")
    kind, names = _target_kind(path, columns[target], classification)
    inputs = [column for name, column in columns.items() if name != target and name not in dropped]
    if not inputs:
        raise DataError(f"{path}: no column besides the target {target!r}; at least one is needed to predict it from")
    described, notes = [], [f"target {target}" + (f": {len(names)} classes" if names else "")]
    for column in inputs:
        entry, said = _describe(path, column)
        described.append(entry)
        notes += said
    schema = make_schema(described, target, kind, names, drop, missing)
    x, y = _encode(path, columns, schema)
    assert y is not None  # the target has a column and all its values
    if len(notes) > 1 + NOTED:
        notes[1 + NOTED :] = [f"and {len(notes) - 1 - NOTED:,} more columns with missing values or text"]
    notes += [f"dropped: {some(drop)}"] if drop else []
    notes += [f"separator {repr(separator) if separator == ';' else 'tab'}"] if separator != "," else []
    note = f"{shown(path)}: {len(y):,} rows, {x.shape[1]} input columns from {len(inputs)}; {'; '.join(notes)}"
    return Table(x, y, column_names(schema), target, names, note, schema)


def encode_csv(
    path: str | Path, schema: Mapping[str, Any], *, target: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads another file of the same columns, in any order, exactly as the one that the schema describes was read.

    A missing number becomes the median of the first file. A category that the first file lacks is an error, as is a
    missing text where the first file lacked none: a row of zeros would be an input that the model has never seen.
    Columns that were dropped may be there or not.

    Args:
      path: the file, plain or gzipped, with a header line.
      schema: `Table.schema`, as it was or back from JSON.
      target: False leaves the target column alone, whatever stands in it.

    Returns:
      x float32 [N, D]; y float32 [N] (regression) or int32 [N] (classes), None where the file has no target column.

    Raises:
      MissingData: there is no such file.
      DataError: a broken file, a missing, unknown or misspelled column, an unknown category or class.
    """
    columns, _ = read_columns(path, schema["missing"])
    wanted = [entry["name"] for entry in schema["columns"]]
    known = {*wanted, schema["target"], *schema["dropped"]}
    extra = [name for name in columns if name not in known]
    for name in wanted:
        if name not in columns:
            near = nearest(name, extra)
            hint = f"rename {near!r}" if near else f"it has {some(columns)}"
            raise DataError(f"{path}: no column {name!r}, which the training table has; {hint}")
    if extra:
        near = nearest(extra[0], wanted)
        hint = f" (the nearest is {near!r})" if near else ""
        raise DataError(f"{path}: column {extra[0]!r} is none of the training table's{hint}; delete it")
    if not target:
        columns = {name: column for name, column in columns.items() if name != schema["target"]}
    return _encode(path, columns, schema)


def make_schema(
    columns: Sequence[Mapping[str, Any]],
    target: str,
    target_kind: str,
    names: Sequence[str] = (),
    dropped: Sequence[str] = (),
    missing: Sequence[str] = MISSING,
) -> dict[str, Any]:
    """What a file's columns mean, in values that JSON has.

    Args:
      columns: in the order of x: {"name", "kind": "number", "median"} or {"name", "kind": "text", "categories"}.
      target: name of the column to predict.
      target_kind: "number" (regression), "text" or "whole number" (classes).
      names: of the classes; y indexes it.
      dropped: columns that are left out.
      missing: what stands for a missing value.
    """
    return {
        "columns": [dict(entry) for entry in columns],
        "target": target,
        "target_kind": target_kind,
        "names": list(names),
        "dropped": list(dropped),
        "missing": list(missing),
    }


def column_names(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the columns of x [N, D]."""
    names: list[str] = []
    for entry in schema["columns"]:
        names += [f"{entry['name']}={c}" for c in entry["categories"]] if entry["kind"] == "text" else [entry["name"]]
    return tuple(names)


def _known(path: str | Path, name: str, columns: Mapping[str, Column]) -> None:
    if not name:
        raise DataError(f"{path}: no target column is given; name one of {some(columns)}")
    if name not in columns:
        near = nearest(name, columns, cutoff=0)
        hint = f"the nearest is {near!r} (of {some(columns)})" if near else f"it has {some(columns)}"
        raise DataError(f"{path}: no column {name!r:.60}; {hint}")


def _target_kind(path: str | Path, column: Column, classification: bool | None) -> tuple[str, tuple[str, ...]]:
    texts = _present(path, column)
    if not classification and (classification is False or not is_text(column)):
        return "number", ()
    if is_text(column):
        kind, names = "text", sorted(set(texts))
    else:
        kind, names = "whole number", [str(value) for value in sorted(set(whole_numbers_of(path, column)))]
    if len(names) < 2:
        raise DataError(f"{path}: column {column.name!r} has the one class {names[0]!r:.60}; at least two are needed")
    return kind, tuple(names)


def _describe(path: str | Path, column: Column) -> tuple[dict[str, Any], list[str]]:
    """The schema's entry for an input column, and what the note says of it."""
    absent = column.values.count(None)
    if absent == len(column.values):
        raise DataError(f"{path}: column {column.name!r} has no value in any row; drop it")
    if not is_text(column):
        numbers = np.sort(np.array(numbers_of(path, column)))[: len(column.values) - absent]  # NaN is sorted to the end
        median = float(numbers[(len(numbers) - 1) // 2] + numbers[len(numbers) // 2]) / 2
        said = [f"{column.name}: {absent:,} missing, set to the median {median:g}"] if absent else []
        return {"name": column.name, "kind": "number", "median": median}, said
    categories = sorted(set(texts_of(column)))
    if len(categories) > CATEGORIES:
        raise DataError(
            f"{path}: text column {column.name!r} has {len(categories):,} different values (line {column.lines[0]}: "
            f"{texts_of(column)[0]!r:.40}); at most {CATEGORIES} become one-hot: drop the column"
        )
    said = [f"{column.name}: {len(categories)} categories, one-hot{f', {absent:,} missing as one' if absent else ''}"]
    return {"name": column.name, "kind": "text", "categories": categories}, said


def _encode(
    path: str | Path, columns: Mapping[str, Column], schema: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray | None]:
    """x and y of columns that are known to be there; the target may be absent."""
    widths = [len(entry["categories"]) if entry["kind"] == "text" else 1 for entry in schema["columns"]]
    length = len(columns[schema["columns"][0]["name"]].values)
    count, most = length * sum(widths), limit(MAX_NUMBERS, NUMBERS)
    if count > most:
        raise DataError(
            f"{path}: {length:,} rows of {sum(widths):,} input columns are {count:,} numbers, and {most:,} are made; "
            f"drop columns of text, take fewer rows, or set {MAX_NUMBERS}={count} if the memory is enough"
        )
    x = np.zeros((length, sum(widths)), np.float32)
    at = 0
    for entry, width in zip(schema["columns"], widths, strict=True):
        column = columns[entry["name"]]
        if entry["kind"] == "text":
            codes = _codes(path, column, texts_of(column), entry["categories"], "category")
            x[np.arange(length), at + np.array(codes)] = 1
        else:
            numbers = np.array(numbers_of(path, column))
            x[:, at] = np.where(np.isnan(numbers), entry["median"], numbers)
        at += width
    return x, _encode_target(path, columns.get(schema["target"]), schema)


def _encode_target(path: str | Path, column: Column | None, schema: Mapping[str, Any]) -> np.ndarray | None:
    if column is None:
        return None
    texts = _present(path, column)
    if schema["target_kind"] == "number":
        return np.array(numbers_of(path, column), np.float32)
    if schema["target_kind"] == "whole number":
        texts = [str(value) for value in whole_numbers_of(path, column)]
    return np.array(_codes(path, column, texts, schema["names"], "class"), np.int32)


def _codes(path: str | Path, column: Column, texts: Sequence[str], known: Sequence[str], what: str) -> list[int]:
    codes = {text: i for i, text in enumerate(known)}
    for text, value, line in zip(texts, column.values, column.lines, strict=True):
        if text not in codes:
            found = "is missing" if value is None else f"has the unknown {what} {text!r:.40}"
            near = nearest(text, known)
            hint = f" (did you mean {near!r}?)" if near else ""
            listed = some([repr(name) for name in known])
            raise DataError(f"{path}: line {line}: column {column.name!r} {found}{hint}; training had {listed}")
    return [codes[text] for text in texts]


def _present(path: str | Path, column: Column) -> list[str]:
    for value, line in zip(column.values, column.lines, strict=True):
        if value is None:
            raise DataError(
                f"{path}: line {line}: the target {column.name!r} is missing; fill it in or delete the line"
            )
    return [value for value in column.values if value is not None]
