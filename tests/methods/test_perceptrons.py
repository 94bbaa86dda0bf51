"""The perceptron compared with scikit-learn's, and the margin with its support vector machine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Perceptron
from sklearn.svm import SVC

from jaxdl.methods.perceptron import best_margin, perceptron
from tests.budget import first

N, D = 41, 3


def rows(seed, margin=0.1):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=D)
    w /= np.linalg.norm(w)
    x = rng.uniform(-1, 1, (20 * N, D))
    x = x[np.abs(x @ w + 0.2) > margin][:N]
    return x, np.where(x @ w + 0.2 > 0, 1, -1)


def with_bias(x):
    return np.hstack([x, np.ones((len(x), 1))])


@pytest.mark.parametrize("seed", first(range(7)))
@pytest.mark.parametrize("passes", [1, 5])
def test_weights_of_scikit_learn(seed, passes):
    """Bit for bit, on rows in the same order; also on classes that nothing separates."""
    x, y = rows(seed)
    y[::11] *= -1
    peer = Perceptron(shuffle=False, tol=None, max_iter=passes).fit(x, y)
    with jax.enable_x64(True):
        weights, mistakes = perceptron(jnp.asarray(with_bias(x)), jnp.asarray(y, float), passes)
    np.testing.assert_array_equal(weights[-1], [*peer.coef_[0], *peer.intercept_])
    assert mistakes.shape == (passes,)
    assert mistakes[0] > 0


def test_by_hand():
    """From (0, 0), wrong, to (1, 2); there 1 3 - 2 1 > 0 is wrong for -1, to (-2, 3); -2 1 + 3 2 and -2 3 - 3 1 fit."""
    x, y = jnp.array([[1.0, 2.0], [3.0, -1.0]]), jnp.array([1.0, -1.0])
    weights, mistakes = perceptron(x, y, 2)
    np.testing.assert_array_equal(weights, [[-2, 3], [-2, 3]])
    np.testing.assert_array_equal(mistakes, [2, 0])
    # the other order: (-3, 1); -3 + 2 = -1 wrong, (-2, 3)
    weights, mistakes = perceptron(x, y, order=jnp.array([[1, 0]]))
    np.testing.assert_array_equal(weights, [[-2, 3]])
    weights, mistakes = perceptron(x, y, start=jnp.array([-1.0, 1.0]))
    np.testing.assert_array_equal(mistakes, [0])


def test_orthonormal_rows_reach_the_bound():
    """R = 1 and the margin is 1 / sqrt(N): exactly N mistakes."""
    y = np.where(np.arange(N) % 3, 1, -1)
    margin, w = best_margin(np.eye(N), y)
    assert margin == pytest.approx(N**-0.5, abs=1e-12)
    np.testing.assert_allclose(w, y * N**-0.5, atol=1e-12)
    _, mistakes = perceptron(jnp.eye(N), jnp.asarray(y, float), 2)
    np.testing.assert_array_equal(mistakes, [N, 0])


@pytest.mark.parametrize("seed", first(range(7)))
def test_margin_of_a_support_vector_machine(seed):
    """With each row and its negative the bias of the machine is 0."""
    x, y = rows(seed)
    x = with_bias(x)
    peer = SVC(kernel="linear", C=1e9, tol=1e-9).fit(np.vstack([x, -x]), np.append(y, -y))
    margin, w = best_margin(x, y)
    assert margin == pytest.approx(1 / np.linalg.norm(peer.coef_), rel=1e-5)
    assert margin == pytest.approx((y * (x @ w)).min(), rel=1e-12)
    assert np.linalg.norm(w) == pytest.approx(1, abs=1e-12)


def test_xor_has_no_margin():
    x = with_bias(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    with pytest.raises(ValueError, match="separates"):
        best_margin(x, np.array([-1, 1, 1, -1]))
    assert best_margin(x, np.array([-1, 1, 1, 1]))[0] > 0
