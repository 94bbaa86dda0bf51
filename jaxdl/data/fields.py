"""A typed record of a batch: which arrays it has, of which shapes, dtypes and ranges.

    FIELDS = {"x": Field(("B", 13), np.floating, "feature vectors"), "y": Field(("B",), np.integer, "labels", 0, 2)}
    check_fields(batch, FIELDS)

A sample is one row, its x the feature vector and its y the label; a data set is all rows.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Field(NamedTuple):
    """One array of a batch.

    shape: a size for each axis; a letter stands for any size, the same wherever it occurs in the record. dtype: a NumPy
    dtype, or a kind: np.floating, np.integer, np.number, np.bool_. meaning: one row's, for the message. least, most:
    the range of all values, inclusive; None: not checked.
    """

    shape: tuple[int | str, ...]
    dtype: Any
    meaning: str = ""
    least: float | None = None
    most: float | None = None


def check_fields(batch: Mapping[str, Any], fields: Mapping[str, Field]) -> None:
    """Checks the arrays of a batch, or of a whole data set, against a record.

    Args:
      batch: name -> NumPy or JAX array.
      fields: name -> its field; exactly these arrays are allowed.

    Raises:
      ValueError: names the first field that is missing, is not in the record, or has a wrong shape or dtype, a NaN or
        infinite value, or a value outside its range; says what was expected.
    """
    for name in batch:
        if name not in fields:
            raise ValueError(f"{name}: no such field; a batch has {', '.join(fields)}")
    sizes: dict[str, tuple[int, str]] = {}
    for name, field in fields.items():
        if name not in batch:
            raise ValueError(f"{name}: missing; must be {_words(field)}")
        array = batch[name]
        shape, dtype = np.shape(array), np.asarray(array).dtype
        if len(shape) != len(field.shape):
            raise ValueError(f"{name}: must be {_words(field)}, got shape {list(shape)}")
        for size, wanted in zip(shape, field.shape, strict=True):
            known, by = sizes.setdefault(wanted, (size, name)) if isinstance(wanted, str) else (wanted, name)
            if size != known:
                why = f", where {wanted}={known} as in {by}" if isinstance(wanted, str) else ""
                raise ValueError(f"{name}: must be {_words(field)}{why}, got shape {list(shape)}")
        if not np.issubdtype(dtype, field.dtype):
            raise ValueError(f"{name}: must be {_words(field)}, got dtype {dtype}")
        _check_values(name, np.asarray(array), field)


def _check_values(name: str, array: np.ndarray, field: Field) -> None:
    if not array.size:
        return
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"{name}: must be finite, got {array[tuple(where)]} at {where}")
    low, high = array.min(), array.max()
    if (field.least is not None and low < field.least) or (field.most is not None and high > field.most):
        raise ValueError(f"{name}: must be {_words(field)}, got {low:g} to {high:g}")


def _words(field: Field) -> str:
    words = [getattr(field.dtype, "__name__", str(field.dtype)).rstrip("_"), f"[{', '.join(map(str, field.shape))}]"]
    if field.least is not None:
        words.append(f"from {field.least:g}")
    if field.most is not None:
        words.append(f"to {field.most:g}")
    return " ".join([*words, f"({field.meaning})"] if field.meaning else words)
