"""Splits, compared with scikit-learn on the arrays and by counting rows."""

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from jaxdl.data import DataError, hold_out, k_folds, split

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


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.93, 0.999])
@pytest.mark.parametrize("stratify", [None, "y"])
def test_each_row_is_in_one_part_in_order_and_classes_give_their_share(fraction, stratify):
    counts = np.bincount(Y)
    for seed in range(50):
        train, valid = hold_out(ARRAYS, fraction, seed, "rows", stratify=stratify)
        assert sorted([*train["row"], *valid["row"]]) == list(range(61))
        most = 61 - (len(counts) if stratify else 1)  # a row of each class is left to train on
        assert len(valid["row"]) == min(np.ceil(fraction * 61), most)
        for part in (train, valid):
            assert (np.diff(part["row"]) > 0).all()
            np.testing.assert_array_equal(part["x"], X[part["row"]])
            np.testing.assert_array_equal(part["y"], Y[part["row"]])
        if stratify:
            share = len(valid["row"]) * (counts - 1) / most
            assert (abs(np.bincount(valid["y"], minlength=3) - share) < 1).all()


def test_any_row_can_be_held_out_and_the_seed_decides():
    drawn = [tuple(hold_out(ARRAYS, 0.1, seed, "rows", stratify="y")[1]["row"]) for seed in range(200)]
    assert set().union(*drawn) == set(range(61))
    assert len(set(drawn)) > 190
    assert drawn[7] == tuple(hold_out(ARRAYS, 0.1, 7, "rows", stratify="y")[1]["row"])


def test_small_classes_keep_a_training_row():
    few = {"y": np.repeat(np.arange(10), 3)}
    train, valid = hold_out(few, 0.1, 0, "few", stratify="y")
    assert len(set(valid["y"].tolist())) == len(valid["y"]) == 3
    assert set(train["y"].tolist()) == set(range(10))
    single = {"y": np.array([4, 0, 1, 4, 2])}
    train, valid = hold_out(single, 0.9, 0, "single", stratify="y")
    assert (train["y"].tolist(), valid["y"].tolist()) in (([4, 0, 1, 2], [4]), ([0, 1, 4, 2], [4]))


def test_nothing_held_out_and_nothing_to_hold_out():
    train, valid = hold_out(ARRAYS, 0, 0, "rows", stratify="y")
    assert valid is None
    assert all(train[name] is ARRAYS[name] for name in ARRAYS)
    for stratify, arrays in (("y", {"y": np.arange(7)}), (None, {"y": np.zeros(1)})):
        with pytest.raises(DataError, match=r"^rows: .*--valid_fraction=0") as e:
            hold_out(arrays, 0.1, 0, "rows", stratify=stratify)
        assert "\n" not in str(e.value)


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
        (lambda: split(ARRAYS, 0.2, 0, stratify="label"), r"stratify='label' .*x, y, row"),
        (lambda: split({"x": X, "y": Y[:-1]}, 0.2, 0), r"x 61, y 60"),
        (lambda: hold_out(ARRAYS, 1.0, 0, "rows"), r"valid=1.0"),
        (lambda: hold_out(ARRAYS, -0.1, 0, "rows"), r"valid=-0.1"),
        (lambda: hold_out(ARRAYS, float("nan"), 0, "rows"), r"valid=nan"),
        (lambda: hold_out(ARRAYS, 0.2, 0, "rows", stratify="label"), r"stratify='label'"),
        (lambda: k_folds(ARRAYS, 1, 0), r"folds=1"),
        (lambda: k_folds(ARRAYS, 62, 0), r"folds=62 .*61"),
        (lambda: k_folds({"x": X}, 2, 0), r"stratify='y'"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
