"""Rows of a table, split and scaled, as a network is given them."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.errors import DataError, some
from jaxdl.data.splits import hold_out, split
from jaxdl.data.tables import Table, column_scales

SPLITS = ("random", "time", "group")
TRANSFORMS = {"log": (np.log, np.exp), "log1p": (np.log1p, np.expm1)}  # of a target: there and back


class Rows(NamedTuple):
    """A table's rows in three parts, no row in two, and what the columns are measured in."""

    train: dict[str, np.ndarray]  # x float32 [N, D] and y float32 [N, 1] or [N, K], as the net is given them
    valid: dict[str, np.ndarray] | None  # for whatever chooses; None: none is held out
    test: dict[str, np.ndarray]
    scales: dict[str, list[float]]  # of the training rows: mean and deviation of x and of a number to predict
    note: str  # how the parts were made, where that is more than a draw of rows


def encode_rows(
    x: np.ndarray, y: np.ndarray, names: Any, scales: Mapping[str, list[float]], transform: str = ""
) -> dict[str, np.ndarray]:
    """Columns and number, transformed by a key of TRANSFORMS, with the given scales; classes as one-hot rows."""
    scaled = lambda values, name: (values - np.array(scales[f"{name}_mean"])) / np.array(scales[f"{name}_deviation"])
    target = np.eye(len(names))[y] if names else scaled(transformed(y, transform)[:, None], "y")
    return {"x": scaled(x, "x").astype(np.float32), "y": target.astype(np.float32)}


def transformed(y: np.ndarray, transform: str) -> np.ndarray:
    """A number to predict as the net is to tell it; without a transform it is what it was."""
    return TRANSFORMS[transform][0](y.astype(np.float64)) if transform else y


def scaled_parts(
    table: Table, fraction: float, seed: int, source: str, valid: float, how: str = "random", transform: str = ""
) -> Rows:
    """Holds rows out and scales all by those that are left to train on.

    Args:
      table: the rows.
      fraction: of them that is held out for testing; of the groups, where these are split.
      seed: of the split.
      source: where the table is from, for messages.
      valid: of the other rows that is held out for validation, 0: none; the test part is the same whatever it is.
      how: one of SPLITS. random: every class in its share. time: the last rows by the table's dates are the test part,
        the last of the rest the validation part; rows of one date, or of a table without dates, as they stand there.
        group: rows of one group are in one part.
      transform: of a number to predict, a key of TRANSFORMS, before it is scaled; "": none.

    Raises:
      ValueError: a part has too few rows or groups.
      DataError: a class of one row, a number that never changes, a row without date in a split by time.
    """
    counts = np.bincount(table.y) if table.names else np.array([2])
    if counts.min() < 2:
        raise DataError(
            f"{source}: a single row has the class {table.names[counts.argmin()]!r} of {table.target!r}; at least two "
            "are needed, to train and to test: delete it or rename its class"
        )
    held_out, needed = math.ceil(fraction * len(table.y)), max(2, len(table.names))
    if min(held_out, len(table.y) - held_out) < needed:
        raise ValueError(
            f"--test_fraction={fraction:g}: {len(table.y) - held_out} training and {held_out} test rows of "
            f"{source}; both parts need at least {needed}"
        )
    whole = {"x": table.x, "y": transformed(table.y, transform)}
    note = ""
    if how == "time":
        train, validation, test, note = _by_time(whole, table, fraction, valid, source)
    elif how == "group":
        train, validation, test, note = _by_group(whole, table, fraction, valid, seed)
    else:
        stratify = "y" if table.names else None
        rest, test = split(whole, fraction, seed, stratify=stratify)
        train, validation = hold_out(rest, valid, seed, source, stratify=stratify)
    columns = {"x": train["x"]} if table.names else {"x": train["x"], "y": train["y"][:, None]}
    scales: dict[str, list[float]] = {}
    for name, values in columns.items():
        if name == "y" and np.ptp(values) == 0:
            same = table.y[0] if np.ptp(table.y) == 0 else values[0, 0]
            raise DataError(f"{source}: {table.target!r} is {same:g} in every training row: nothing to learn")
        mean, deviation = column_scales(values)
        scales |= {f"{name}_mean": mean.tolist(), f"{name}_deviation": deviation.tolist()}
    if validation and not table.names and min(len(train["y"]), len(validation["y"])) < 2:  # one has no R^2
        raise ValueError(
            f"--valid_fraction={valid:g}: {len(train['y'])} training and {len(validation['y'])} validation rows of "
            f"{source}; both parts need at least 2; 0 trains without a validation part"
        )
    if len(test["y"]) < needed:
        raise ValueError(f"--test_fraction={fraction:g}: {len(test['y'])} test rows of {source}; {needed} are needed")
    absent = [name for i, name in enumerate(table.names) if not (train["y"] == i).any()]
    note += f"; no training row has the class {some(absent)}" if absent else ""
    encoded = lambda part: encode_rows(part["x"], part["y"], table.names, scales)
    return Rows(encoded(train), validation and encoded(validation), encoded(test), scales, note)


def _by_time(
    whole: Mapping[str, np.ndarray], table: Table, fraction: float, valid: float, source: str
) -> tuple[Any, Any, Any, str]:
    """(train, valid, test, note): the last rows test, the last of the others validate."""
    order, note = np.arange(len(table.y)), "in the order of the file"
    if table.days is not None:
        if np.isnan(table.days).any():
            row = int(np.isnan(table.days).argmax()) + 1
            raise DataError(
                f"{source}: row {row}: no date in column {table.dated!r}; --split=time needs one in every row"
            )
        order, note = np.argsort(table.days, kind="stable"), f"in the order of {table.dated}"
        note += "" if np.array_equal(order, np.arange(len(order))) else ", by which the rows were sorted"
    test = math.ceil(fraction * len(order))
    held_out = math.ceil(valid * (len(order) - test))
    ends = [len(order) - test - held_out, len(order) - test]
    train, validation, tested = ({k: v[rows] for k, v in whole.items()} for rows in np.split(order, ends))
    return train, validation if valid else None, tested, f"split by time: the last {test:,} rows, {note}, test"


def _by_group(
    whole: Mapping[str, np.ndarray], table: Table, fraction: float, valid: float, seed: int
) -> tuple[Any, Any, Any, str]:
    """(train, valid, test, note): groups are drawn, with all their rows."""
    assert table.groups is not None
    groups = np.arange(table.groups.max() + 1)
    test = math.ceil(fraction * len(groups))
    held_out = math.ceil(valid * (len(groups) - test))
    if test + held_out >= len(groups):
        raise ValueError(
            f"--split=group: {len(groups)} groups, of which {test} are to test and {held_out} to validate; more groups "
            "are needed, or a smaller --test_fraction or --valid_fraction"
        )
    order = np.random.default_rng(seed).permutation(groups)
    drawn = order[test + held_out :], order[test : test + held_out], order[:test]
    train, validation, tested = ({k: v[np.isin(table.groups, one)] for k, v in whole.items()} for one in drawn)
    note = f"split by group: {test:,} of {len(groups):,} groups test, {held_out:,} validate"
    return train, validation if valid else None, tested, note
