"""Naive Bayes compared with scikit-learn's in float64, with hand-worked numbers, and over parts of the rows."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.naive_bayes import BernoulliNB, GaussianNB

from jaxdl.methods import naive_bayes as nb
from tests.budget import first

B, D, K = 101, 7, 3
PEERS = {"bernoulli": BernoulliNB, "gaussian": GaussianNB}
OURS = {
    "bernoulli": (nb.counts, nb.merge_counts, nb.bernoulli),
    "gaussian": (nb.moments, nb.merge_moments, nb.gaussian),
}
both = pytest.mark.parametrize("model", OURS)


def rows(model, offset=0.0):
    rng = np.random.default_rng(0)
    y = rng.integers(K, size=B)
    y[:K] = np.arange(K)
    x = rng.normal(size=(B, D)) * rng.uniform(0.1, 3, D) + rng.normal(size=(K, D))[y]
    return (x > 0.5).astype(float) if model == "bernoulli" else x + offset, y


def in_parts(model, x, y, sizes, **options):
    gather, merge, _ = OURS[model]
    cuts = np.cumsum([0, *sizes])
    found = [gather(jnp.asarray(x[a:b]), jnp.asarray(y[a:b]), K, **options) for a, b in itertools.pairwise(cuts)]
    whole = found[0]
    for part in found[1:]:
        whole = merge(whole, part)
    return whole


@both
@pytest.mark.parametrize("smoothing", first([None, 0.3]))
def test_log_posteriors_of_scikit_learn(model, smoothing):
    x, y = rows(model)
    options = {} if smoothing is None else {{"bernoulli": "alpha", "gaussian": "var_smoothing"}[model]: smoothing}
    peer = PEERS[model](**options).fit(x[:59], y[:59])
    with jax.enable_x64(True):
        statistics = in_parts(model, x[:59], y[:59], [59])
        joint = OURS[model][2](statistics, jnp.asarray(x), **({} if smoothing is None else {"smoothing": smoothing}))
        assert joint.dtype == np.float64
        found = np.asarray(nb.log_posterior(joint))
    np.testing.assert_allclose(joint, peer.predict_joint_log_proba(x), atol=1e-9, rtol=0)
    np.testing.assert_allclose(found, peer.predict_log_proba(x), atol=1e-9, rtol=0)


@both
def test_statistics_of_parts_are_those_of_all_rows(model):
    """A part of one row, parts without some classes, and an empty one."""
    x, y = rows(model)
    order = np.argsort(y, kind="stable")
    with jax.enable_x64(True):
        whole, parts = in_parts(model, x, y, [B]), in_parts(model, x[order], y[order], [1, 0, 41, 13, 46])
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-12)


@both
def test_rows_of_weight_zero_are_left_out(model):
    x, y = rows(model)
    where = np.arange(B) % 3 > 0
    masked = OURS[model][0](jnp.asarray(x), jnp.asarray(y), K, jnp.asarray(where))
    for one, other in zip(masked, OURS[model][0](jnp.asarray(x[where]), jnp.asarray(y[where]), K), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-5)


@both
def test_parts_on_devices_are_added(model):
    """`total` sums over devices; here over the axis of a vmap."""
    x, y = (a[:99] for a in rows(model))
    total = lambda tree: jax.lax.psum(tree, "devices")
    parts = jnp.asarray(x.reshape(9, 11, D), jnp.float32), jnp.asarray(y.reshape(9, 11))
    split = jax.vmap(lambda x, y: OURS[model][0](x, y, K, None, total), axis_name="devices")(*parts)
    for one, other in zip(split, OURS[model][0](jnp.asarray(x), jnp.asarray(y), K), strict=True):
        np.testing.assert_allclose(one, np.broadcast_to(other, one.shape), rtol=2e-5, atol=1e-5)


def test_variances_far_from_zero_are_exact_in_float32():
    """Sums of squares would have no correct digit: (10^4)^2 has a spacing of 8 in float32."""
    x, y = rows("gaussian", offset=1e4)
    x = x.astype(np.float32)
    found = in_parts("gaussian", x, y, [7, 53, 41])
    exact = [x[y == k].astype(np.float64) for k in range(K)]
    np.testing.assert_allclose(found.mean, [one.mean(0) for one in exact], rtol=1e-6)
    variances = np.asarray(found.squares) / np.asarray(found.rows)[:, None]
    np.testing.assert_allclose(variances, [one.var(0) for one in exact], rtol=1e-2)


def test_laplace_by_hand():
    # two rows of class 0 with a one in one of them: p = 2/4; one row of class 1 with a one: p = 2/3
    statistics = nb.counts(jnp.array([[1.0], [0.0], [1.0]]), jnp.array([0, 0, 1]), 2)
    joint = np.exp(nb.bernoulli(statistics, jnp.array([[1.0], [0.0]])))
    np.testing.assert_allclose(joint, [[2 / 3 / 2, 1 / 3 * 2 / 3], [2 / 3 / 2, 1 / 3 / 3]], rtol=1e-6)


@both
def test_a_class_without_rows_is_impossible(model):
    x, y = rows(model)
    statistics = OURS[model][0](jnp.asarray(x[y > 0]), jnp.asarray(y[y > 0]), K)
    joint = np.asarray(OURS[model][2](statistics, jnp.asarray(x)))
    assert np.all(joint[:, 0] == -np.inf)
    assert np.isfinite(joint[:, 1:]).all()
    assert np.isfinite(np.exp(nb.log_posterior(joint))).all()


def test_bayes_is_exact_with_fractions():
    half, third = Fraction(1, 2), Fraction(1, 3)
    found = nb.bayes(np.array([half, third, 1 - half - third]), np.array([Fraction(1, 5), half, Fraction(0)]))
    assert list(found) == [Fraction(3, 8), Fraction(5, 8), 0]
    np.testing.assert_allclose(nb.bayes(np.array([0.01, 0.99]), np.array([0.9, 0.1])), [1 / 12, 11 / 12])
