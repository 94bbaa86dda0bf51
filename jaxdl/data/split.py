"""Splits of a dict of arrays by rows: one held-out part, or K folds."""

from collections.abc import Mapping

import numpy as np

from jaxdl.data.batches import same_length

Arrays = dict[str, np.ndarray]


def split(
    arrays: Mapping[str, np.ndarray], fraction: float, seed: int, *, stratify: str | None = None
) -> tuple[Arrays, Arrays]:
    """Splits rows at random into (train, test), through scikit-learn's ``train_test_split``.

    Args:
      arrays: name -> [length, ...].
      fraction: the part of the rows that goes into test, in (0, 1).
      seed: another seed, another split.
      stratify: name of the array of class labels whose shares both parts keep.

    Raises:
      ValueError: fraction outside (0, 1), an unknown name, a class too small to be in both parts.
    """
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction} must lie between 0 and 1: the part of the rows held out for testing")
    rows = np.arange(same_length(arrays))
    train, test = train_test_split(rows, test_size=fraction, random_state=seed, stratify=_labels(arrays, stratify))
    return _take(arrays, train), _take(arrays, test)


def k_folds(
    arrays: Mapping[str, np.ndarray], folds: int, seed: int, *, stratify: str | None = "y"
) -> list[tuple[Arrays, Arrays]]:
    """Splits rows into K folds, each the test part once, through scikit-learn's ``StratifiedKFold`` or ``KFold``.

    Args:
      arrays: name -> [length, ...].
      folds: K, from 2 to the number of rows.
      seed: another seed, another assignment of rows to folds.
      stratify: name of the array of class labels whose shares every fold keeps; None (regression): plain folds.

    Returns:
      K pairs (train, test).

    Raises:
      ValueError: K out of range, an unknown name, labels that are not classes.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    length = same_length(arrays)
    if not 2 <= folds <= length:
        raise ValueError(f"folds={folds} must lie between 2 and the number of rows, {length}")
    labels = _labels(arrays, stratify)
    maker = KFold if labels is None else StratifiedKFold
    parts = maker(folds, shuffle=True, random_state=seed).split(np.arange(length), labels)
    return [(_take(arrays, train), _take(arrays, test)) for train, test in parts]


def _labels(arrays: Mapping[str, np.ndarray], name: str | None) -> np.ndarray | None:
    if name is not None and name not in arrays:
        raise ValueError(f"stratify={name!r} names none of the arrays: {', '.join(arrays)}")
    return None if name is None else np.asarray(arrays[name])


def _take(arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> Arrays:
    return {name: np.asarray(values)[rows] for name, values in arrays.items()}
