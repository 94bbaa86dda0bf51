import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from jaxdl import metrics
from tests.budget import first


def cases(count=1000):
    """Scores with ties and targets of 2 to 60 examples; some have only one class."""
    random = np.random.default_rng(7)
    for i in range(count):
        n = int(random.integers(2, 61))
        s = random.integers(0, random.integers(2, 40), n) / 7 if i % 3 else random.normal(size=n)
        y = random.random(n) < random.choice([0.1, 0.5, 0.9])
        s = s if i % 13 else np.full(n, 0.5)
        yield s.astype(float), y if i % 11 else np.full(n, i % 2 == 0)


@pytest.mark.parametrize("count", first([100, 1000]))
def test_random_cases_equal_scikit_learns(count):
    """Our rule for one class is NaN for the area; the average precision without positives is 0, as there."""
    single = 0
    for s, y in cases(count):
        if y.all() or not y.any():
            single += 1
            assert np.isnan(metrics.roc_auc(s, y))
        else:
            assert metrics.roc_auc(s, y) == pytest.approx(reference.roc_auc_score(y, s), abs=1e-12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = reference.average_precision_score(y, s)
        assert metrics.average_precision(s, y) == pytest.approx(expected, abs=1e-12)
    assert single > 5


@pytest.mark.parametrize("count", first([100, 1000]))
def test_correlations_of_random_cases_equal_scipys(count):
    random, equal = np.random.default_rng(8), 0
    for s, _ in cases(count):
        t = np.round(s + random.normal(size=len(s)), 1)
        np.testing.assert_allclose(metrics.average_ranks(s), stats.rankdata(s), atol=1e-12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = stats.spearmanr(s, t).statistic, stats.pearsonr(s, t).statistic
        equal += bool(np.isnan(expected).any())
        np.testing.assert_allclose([metrics.spearman(s, t), metrics.pearson(s, t)], expected, atol=1e-12)
    assert equal


@pytest.mark.parametrize(("x64", "tolerance"), [(False, 1e-5), (True, 1e-12)])
def test_in_jax(x64, tolerance):
    """Under jit and vmap, in float32 and under x64."""
    random = np.random.default_rng(9)
    s, t, y = random.integers(0, 23, (100, 53)) / 3, random.normal(size=(100, 53)), random.random((100, 53)) < 0.3
    with jax.enable_x64(x64):
        each = lambda f, *x: np.asarray(jax.jit(jax.vmap(f))(*map(jnp.asarray, x)))
        pairs = [
            (each(metrics.roc_auc, s, y), [reference.roc_auc_score(b, a) for a, b in zip(s, y, strict=True)]),
            (each(metrics.average_precision, s, y),
             [reference.average_precision_score(b, a) for a, b in zip(s, y, strict=True)]),
            (each(metrics.spearman, s, t), [stats.spearmanr(a, b).statistic for a, b in zip(s, t, strict=True)]),
            (each(metrics.pearson, s, t), [stats.pearsonr(a, b).statistic for a, b in zip(s, t, strict=True)]),
        ]  # fmt: skip
    for ours, theirs in pairs:
        assert ours.dtype == (np.float64 if x64 else np.float32)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def test_a_single_negative_among_many_keeps_its_digits():
    """Sums of ranks would need 31 bits; float32 has 24."""
    s = jnp.arange(60_001.0)
    assert float(metrics.roc_auc(s, jnp.arange(60_001) != 20_000)) == pytest.approx(2 / 3, abs=1e-6)


def test_the_curve_equals_scikit_learns():
    for s, y in list(cases(100)):
        curve = metrics.threshold_curve(s, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            precision, recall, thresholds = reference.precision_recall_curve(y, s)
            false, true, _ = reference.roc_curve(y, s, drop_intermediate=False)
        np.testing.assert_array_equal(curve.thresholds, thresholds[::-1])
        np.testing.assert_allclose(curve.precision, precision[-2::-1], atol=1e-12)
        np.testing.assert_allclose(curve.recall, recall[-2::-1], atol=1e-12)
        np.testing.assert_allclose(curve.false_positive_rate, false[1:], atol=1e-12)
        if y.any():
            np.testing.assert_allclose(curve.recall, true[1:], atol=1e-12)
            assert (np.diff(curve.recall) >= 0).all()


def test_what_is_undefined_is_nan():
    s, y = np.array([0.1, np.nan, 0.3]), np.array([0, 1, 1])
    assert np.isnan(metrics.roc_auc(s, y))
    assert np.isnan(metrics.average_precision(s, y))
    assert np.isnan(metrics.spearman(s, np.arange(3.0)))
    assert np.isnan(metrics.pearson(np.ones(3), np.arange(3.0)))
    assert metrics.pearson(np.arange(3.0) * 1e200, np.arange(3.0)) == pytest.approx(1)
    assert len(metrics.threshold_curve(np.zeros(0), np.zeros(0)).recall) == 0
    for metric in (metrics.roc_auc, metrics.average_precision, metrics.spearman, metrics.threshold_curve):
        with pytest.raises(AssertionError):
            metric(np.zeros((3, 1)), np.zeros(3))
