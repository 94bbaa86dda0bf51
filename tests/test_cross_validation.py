"""Folds by hand, samples, nested choices, and the family against models that are trained alone."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from experiments.cross_validation import Config
from experiments.cross_validation.estimating import Estimates
from experiments.cross_validation.recording import others
from experiments.cross_validation.samples import SIZES, samples
from experiments.cross_validation.searching import Nested
from experiments.cross_validation.splitting import dealt
from jaxdl.run.command.flags import flags_of


def test_folds_by_hand():
    # sorted by first appearance: class 7 has rows 0, 2, 4 and class 5 rows 1, 3, dealt to folds 0 1 0 and 1 0
    found = dealt(np.array([7, 5, 7, 5, 7]), 2, 0)
    assert sorted(found[[0, 2, 4]]) == [0, 0, 1]
    assert sorted(found[[1, 3]]) == [0, 1]


@pytest.mark.parametrize(("count", "folds", "seed"), [(53, 3, 4590), (101, 5, 0), (307, 7, 11)])
def test_folds_are_those_of_scikit_learn(count, folds, seed):
    y = np.random.default_rng(seed).integers(4, size=count) * 3
    found = dealt(y, folds, seed)
    for k, (_, rows) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y)):
        np.testing.assert_array_equal(np.flatnonzero(found == k), rows)
    assert (dealt(y, folds, seed + 1) != found).any()


def test_samples_are_split_completely_and_depend_on_the_seed():
    config = Config(sample=100, splits=3)
    y = np.random.default_rng(0).integers(3, size=401)
    found = samples(config, y)
    assert found.train.shape == (401, len(SIZES), 3, 5)
    everything = found.train.astype(int) + found.test + found.rest
    assert (everything == 1).all()
    sizes = [int(size * 100) for size in SIZES]
    assert ((~found.rest).sum(0) == np.array(sizes)[:, None, None]).all()
    assert (found.test.sum(-1) <= 1).all(), "a row is in one test fold"
    assert (found.test.sum((0, 3)) == np.array(sizes)[:, None]).all()
    np.testing.assert_array_equal(samples(config, y).test, found.test)
    assert (samples(config.replace(seed=1), y).test != found.test).any()


def test_errors_by_hand():
    found = Estimates(np.array([[[0.9, 0.7]]]), np.array([[[0.8, 0.8]]]))
    single, both = found.errors()
    np.testing.assert_allclose(single, [[[0.1, -0.1]]])
    np.testing.assert_allclose(both, [[0.0]], atol=1e-12)


def test_nested_scores_by_hand():
    outer = np.array([[[0.5, 0.6, 0.7], [0.1, 0.2, 0.3]]])
    inner = np.array([[[0.9, 0.8, 0.7], [0.4, 0.6, 0.5]]])
    found = Nested(outer, inner, inner.argmax(-1), {}, None)
    assert found.nested() == pytest.approx([(0.5 + 0.2) / 2]), "trial 0 in the first outer fold, 1 in the second"
    assert found.best() == pytest.approx([(0.9 + 0.6) / 2])


def test_other_values_of_every_flag():
    for flag in flags_of(Config):
        value = getattr(Config(), flag.name)
        found = others(flag, value)
        assert found or flag.rule.choices
        assert value not in found
