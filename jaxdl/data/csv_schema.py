"""The meaning of a table's columns, JSON-serializable: decided once, on the training table."""

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
from jaxdl.data.csv_dates import date_formats, date_names, days_of, describe_dates, first_misfit
from jaxdl.data.errors import DataError

MISSING = ("", "NA", "nan", "?")
CATEGORIES = 50  # the most one-hot columns of one text column


def make_schema(
    columns: Sequence[Mapping[str, Any]],
    target: str,
    target_kind: str,
    names: Sequence[str] = (),
    dropped: Sequence[str] = (),
    missing: Sequence[str] = MISSING,
    reading: Reading = USUAL,
) -> dict[str, Any]:
    """Returns the meaning of a file's columns in JSON types.

    Args:
      columns: in the order of x: {"name", "kind": "number", "median"}, {"name", "kind": "text", "categories"} or the
        entry from `jaxdl.data.csv_dates.describe_dates`.
      target: name of the column to predict.
      target_kind: "number" (regression), "text" or "whole number" (classes).
      names: names of the classes; y indexes them.
      dropped: columns that are not used.
      missing: texts that mark a missing value.
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
    """Returns the names of the columns of x that encode one column of the table."""
    if entry["kind"] == "text":
        return [f"{entry['name']}={category}" for category in entry["categories"]]
    return date_names(entry) if entry["kind"] == "date" else [entry["name"]]


def column_names(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the columns of x [N, D]."""
    return tuple(name for entry in schema["columns"] for name in names_of(entry))


def target_kind(path: str | Path, column: Column, classification: bool | None) -> tuple[str, tuple[str, ...]]:
    """Returns the kind of a target without missing values (see `make_schema`) and the names of its classes.

    Raises:
      DataError: there is only one class, or a numeric class is not a whole number.
    """
    if not classification and (classification is False or not is_text(column)):
        return "number", ()
    if is_text(column):
        kind, names = "text", sorted(set(texts_of(column)))
    else:
        kind, names = "whole number", [str(value) for value in sorted(set(whole_numbers_of(path, column)))]
    if len(names) < 2:
        raise DataError(f"{path}: column {column.name!r} has only the class {names[0]!r:.60}; at least two are needed")
    return kind, tuple(names)


def describe(path: str | Path, columns: Sequence[Column], dropped: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Returns the schema entries of the input columns, and notes on them.

    Raises:
      DataError: a column is empty, or has numbers with the other decimal sign; text columns have too many different
        values (names all of them, and the --drop that removes them).
    """
    described, notes, wide = [], [], []
    for column in columns:
        if column.values.count(None) == len(column.values):
            raise DataError(
                f"{path}: column {column.name!r:.60} is empty in every row; remove it with "
                f"{drop_flag([*dropped, column.name])}"
            )
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
    said = [f"{column.name}: {absent:,} missing, replaced with the median {median:g}"] if absent else []
    return {"name": column.name, "kind": "number", "median": median}, said


def _texts(path: str | Path, column: Column) -> tuple[dict[str, Any], list[str]]:
    other, absent = other_decimal(column), column.values.count(None)
    if not is_text(column, other):
        place, value = next(one for one in zip(column.places, column.values, strict=True) if one[1] is not None)
        raise DataError(
            f"{path}: {column.at(place)}: {value!r:.40} is not a number; set --decimal={other} to read it as one"
        )
    categories = sorted(set(texts_of(column)))
    said = f"{column.name}: {len(categories)} categories, one-hot encoded"
    said += f", {absent:,} missing (category 'missing')" if absent else ""
    return {"name": column.name, "kind": "text", "categories": categories}, [said]


def _dates(column: Column, formats: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    absent = column.values.count(None)
    entry = describe_dates(column.name, days_of(column.values, formats[0]), formats[0])
    said = f"{column.name}: dates ({formats[0]}), encoded as {len(names_of(entry))} columns"
    said += f", {absent:,} missing, replaced with the median" if absent else ""
    unclear = f"could also be {formats[1]}, write year-month-day to be unambiguous; " if len(formats) > 1 else ""
    return entry, [f"{said} ({unclear}{drop_flag([column.name])} removes them)"]


def _refuse(path: str | Path, wide: Sequence[Column], dropped: Sequence[str]) -> None:
    told, dates = [], False
    for column in wide:
        if misfit := first_misfit(column.values):
            (form, at), dates = misfit, True
            place, value = f"{column.unit} {column.places[at]}", column.values[at]
            told.append(f"{column.name!r:.40} (dates as {form}, but {place} has {value!r:.40})")
        else:
            count, value = len(set(column.values) - {None}), next(one for one in column.values if one is not None)
            told.append(f"{column.name!r:.40} ({count:,} values, such as {value!r:.40})")
    drop = drop_flag([*dropped, *(column.name for column in wide)])
    remove = f"remove {'it' if len(wide) == 1 else 'them'} with {drop if len(drop) < 2000 else '--drop'}"
    more = f" and {len(told) - 20:,} more" if len(told) > 20 else ""
    raise DataError(
        f"{path}: text columns with more than {CATEGORIES} different values cannot be one-hot encoded: "
        f"{', '.join(told[:20])}{more}; {'correct the dates, or ' if dates else ''}{remove}"
    )


def drop_flag(names: Sequence[str]) -> str:
    """Returns --drop=NAMES for a shell, as `columns_named` reads it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return f"--drop={shlex.quote(text.getvalue())}"


def columns_named(value: str) -> list[str]:
    """Returns the names in a flag's value: separated by commas, quoted where a name contains one."""
    return next(csv.reader([value], skipinitialspace=True), [])
