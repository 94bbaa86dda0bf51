import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, stats
from sklearn import metrics as reference

from jaxdl import metrics

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(size=(101, 7)).astype(np.float32)
LABELS = RNG.integers(0, 7, 101).astype(np.int32)
TARGETS = RNG.integers(0, 2, (101, 3))


def test_accuracy_and_its_complement():
    right = jax.jit(metrics.accuracy)(LOGITS, LABELS)
    assert right.shape == (101,)
    assert right.dtype == jnp.float32
    np.testing.assert_array_equal(right, [float(np.argmax(z) == y) for z, y in zip(LOGITS, LABELS, strict=True)])
    assert float(right.mean()) == pytest.approx(reference.accuracy_score(LABELS, LOGITS.argmax(-1)))
    np.testing.assert_array_equal(metrics.zero_one_error(LOGITS, LABELS), 1 - right)
    assert float(metrics.zero_one_error(LOGITS, LABELS).sum()) == reference.zero_one_loss(
        LABELS, LOGITS.argmax(-1), normalize=False
    )


def test_leading_axes_are_kept():
    z, y = LOGITS[:77].reshape(11, 7, 7), LABELS[:77].reshape(11, 7)
    for metric in (metrics.accuracy, lambda z, y: metrics.top_k_accuracy(z, y, 2)):
        np.testing.assert_array_equal(metric(z, y).ravel(), metric(LOGITS[:77], LABELS[:77]))


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_k_accuracy(k):
    right = jax.jit(metrics.top_k_accuracy, static_argnums=2)(LOGITS, LABELS, k)
    assert right.shape == (101,)
    expected = reference.top_k_accuracy_score(LABELS, LOGITS, k=k, labels=range(7)) if k < 7 else 1.0
    assert float(right.mean()) == pytest.approx(expected)


def test_the_first_of_equal_logits_wins():
    z = jnp.zeros((3, 3))
    np.testing.assert_array_equal(metrics.accuracy(z, jnp.arange(3)), [1, 0, 0])
    np.testing.assert_array_equal(metrics.top_k_accuracy(z, jnp.arange(3), 2), [1, 1, 0])


@pytest.mark.parametrize("k", [0, 8])
def test_bad_k(k):
    with pytest.raises(ValueError, match=rf"k must be in \[1, 7\].* {k}$"):
        metrics.top_k_accuracy(LOGITS, LABELS, k)


def test_binary_and_subset_accuracy():
    z = LOGITS[:, :3]
    each = jax.jit(metrics.binary_accuracy)(z, TARGETS)
    assert each.shape == (101, 3)
    assert float(each.mean()) == pytest.approx(reference.accuracy_score(TARGETS.ravel(), z.ravel() > 0))
    assert float(metrics.binary_accuracy(z[:, 0], TARGETS[:, 0]).mean()) == pytest.approx(
        reference.accuracy_score(TARGETS[:, 0], z[:, 0] > 0)
    )
    every = jax.jit(metrics.subset_accuracy)(z, TARGETS)
    assert every.shape == (101,)
    assert every.dtype == jnp.float32
    assert float(every.mean()) == pytest.approx(reference.accuracy_score(TARGETS, z > 0))
    assert 0 < every.mean() < each.mean()
    # Probability 1/2, z = 0, predicts 0; targets may be bool.
    np.testing.assert_array_equal(metrics.binary_accuracy(jnp.zeros(2), jnp.array([False, True])), [1, 0])


@pytest.mark.parametrize(
    "metric", [metrics.accuracy, metrics.zero_one_error, lambda z, y: metrics.top_k_accuracy(z, y, 1)]
)
@pytest.mark.parametrize("shape", [(5, 1), (1,), (5, 3), ()])
def test_labels_must_have_the_shape_of_the_examples(metric, shape):
    with jax.numpy_rank_promotion("allow"), pytest.raises(AssertionError):
        metric(jnp.zeros((5, 3)), jnp.zeros(shape, jnp.int32))


@pytest.mark.parametrize("metric", [metrics.binary_accuracy, metrics.subset_accuracy])
@pytest.mark.parametrize("shapes", [((5,), (5, 1)), ((5, 1), (1, 5)), ((5, 3), (5, 1))])
def test_targets_are_never_broadcast(metric, shapes):
    with jax.numpy_rank_promotion("allow"), pytest.raises(AssertionError):
        metric(*(jnp.zeros(shape) for shape in shapes))


def test_confusion_matrix():
    predictions = LOGITS.argmax(-1)
    n = metrics.confusion_matrix(LABELS, predictions, 7)
    np.testing.assert_array_equal(n, reference.confusion_matrix(LABELS, predictions))
    parts = (metrics.confusion_matrix(jnp.array(LABELS[i:j]), predictions[i:j], 7) for i, j in ((0, 13), (13, 101)))
    np.testing.assert_array_equal(n, sum(parts))
    np.testing.assert_array_equal(
        metrics.confusion_matrix([[0, 0], [2, 2]], [[0, 1], [2, 2]], 3), [[1, 1, 0], [0] * 3, [0, 0, 2]]
    )
    assert metrics.confusion_matrix(np.zeros(0, int), np.zeros(0, int), 3).sum() == 0


def test_confusion_matrix_of_unknown_classes():
    with pytest.raises(ValueError, match=r"labels .*\[0, 3\).* 0 to 3"):
        metrics.confusion_matrix([0, 3], [0, 1], 3)
    with pytest.raises(ValueError, match=r"predictions .*\[0, 3\).* -1 to 0"):
        metrics.confusion_matrix([0, 1], [0, -1], 3)
    with pytest.raises(ValueError, match=r"labels and predictions .*\(2,\) and \(2, 1\)"):
        metrics.confusion_matrix([0, 1], [[0], [1]], 3)


def test_r_squared_from_sums_over_batches():
    y = RNG.normal(3, 2, 101).astype(np.float32)
    p = (y + RNG.normal(0, 1, 101)).astype(np.float32)

    @jax.jit
    def sums(p, y):
        return jnp.stack([((p - y) ** 2).sum(), y.sum(), (y**2).sum(), jnp.float32(y.size)])

    added = sum(sums(p[i:j], y[i:j]) for i, j in ((0, 13), (13, 60), (60, 101)))
    assert metrics.r_squared(*added) == pytest.approx(reference.r2_score(y, p), abs=1e-6)
    # Subtracting a constant from all targets and predictions changes nothing.
    assert metrics.r_squared(*sums(p - 3, y - 3)) == pytest.approx(reference.r2_score(y, p), abs=1e-6)


def test_r_squared_by_hand():
    # y = 1, 2, 6: mean 3, sum of squares around it 4 + 1 + 9 = 14.
    assert metrics.r_squared(7, 9, 41, 3) == 0.5
    assert metrics.r_squared(14, 9, 41, 3) == 0
    assert metrics.r_squared(0, 9, 41, 3) == 1
    assert metrics.r_squared(28, 9, 41, 3) == -1
    assert math.isnan(metrics.r_squared(1, 6, 12, 3))
    assert math.isnan(metrics.r_squared(0, 0, 0, 0))


def gaussian(dimensions, rank):
    factor = RNG.normal(size=(dimensions, rank))
    return RNG.normal(size=dimensions), factor @ factor.T


@pytest.mark.parametrize("rank", [7, 3])
def test_frechet_distance_against_scipy(rank):
    (m1, c1), (m2, c2) = gaussian(7, 11), gaussian(7, rank)
    expected = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
    assert metrics.frechet_distance(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-5)
    assert metrics.frechet_distance(m2, c2, m1, c1) == pytest.approx(expected, rel=1e-5)
    assert metrics.frechet_distance(m2, c2, m2, c2) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_by_hand():
    # One dimension: (m1 - m2)^2 + (s1 - s2)^2 = (5 - 2)^2 + (4 - 1)^2.
    assert metrics.frechet_distance([5], [[16]], [2], [[1]]) == pytest.approx(18)
    # A point, whose covariance is 0, and a Gaussian: |m|^2 + tr C.
    assert metrics.frechet_distance([0, 0], np.zeros((2, 2)), [1, 2], [[3, 1], [1, 5]]) == pytest.approx(13)
    # Gaussians on orthogonal lines: tr C1 + tr C2 = 2 + 7.
    assert metrics.frechet_distance([0, 0], np.diag([2, 0]), [0, 0], np.diag([0, 7])) == pytest.approx(9)


def test_frechet_distance_of_other_shapes():
    with pytest.raises(ValueError, match=r"\[2\], \[2, 2\], \[3\], \[3, 3\]"):
        metrics.frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))


def test_moments_add_up_to_mean_and_covariance():
    x = RNG.normal([1, -2, 3], [1, 2, 0.5], (101, 3)).astype(np.float32)
    where = RNG.integers(0, 3, 101).astype(np.float32)
    broken = np.where(where[:, None] > 0, x, np.nan)
    parts = [jax.jit(metrics.moments)(broken[i:j], where[i:j]) for i, j in ((0, 13), (13, 101))]
    mean, covariance = metrics.mean_and_covariance(jax.tree.map(lambda a, b: np.float64(a) + np.float64(b), *parts))
    repeated = np.repeat(x, where.astype(int), axis=0)
    np.testing.assert_allclose(mean, repeated.mean(0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(repeated, rowvar=False), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics.mean_and_covariance(metrics.moments(jnp.asarray(x)))[0], x.mean(0), rtol=1e-5)
    one = metrics.mean_and_covariance(metrics.moments(jnp.full((1, 3), 2.0)))
    np.testing.assert_array_equal(one[0], [2, 2, 2])
    np.testing.assert_array_equal(one[1], np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"count .* 0$"):
        metrics.mean_and_covariance(metrics.moments(jnp.ones((2, 3)), jnp.zeros(2)))


def test_earth_movers_distance_by_hand_and_against_scipy():
    hand = metrics.earth_movers_distance([[0.0], [1], [5]], [[6.0], [1], [0]])
    assert hand == pytest.approx(1 / 3)
    x, y = np.random.default_rng(0).normal(size=(2, 13, 1))
    assert metrics.earth_movers_distance(x, y) == pytest.approx(stats.wasserstein_distance(x[:, 0], y[:, 0]))
    # in the plane a shift of all points by the same vector costs its length
    plane = np.random.default_rng(0).normal(size=(11, 2))
    assert metrics.earth_movers_distance(plane, plane[::-1] + np.array([0.03, 0.04])) == pytest.approx(0.05)
    with pytest.raises(ValueError, match=r"\[13, 1\] and \[7, 1\]"):
        metrics.earth_movers_distance(x, y[:7])


def test_modes_by_hand():
    centres = jnp.array([[0.0, 0], [1, 0], [0, 2]])
    samples = jnp.array([[0.0, 0.1], [0.95, 0], [1, 0.2], [1.31, 0], [0.2, 0.2], [0, 2.3]])
    hits = jax.jit(metrics.mode_hits)(samples, centres, 0.3)
    # The fourth is 0.31 from the second centre, the last one 0.29999995 in float32.
    np.testing.assert_array_equal(hits, [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]])
    assert metrics.modes_found(hits.sum(0), 6) == 3
    # A mode's share of 60 samples is 20, and a fifth of it 4.
    assert metrics.modes_found([4, 3.99, 50], 60) == 2
    assert metrics.modes_found([4, 3.99, 50], 60, share=1.0) == 1
    assert metrics.modes_found([0, 0, 0], 60) == 0
    # Between two centres, within the radius of both, a sample counts once.
    assert metrics.mode_hits(jnp.array([[0.5, 0]]), centres, 0.6).sum() == 1
