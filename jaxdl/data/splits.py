"""Splits of a dict of arrays by rows: a test part, a validation part of the rest, or K folds."""

import math
from collections.abc import Mapping

import numpy as np

from jaxdl.data.batches import same_length
from jaxdl.data.errors import DataError

Arrays = dict[str, np.ndarray]
VALIDATION = 1  # (seed, VALIDATION) seeds the validation part, so that its draw is independent of the test part


def split(
    arrays: Mapping[str, np.ndarray], fraction: float, seed: int, *, stratify: str | None = None
) -> tuple[Arrays, Arrays]:
    """Splits rows at random into (train, test), with scikit-learn's ``train_test_split``.

    Args:
      arrays: name -> [length, ...].
      fraction: fraction of the rows for test, in (0, 1).
      seed: seed of the split.
      stratify: name of the array of class labels whose shares both parts keep.

    Raises:
      ValueError: fraction is outside (0, 1), the name is unknown, or a class is too small for both parts.
    """
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction} must be between 0 and 1: the fraction of the rows held out for testing")
    rows = np.arange(same_length(arrays))
    train, test = train_test_split(rows, test_size=fraction, random_state=seed, stratify=_labels(arrays, stratify))
    return _take(arrays, train), _take(arrays, test)


def hold_out(
    arrays: Mapping[str, np.ndarray], fraction: float, seed: int, source: str, *, stratify: str | None = None
) -> tuple[Arrays, Arrays | None]:
    """Splits the training rows at random into (train, valid), both in the order of the rows.

    Unlike `split`, it accepts classes of a few rows: each keeps at least one training row, and a validation part that
    is too small for all classes contains some of them.

    Args:
      arrays: name -> [length, ...].
      fraction: fraction of the rows for valid, rounded up, in [0, 1); 0: valid is None.
      seed: seed of the split.
      source: source of the rows, for the message.
      stratify: name of the array of class labels whose shares both parts keep, to within a row.

    Raises:
      ValueError: fraction is outside [0, 1), or the name is unknown.
      DataError: every class has only one row.
    """
    check_fraction(fraction)
    length, labels = same_length(arrays), _labels(arrays, stratify)
    if fraction == 0:
        return dict(arrays), None
    labels = np.zeros(length) if labels is None else labels
    random = np.random.default_rng((seed, VALIDATION))
    order = random.permutation(length)
    order = order[np.argsort(labels[order], kind="stable")]  # sorted by class, at random within each
    spare = np.delete(order, np.unique(labels[order], return_index=True)[1])  # all but one row of each class
    if not len(spare):
        raise DataError(
            f"{source}: too few training examples to hold some out for validation; "
            "set --valid_fraction=0 to train without a validation part"
        )
    count = min(math.ceil(fraction * length), len(spare))
    # Evenly spaced from a random start, so that every class contributes its share.
    held_out = spare[(np.arange(count) * len(spare) + random.integers(len(spare))) // count]
    return _take(arrays, np.delete(np.arange(length), held_out)), _take(arrays, np.sort(held_out))


def check_fraction(valid: float) -> None:
    """Raises ValueError unless `valid` is a fraction that can be held out for validation."""
    if not 0 <= valid < 1:
        raise ValueError(f"valid={valid} must be at least 0 and below 1: the fraction of the training data held out")


def k_folds(
    arrays: Mapping[str, np.ndarray], folds: int, seed: int, *, stratify: str | None = "y"
) -> list[tuple[Arrays, Arrays]]:
    """Splits rows into K folds, each the test part once, with scikit-learn's ``StratifiedKFold`` or ``KFold``.

    Args:
      arrays: name -> [length, ...].
      folds: K, from 2 to the number of rows.
      seed: seed of the assignment of rows to folds.
      stratify: name of the array of class labels whose shares every fold keeps; None (regression): plain folds.

    Returns:
      K pairs (train, test).

    Raises:
      ValueError: K is out of range, the name is unknown, or the labels are not classes.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    length = same_length(arrays)
    if not 2 <= folds <= length:
        raise ValueError(f"folds={folds} must be between 2 and the number of rows, {length}")
    labels = _labels(arrays, stratify)
    maker = KFold if labels is None else StratifiedKFold
    parts = maker(folds, shuffle=True, random_state=seed).split(np.arange(length), labels)
    return [(_take(arrays, train), _take(arrays, test)) for train, test in parts]


def _labels(arrays: Mapping[str, np.ndarray], name: str | None) -> np.ndarray | None:
    if name is not None and name not in arrays:
        raise ValueError(f"stratify={name!r} must be one of the arrays {', '.join(arrays)}")
    return None if name is None else np.asarray(arrays[name])


def _take(arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> Arrays:
    return {name: np.asarray(values)[rows] for name, values in arrays.items()}
