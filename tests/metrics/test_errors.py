import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as reference

from jaxdl import metrics
from tests.budget import first


def theirs(p, y):
    return {
        "mse": reference.mean_squared_error(y, p),
        "rmse": reference.root_mean_squared_error(y, p),
        "mae": reference.mean_absolute_error(y, p),
        "r2": reference.r2_score(y, p, force_finite=False),
    }


def pieces(random, n):
    """Slices of 0..n of random lengths, some empty."""
    cuts = np.sort(random.integers(0, n + 1, random.integers(0, 5)))
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


@pytest.mark.parametrize("count", first([100, 1000]))
def test_random_cases_in_pieces_equal_scikit_learns(count):
    random = np.random.default_rng(5)
    for i in range(count):
        n = int(random.integers(2, 47))
        y = random.normal(10.0 ** random.integers(-3, 4), 1, n)
        p = y + random.normal(size=n) * 10.0 ** random.integers(-2, 3)
        parts = [metrics.error_sums(p[rows], y[rows]) for rows in pieces(random, n)]
        random.shuffle(parts)
        found = metrics.regression_scores(metrics.merge_errors(*parts))
        for name, expected in theirs(p, y).items():
            assert found[name] == pytest.approx(expected, rel=1e-9 if name == "r2" else 1e-12, abs=1e-12), (i, name)


def test_equal_targets_have_no_r2():
    """Where scikit-learn returns 1 or 0, or -inf without force_finite, we return NaN."""
    y = np.full(5, 0.1)
    for p in (y, y + 1):
        found = metrics.regression_scores(metrics.merge_errors(metrics.error_sums(p, y), metrics.error_sums(p, y)))
        assert np.isnan(found["r2"])
        assert np.isfinite([found["mse"], found["rmse"], found["mae"]]).all()
    none = metrics.regression_scores(metrics.error_sums(np.zeros(0), np.zeros(0)))
    assert np.isnan(list(none.values())).all()


@pytest.mark.parametrize(("x64", "tolerance"), [(False, 1e-5), (True, 1e-12)])
def test_in_jax_over_a_scan_and_eight_devices(x64, tolerance):
    random = np.random.default_rng(6)
    y = random.normal(3, 2, (8, 5, 13))
    p, where = y + random.normal(size=y.shape), (random.random(y.shape) < 0.7).astype(float)

    def device(p, y, where):
        sums = jax.lax.map(lambda x: metrics.error_sums(*x), (p, y, where))  # five batches in sequence
        return metrics.merge_errors(jax.lax.all_gather(metrics.merge_errors(sums), "i"))

    with jax.enable_x64(x64):
        narrow = lambda x: jnp.asarray(x, jnp.float64 if x64 else jnp.float32)
        found = jax.pmap(device, axis_name="i")(*map(narrow, (p, y, where)))
        scores = metrics.regression_scores(jax.tree.map(lambda x: x[3], found))
    kept = where > 0
    for name, expected in theirs(p[kept], y[kept]).items():
        np.testing.assert_allclose(scores[name], expected, rtol=tolerance)


def test_a_large_mean_keeps_its_digits_in_float32():
    """The difference of sums, in contrast, has no digit left."""
    random = np.random.default_rng(7)
    y = (3e4 + random.normal(size=(11, 101))).astype(np.float32)
    p = (y + random.normal(size=y.shape) / 2).astype(np.float32)
    parts = [metrics.error_sums(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(p, y, strict=True)]
    expected = reference.r2_score(y.ravel().astype(float), p.ravel().astype(float))
    assert float(metrics.regression_scores(metrics.merge_errors(*parts))["r2"]) == pytest.approx(expected, abs=1e-3)
    sums = [float(jnp.sum(jnp.asarray(x))) for x in ((p - y) ** 2, y, y**2)]
    assert not abs(metrics.r_squared(*sums, y.size) - expected) < 0.1  # its spread is even negative


def test_weights_leave_entries_out():
    y, p = np.array([1.0, 2.0, np.nan, 4.0]), np.array([1.5, 2.0, 3.0, np.inf])
    found = metrics.regression_scores(metrics.error_sums(p, y, np.array([2.0, 1.0, 0.0, 0.0])))
    assert found["mse"] == pytest.approx(2 * 0.25 / 3)
    assert found["mae"] == pytest.approx(1 / 3)
    assert found["r2"] == pytest.approx(1 - 0.5 / (2 * (1 / 3) ** 2 + (2 / 3) ** 2))


def test_shapes_must_be_equal():
    with jax.numpy_rank_promotion("allow"), pytest.raises(AssertionError):
        metrics.error_sums(np.zeros((5, 1)), np.zeros(5))
    with pytest.raises((AssertionError, ValueError)):
        metrics.error_sums(np.zeros(5), np.zeros(5), np.ones(3))
