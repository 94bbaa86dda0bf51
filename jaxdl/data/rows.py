"""Rows of a table, split and scaled, as a network is given them."""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.errors import DataError
from jaxdl.data.splits import hold_out, split
from jaxdl.data.tables import Table, column_scales


class Rows(NamedTuple):
    """A table's rows in three parts, no row in two, and what the columns are measured in."""

    train: dict[str, np.ndarray]  # x float32 [N, D] and y float32 [N, 1] or [N, K], as the net is given them
    valid: dict[str, np.ndarray] | None  # for whatever chooses; None: none is held out
    test: dict[str, np.ndarray]
    scales: dict[str, list[float]]  # of the training rows: mean and deviation of x and of a number to predict


def encode_rows(x: np.ndarray, y: np.ndarray, names: Any, scales: dict[str, list[float]]) -> dict[str, np.ndarray]:
    """Columns and number with the given scales; classes as one-hot rows."""
    scaled = lambda values, name: (values - np.array(scales[f"{name}_mean"])) / np.array(scales[f"{name}_deviation"])
    target = np.eye(len(names))[y] if names else scaled(y[:, None], "y")
    return {"x": scaled(x, "x").astype(np.float32), "y": target.astype(np.float32)}


def scaled_parts(table: Table, fraction: float, seed: int, source: str, valid: float) -> Rows:
    """Holds rows out, every class in its share, and scales all by those that are left to train on.

    Args:
      table: the rows.
      fraction: of them that is held out for testing.
      seed: of the split.
      source: where the table is from, for messages.
      valid: of the other rows that is held out for validation, 0: none; the test part is the same whatever it is.

    Raises:
      ValueError: a part has too few rows.
      DataError: a class of one row, a number that never changes.
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
    whole = {"x": table.x, "y": table.y}
    stratify = "y" if table.names else None
    rest, test = split(whole, fraction, seed, stratify=stratify)
    train, validation = hold_out(rest, valid, seed, source, stratify=stratify)
    columns = {"x": train["x"]} if table.names else {"x": train["x"], "y": train["y"][:, None]}
    scales: dict[str, list[float]] = {}
    for name, values in columns.items():
        if name == "y" and np.ptp(values) == 0:
            raise DataError(f"{source}: {table.target!r} is {values[0, 0]:g} in every training row: nothing to learn")
        mean, deviation = column_scales(values)
        scales |= {f"{name}_mean": mean.tolist(), f"{name}_deviation": deviation.tolist()}
    if validation and not table.names and min(len(train["y"]), len(validation["y"])) < 2:  # one has no R^2
        raise ValueError(
            f"--valid_fraction={valid:g}: {len(train['y'])} training and {len(validation['y'])} validation rows of "
            f"{source}; both parts need at least 2; 0 trains without a validation part"
        )
    encoded = lambda part: encode_rows(part["x"], part["y"], table.names, scales)
    return Rows(encoded(train), validation and encoded(validation), encoded(test), scales)
