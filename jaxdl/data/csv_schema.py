"""What the columns of a table mean, in values that JSON has: decided once, on the table to train on."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.csv_columns import (
    USUAL,
    Column,
    Reading,
    is_text,
    numbers_of,
    other_decimal,
    texts_of,
    whole_numbers_of,
)
from jaxdl.data.csv_dates import date_formats, date_names, days_of, describe_dates
from jaxdl.data.errors import DataError, some

MISSING = ("", "NA", "nan", "?")
CATEGORIES = 50  # one-hot columns that one text column may become


def make_schema(
    columns: Sequence[Mapping[str, Any]],
    target: str,
    target_kind: str,
    names: Sequence[str] = (),
    dropped: Sequence[str] = (),
    missing: Sequence[str] = MISSING,
    reading: Reading = USUAL,
) -> dict[str, Any]:
    """What a file's columns mean, in values that JSON has.

    Args:
      columns: in the order of x: {"name", "kind": "number", "median"}, {"name", "kind": "text", "categories"} or what
        `jaxdl.data.csv_dates.describe_dates` makes of dates.
      target: name of the column to predict.
      target_kind: "number" (regression), "text" or "whole number" (classes).
      names: of the classes; y indexes it.
      dropped: columns that are left out.
      missing: what stands for a missing value.
      reading: how the file is written.
    """
    return {
        "columns": [dict(entry) for entry in columns],
        "target": target,
        "target_kind": target_kind,
        "names": list(names),
        "dropped": list(dropped),
        "missing": list(missing),
        "reading": reading._asdict(),
    }


def names_of(entry: Mapping[str, Any]) -> list[str]:
    """Names of the columns of x that one column of the table becomes."""
    if entry["kind"] == "text":
        return [f"{entry['name']}={category}" for category in entry["categories"]]
    return date_names(entry) if entry["kind"] == "date" else [entry["name"]]


def column_names(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the columns of x [N, D]."""
    return tuple(name for entry in schema["columns"] for name in names_of(entry))


def target_kind(path: str | Path, column: Column, classification: bool | None) -> tuple[str, tuple[str, ...]]:
    """(what the target's values are, see `make_schema`, the names of the classes); none is missing.

    Raises:
      DataError: a single class, classes that are no whole numbers.
    """
    if not classification and (classification is False or not is_text(column)):
        return "number", ()
    if is_text(column):
        kind, names = "text", sorted(set(texts_of(column)))
    else:
        kind, names = "whole number", [str(value) for value in sorted(set(whole_numbers_of(path, column)))]
    if len(names) < 2:
        raise DataError(f"{path}: column {column.name!r} has the one class {names[0]!r:.60}; at least two are needed")
    return kind, tuple(names)


def describe(path: str | Path, columns: Sequence[Column], dropped: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The schema's entries of the input columns, and what the note says of them.

    Raises:
      DataError: a column without values, or of numbers with another decimal sign; columns of text with more values
        than become columns, all of them at once, with the --drop that leaves them out.
    """
    described, notes, wide = [], [], []
    for column in columns:
        if column.values.count(None) == len(column.values):
            raise DataError(f"{path}: column {column.name!r} has no value in any row; drop it")
        if not is_text(column):
            entry, said = _numbers(path, column)
        elif formats := date_formats(column.values):
            entry, said = _dates(column, formats)
        else:
            entry, said = _texts(path, column)
        if len(entry.get("categories", ())) > CATEGORIES:
            wide.append(column)
        else:
            described.append(entry)
            notes += said
    if wide:
        _refuse(path, wide, dropped)
    return described, notes


def _numbers(path: str | Path, column: Column) -> tuple[dict[str, Any], list[str]]:
    absent = column.values.count(None)
    numbers = np.sort(np.array(numbers_of(path, column)))[: len(column.values) - absent]  # NaN is sorted to the end
    median = float(numbers[(len(numbers) - 1) // 2] + numbers[len(numbers) // 2]) / 2
    said = [f"{column.name}: {absent:,} missing, set to the median {median:g}"] if absent else []
    return {"name": column.name, "kind": "number", "median": median}, said


def _texts(path: str | Path, column: Column) -> tuple[dict[str, Any], list[str]]:
    other, absent = other_decimal(column), column.values.count(None)
    if not is_text(column, other):
        raise DataError(
            f"{path}: {column.unit} {column.places[0]}: {column.values[0]!r:.40} in column {column.name!r}; these are "
            f"numbers with --decimal={other}"
        )
    categories = sorted(set(texts_of(column)))
    said = f"{column.name}: {len(categories)} categories, one-hot{f', {absent:,} missing as one' if absent else ''}"
    return {"name": column.name, "kind": "text", "categories": categories}, [said]


def _dates(column: Column, formats: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    absent = column.values.count(None)
    entry = describe_dates(column.name, days_of(column.values, formats[0]), formats[0])
    said = f"{column.name}: a date, as {len(names_of(entry))} columns; --drop={word([column.name])} leaves it out"
    if len(formats) > 1:
        said += f", read as {formats[0]} and not as {formats[1]}, which it could be: year-month-day is never mistaken"
    return entry, [said + (f", {absent:,} missing, set to the median" if absent else "")]


def _refuse(path: str | Path, wide: Sequence[Column], dropped: Sequence[str]) -> None:
    told = []
    for column in wide:
        count, value = len(set(column.values) - {None}), next(value for value in column.values if value is not None)
        told.append(f"{column.name!r:.60} ({count:,}, such as {value!r:.40})")
    drop = f"--drop={word([*dropped, *(column.name for column in wide)])}"
    raise DataError(
        f"{path}: text columns with more than {CATEGORIES} different values, which do not become one-hot: "
        f"{some(told)}; leave {'it' if len(wide) == 1 else 'them'} out with {drop if len(drop) < 2000 else '--drop'}"
    )


def word(names: Sequence[str]) -> str:
    """The names as a flag's value in a shell, as `columns_named` reads them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return shlex.quote(text.getvalue())


def columns_named(value: str) -> list[str]:
    """The names in a flag's value: separated by commas, quoted where they have some."""
    return next(csv.reader([value], skipinitialspace=True), [])
