import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as reference

from jaxdl import metrics
from jaxdl.metrics import counts as module
from tests.budget import first

AVERAGES = (None, "micro", "macro", "weighted")
SCORES = {
    "precision": (metrics.precision, reference.precision_score),
    "recall": (metrics.recall, reference.recall_score),
    "f1": (metrics.f1, reference.f1_score),
}


def cases(count=1000):
    """Labels and predictions of 1 to 40 examples in 2 to 7 classes, of which some never occur, and some are alone."""
    random = np.random.default_rng(3)
    for i in range(count):
        n, classes = int(random.integers(1, 41)), int(random.integers(2, 8))
        used = random.permutation(classes)[: random.integers(1, classes + 1)]
        y = random.choice(used, n)
        p = np.where(random.random(n) < 0.4, y, random.choice(used, n)) if i % 7 else np.full(n, y[0])
        yield classes, y, p


@pytest.mark.parametrize("count", first([100, 1000]))
def test_scores_of_random_cases_equal_scikit_learns(count):
    """NumPy counts are float64; the classes of scikit-learn are all N, with its rules for 0 / 0."""
    for i, (classes, y, p) in enumerate(cases(count)):
        counts = metrics.counts_of(metrics.confusion_matrix(y, p, classes))
        assert counts.correct.sum() / len(y) == pytest.approx((y == p).mean(), abs=1e-12)
        average, rule = AVERAGES[i % 4], float(i % 8 > 3)
        expected = reference.precision_recall_fscore_support(
            y, p, labels=range(classes), average=average, zero_division=rule
        )
        for (ours, _), value in zip(SCORES.values(), expected, strict=False):
            np.testing.assert_allclose(ours(counts, average, zero_division=rule), value, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("x64", "tolerance"), [(False, 1e-5), (True, 1e-12)])
def test_scores_in_jax(x64, tolerance):
    """Under jit, in float32 and under x64."""
    with jax.enable_x64(x64):
        score = jax.jit(lambda counts: [[f(counts, a) for a in AVERAGES] for f, _ in SCORES.values()])
        tables = [(c, y, p) for c, y, p in cases(100) if c == 7]
        assert len(tables) > 10
        for classes, y, p in tables:
            counts = metrics.counts_of(jnp.asarray(metrics.confusion_matrix(y, p, classes)))
            for found, (_, theirs) in zip(score(counts), SCORES.values(), strict=True):
                for value, average in zip(found, AVERAGES, strict=True):
                    assert value.dtype == (jnp.float64 if x64 else jnp.float32)
                    expected = theirs(y, p, labels=range(classes), average=average, zero_division=0)
                    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance)


def test_classes_left_out_of_a_mean():
    """With NaN for 0 / 0, as in scikit-learn, a class that is never predicted is not part of the mean."""
    y, p = np.array([0, 1, 2, 2, 1]), np.array([0, 0, 2, 2, 2])
    counts = metrics.counts_of(metrics.confusion_matrix(y, p, 5))
    for average in ("macro", "weighted"):
        ours = metrics.precision(counts, average, zero_division=np.nan)
        theirs = reference.precision_score(y, p, labels=range(5), average=average, zero_division=np.nan)
        assert ours == pytest.approx(theirs, abs=1e-12)
    np.testing.assert_allclose(metrics.precision(counts, zero_division=np.nan), [1 / 2, np.nan, 2 / 3, np.nan, np.nan])
    none = metrics.Counts(*np.zeros((3, 2)))
    assert metrics.f1(none, "macro") == 0
    assert np.isnan(metrics.f1(none, "micro", zero_division=np.nan))


@pytest.mark.parametrize("beta", [0.5, 2.0, 3.0])
def test_f_beta(beta):
    for classes, y, p in cases(31):
        counts = metrics.counts_of(metrics.confusion_matrix(y, p, classes))
        expected = reference.fbeta_score(y, p, beta=beta, labels=range(classes), average=None, zero_division=0)
        np.testing.assert_allclose(metrics.f_beta(counts, None, beta), expected, atol=1e-12)


def test_counts_of_classes_add_up_over_batches_and_masks():
    random = np.random.default_rng(0)
    y, p = random.integers(0, 5, (2, 101))
    where = random.integers(0, 2, 101).astype(np.float32)
    count = jax.jit(module.class_counts, static_argnums=2)
    parts = [count(p[rows], y[rows], 5, where[rows]) for rows in (slice(0, 37), slice(37, 101))]
    added = jax.tree.map(lambda *x: np.sum(np.asarray(x, np.float64), axis=0), *parts)
    kept = where > 0
    expected = metrics.counts_of(metrics.confusion_matrix(y[kept], p[kept], 5))
    for one, other in zip(added, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    whole = module.class_counts(p, y, 5)
    np.testing.assert_array_equal(whole.actual, np.bincount(y, minlength=5))
    np.testing.assert_array_equal(module.class_counts(2 * jnp.ones(3, int), jnp.ones(3, int), 2).predicted, [0, 0])


def test_counts_of_devices_add_up():
    """A sum over eight devices is the count of the whole batch."""
    random = np.random.default_rng(1)
    y, p = random.integers(0, 3, (2, 8, 13))
    each = jax.pmap(lambda p, y: jax.lax.psum(module.class_counts(p, y, 3), "i"), axis_name="i")(p, y)
    whole = module.class_counts(p.ravel(), y.ravel(), 3)
    for one, other in zip(each, whole, strict=True):
        np.testing.assert_array_equal(one[5], other)


def test_labels_equal_scikit_learns():
    random = np.random.default_rng(2)
    y, p = random.random((2, 43, 5)) < 0.4
    counts = jax.tree.map(np.asarray, metrics.label_counts(p, y))
    for ours, theirs in SCORES.values():
        for average in AVERAGES:
            expected = theirs(y, p, average=average, zero_division=0)
            np.testing.assert_allclose(ours(counts, average), expected, atol=1e-6)


def test_thresholds_are_labels():
    random = np.random.default_rng(4)
    s, y, at = random.random(53), random.random(53) < 0.3, np.array([0.1, 0.5, 0.7])
    guess = s[:, None] >= at
    counts = metrics.label_counts(guess, np.broadcast_to(y[:, None], guess.shape))
    expected = [reference.recall_score(y, s >= t) for t in at]
    np.testing.assert_allclose(metrics.recall(counts), expected, atol=1e-6)


def test_what_is_wrong_raises():
    counts = metrics.Counts(*np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"average must be one of None, micro.*'mean'"):
        metrics.precision(counts, "mean")
    with pytest.raises(AssertionError):
        metrics.counts_of(np.ones((2, 3)))
    with pytest.raises(AssertionError):
        metrics.class_counts(np.zeros((5, 1), int), np.zeros(5, int), 3)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
