"""Splits the rows of a table and scales them for a network."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.errors import DataError, some
from jaxdl.data.splits import hold_out, split
from jaxdl.data.tables import Table, column_scales

SPLITS = ("random", "time", "group")
TRANSFORMS = {"log": (np.log, np.exp), "log1p": (np.log1p, np.expm1)}  # of a target: the function and its inverse


class Rows(NamedTuple):
    """A table's rows in three parts that share no row, and the scales of the columns."""

    train: dict[str, np.ndarray]  # x float32 [N, D] and y float32 [N, 1] or [N, K], scaled
    valid: dict[str, np.ndarray] | None  # for choosing a step or a hyperparameter; None: not held out
    test: dict[str, np.ndarray]
    scales: dict[str, list[float]]  # mean and deviation of x, and of y in a regression, in the training rows
    note: str  # how the rows were split, if not at random


def encode_rows(
    x: np.ndarray, y: np.ndarray, names: Any, scales: Mapping[str, list[float]], transform: str = ""
) -> dict[str, np.ndarray]:
    """Encodes inputs and target with the given scales: numbers transformed by a key of TRANSFORMS, classes one-hot."""
    scaled = lambda values, name: (values - np.array(scales[f"{name}_mean"])) / np.array(scales[f"{name}_deviation"])
    target = np.eye(len(names))[y] if names else scaled(transformed(y, transform)[:, None], "y")
    return {"x": scaled(x, "x").astype(np.float32), "y": target.astype(np.float32)}


def transformed(y: np.ndarray, transform: str) -> np.ndarray:
    """Returns a numeric target after a transform of TRANSFORMS; unchanged without one."""
    return TRANSFORMS[transform][0](y.astype(np.float64)) if transform else y


def scaled_parts(
    table: Table, fraction: float, seed: int, source: str, valid: float, how: str = "random", transform: str = ""
) -> Rows:
    """Splits the rows and scales all parts with the scales of the training rows.

    Args:
      table: the rows.
      fraction: fraction of the rows, or of the groups for how="group", held out for testing.
      seed: seed of the split.
      source: source of the table, for messages.
      valid: fraction of the other rows held out for validation, 0: none; the test part does not depend on it.
      how: one of SPLITS. random: stratified by class. time: the last rows by date are the test part, the last of the
        rest the validation part; rows with the same date, or without dates, keep the order of the table. group: each
        group is in one part.
      transform: a key of TRANSFORMS that is applied to a numeric target before scaling; "": none.

    Raises:
      ValueError: a part has too few rows or groups.
      DataError: a class has only one row, a numeric target is constant, or a row has no date in a split by time.
    """
    counts = np.bincount(table.y) if table.names else np.array([2])
    if counts.min() < 2:
        raise DataError(
            f"{source}: only one row has the class {table.names[counts.argmin()]!r} of {table.target!r}; at least two "
            "are needed, to train and to test: remove the row or change its class"
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
            raise DataError(f"{source}: {table.target!r} is {same:g} in every training row; a target must vary")
        mean, deviation = column_scales(values)
        scales |= {f"{name}_mean": mean.tolist(), f"{name}_deviation": deviation.tolist()}
    if validation and not table.names and min(len(train["y"]), len(validation["y"])) < 2:  # R^2 of one row is undefined
        raise ValueError(
            f"--valid_fraction={valid:g}: {len(train['y'])} training and {len(validation['y'])} validation rows of "
            f"{source}; both parts need at least 2; --valid_fraction=0 trains without a validation part"
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
    """Returns (train, valid, test, note): the last rows are the test part, the last others the validation part."""
    order, note = np.arange(len(table.y)), "in file order"
    if table.days is not None:
        if np.isnan(table.days).any():
            row = int(np.isnan(table.days).argmax()) + 1
            raise DataError(
                f"{source}: row {row}: column {table.dated!r} has no date; --split=time needs one in every row"
            )
        order = np.argsort(table.days, kind="stable")
        ordered = np.array_equal(order, np.arange(len(order)))
        note = f"ordered by {table.dated}" if ordered else f"after sorting by {table.dated}"
    test = math.ceil(fraction * len(order))
    held_out = math.ceil(valid * (len(order) - test))
    ends = [len(order) - test - held_out, len(order) - test]
    train, validation, tested = ({k: v[rows] for k, v in whole.items()} for rows in np.split(order, ends))
    return train, validation if valid else None, tested, f"split by time: the last {test:,} rows {note} for testing"


def _by_group(
    whole: Mapping[str, np.ndarray], table: Table, fraction: float, valid: float, seed: int
) -> tuple[Any, Any, Any, str]:
    """Returns (train, valid, test, note): groups are drawn, with all their rows."""
    assert table.groups is not None
    groups = np.arange(table.groups.max() + 1)
    test = math.ceil(fraction * len(groups))
    held_out = math.ceil(valid * (len(groups) - test))
    if test + held_out >= len(groups):
        raise ValueError(
            f"--split=group: {len(groups)} groups, {test} for testing and {held_out} for validation, leave none for "
            "training; add groups, or lower --test_fraction or --valid_fraction"
        )
    order = np.random.default_rng(seed).permutation(groups)
    drawn = order[test + held_out :], order[test : test + held_out], order[:test]
    train, validation, tested = ({k: v[np.isin(table.groups, one)] for k, v in whole.items()} for one in drawn)
    note = f"split by group: {test:,} of {len(groups):,} groups for testing, {held_out:,} for validation"
    return train, validation if valid else None, tested, note
