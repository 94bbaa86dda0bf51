import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxdl import metrics

RANDOM = np.random.default_rng(1)
P, Q = RANDOM.dirichlet(np.ones(7), (2, 101))
HOLES = np.where(P < 0.05, 0, P)
HOLES /= HOLES.sum(-1, keepdims=True)


@pytest.mark.parametrize("base", [np.e, 2.0, 10.0])
def test_equal_scipys(base):
    for p in (P, HOLES):
        np.testing.assert_allclose(metrics.entropy(p, base), stats.entropy(p, base=base, axis=-1), atol=1e-12)
        np.testing.assert_allclose(metrics.kl_divergence(p, Q, base), stats.entropy(p, Q, base, axis=-1), atol=1e-12)
    both = metrics.entropy(P, base) + metrics.kl_divergence(P, Q, base)
    np.testing.assert_allclose(metrics.cross_entropy(P, Q, base), both, atol=1e-12)


def test_zeros():
    """0 log 0 is 0, and a class that was excluded but occurs costs infinitely much."""
    sure, half = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    assert metrics.entropy(sure) == 0
    assert metrics.cross_entropy(sure, half, 2) == 1
    assert metrics.cross_entropy(half, sure) == metrics.kl_divergence(half, sure) == np.inf
    assert metrics.kl_divergence(sure, sure) == 0


def test_in_jax():
    """Float32, under jit; the divergence of equal distributions is 0 and not a negative rounding error."""
    p, q = jnp.asarray(HOLES, jnp.float32), jnp.asarray(Q, jnp.float32)
    found = jax.jit(metrics.kl_divergence)(p, q)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, stats.entropy(HOLES, Q, axis=-1), rtol=1e-5, atol=1e-6)
    assert (jax.jit(metrics.kl_divergence)(q, q * (1 + 1e-7)) >= 0).all()


def test_shapes_must_be_equal():
    for function in (metrics.cross_entropy, metrics.kl_divergence):
        with pytest.raises(AssertionError):
            function(P, Q[:, :3])
