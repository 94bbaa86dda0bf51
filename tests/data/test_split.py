"""Splits, against scikit-learn on the arrays themselves and by counting rows."""

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from jaxdl.data import k_folds, split

X = np.random.default_rng(0).normal(size=(61, 3)).astype(np.float32)
Y = np.repeat([0, 1, 2], [31, 19, 11])
ARRAYS = {"x": X, "y": Y, "row": np.arange(61)}


@pytest.mark.parametrize("stratify", [None, "y"])
def test_split_is_scikit_learns(stratify):
    train, test = split(ARRAYS, 0.3, 7, stratify=stratify)
    labels = None if stratify is None else Y
    train_x, test_x, train_y, test_y = train_test_split(X, Y, test_size=0.3, random_state=7, stratify=labels)
    for ours, theirs in [(train["x"], train_x), (test["x"], test_x), (train["y"], train_y), (test["y"], test_y)]:
        np.testing.assert_array_equal(ours, theirs)
    assert sorted([*train["row"], *test["row"]]) == list(range(61))


def test_seeds_split_differently():
    assert not np.array_equal(split(ARRAYS, 0.3, 0)[1]["row"], split(ARRAYS, 0.3, 1)[1]["row"])


@pytest.mark.parametrize(("stratify", "maker"), [("y", StratifiedKFold), (None, KFold)])
def test_folds_are_scikit_learns(stratify, maker):
    folds = k_folds(ARRAYS, 5, 3, stratify=stratify)
    reference = list(maker(5, shuffle=True, random_state=3).split(X, Y))
    assert len(folds) == len(reference) == 5
    for (train, test), (train_rows, test_rows) in zip(folds, reference, strict=True):
        np.testing.assert_array_equal(train["row"], train_rows)
        np.testing.assert_array_equal(test["x"], X[test_rows])
    assert sorted(np.concatenate([test["row"] for _, test in folds])) == list(range(61))


def test_stratified_folds_keep_the_shares_of_classes():
    for _, test in k_folds(ARRAYS, 3, 0):
        assert all(abs((test["y"] == c).sum() - n / 3) < 1 for c, n in enumerate([31, 19, 11]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split(ARRAYS, 1.0, 0), r"fraction=1.0"),
        (lambda: split(ARRAYS, 0, 0), r"fraction=0"),
        (lambda: split(ARRAYS, 0.2, 0, stratify="label"), r"stratify='label' names none of the arrays: x, y, row"),
        (lambda: split({"x": X, "y": Y[:-1]}, 0.2, 0), r"x 61, y 60"),
        (lambda: k_folds(ARRAYS, 1, 0), r"folds=1"),
        (lambda: k_folds(ARRAYS, 62, 0), r"folds=62 must lie between 2 and the number of rows, 61"),
        (lambda: k_folds({"x": X}, 2, 0), r"stratify='y'"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
