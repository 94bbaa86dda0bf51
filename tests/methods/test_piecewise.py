import jax
import numpy as np
import pytest

from jaxdl.methods.piecewise import fold, relu_sum
from jaxdl.nn import MLP


def apply(features, params, x):
    with jax.enable_x64(True):
        return np.asarray(MLP(features).apply({"params": params}, np.asarray(x)[:, None]))[:, 0]


def test_a_sum_of_relus_is_the_interpolant():
    random = np.random.default_rng(0)
    knots, values = np.sort(random.uniform(-3, 5, 12)), random.normal(size=12)
    x = np.linspace(-4, knots[-1], 101)
    np.testing.assert_allclose(apply((11, 1), relu_sum(knots, values), x), np.interp(x, knots, values), atol=1e-12)
    beyond = apply((1, 1), relu_sum(np.array([0.0, 1.0]), np.array([2.0, 5.0])), np.array([3.0, -1.0]))
    np.testing.assert_allclose(beyond, [11.0, 2.0])  # the last slope continues, and to the left it is constant


@pytest.mark.parametrize(("knots", "values"), [([1.0], [1.0]), ([0.0, 0.0], [1.0, 2.0]), ([0.0, 1.0], [1.0])])
def test_what_has_no_interpolant_raises(knots, values):
    with pytest.raises(ValueError, match="increasing knots"):
        relu_sum(np.array(knots), np.array(values))


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_folding_gives_a_sawtooth(depth):
    """By hand: 0 at even and 1 at odd multiples of 2^-depth, linear in between."""
    corners = np.arange(2**depth + 1) / 2**depth
    x = np.linspace(0, 1, 331)
    expected = np.interp(x, corners, np.arange(2**depth + 1) % 2)
    np.testing.assert_allclose(apply((2,) * depth + (1,), fold(depth), x), expected, atol=1e-12)
