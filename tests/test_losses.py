import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import losses

RNG = np.random.default_rng(4)
P, T = RNG.normal(size=(2, 5, 3, 7)).astype(np.float32)
LOGITS = 2 * P
LABELS = RNG.integers(0, 7, (5, 3)).astype(np.int32)
TARGETS = RNG.integers(0, 2, (5, 3, 7))


def same_as_torch(ours, theirs, x, *rest, value_tolerance=1e-6):
    """Compares values and the gradient of their weighted sum; the weights reveal a wrong order."""
    torch = pytest.importorskip("torch")
    tx = torch.tensor(x, requires_grad=True)
    expected = theirs(tx, *(torch.tensor(np.asarray(r)) for r in rest))
    w = np.linspace(0.5, 2, expected.numel(), dtype=np.float32).reshape(expected.shape)
    y, grad = jax.jit(lambda x: (ours(x, *rest), jax.grad(lambda x: (w * ours(x, *rest)).sum())(x)))(x)
    assert y.shape == expected.shape
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, expected.detach(), atol=value_tolerance, rtol=1e-5)
    (expected * torch.tensor(w)).sum().backward()
    np.testing.assert_allclose(grad, tx.grad, atol=1e-6, rtol=1e-5)


def test_regression_losses_against_torch():
    F = pytest.importorskip("torch").nn.functional
    same_as_torch(losses.squared_error, lambda p, t: F.mse_loss(p, t, reduction="none"), P, T)
    same_as_torch(losses.absolute_error, lambda p, t: F.l1_loss(p, t, reduction="none"), P, T)
    for delta in (0.3, 1.0, 2.5):
        same_as_torch(
            lambda p, t: losses.huber(p, t, delta), lambda p, t: F.huber_loss(p, t, reduction="none", delta=delta), P, T
        )


def test_squared_error_has_no_half_and_huber_has_one():
    p, t = jnp.array([0.0, 3.0]), jnp.array([0.5, 0.0])
    np.testing.assert_allclose(losses.squared_error(p, t), [0.25, 9.0])
    np.testing.assert_allclose(losses.absolute_error(p, t), [0.5, 3.0])
    np.testing.assert_allclose(losses.huber(p, t), [0.125, 2.5])
    np.testing.assert_allclose(losses.huber(p, t, delta=2.0), [0.125, 4.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_softmax_cross_entropy_against_torch(smoothing):
    F = pytest.importorskip("torch").nn.functional
    same_as_torch(
        lambda z, y: losses.softmax_cross_entropy(z, y, smoothing),
        lambda z, y: F.cross_entropy(z.movedim(-1, 1), y.long(), reduction="none", label_smoothing=smoothing),
        LOGITS,
        LABELS,
    )


def test_softmax_cross_entropy_of_large_logits():
    z = jnp.array([[1e4, 0.0, -1e4]] * 3)
    for smoothing in (0.0, 0.3):
        loss = jax.jit(losses.softmax_cross_entropy, static_argnums=2)(z, jnp.arange(3), smoothing)
        np.testing.assert_allclose(loss, (1 - smoothing) * np.array([0, 1e4, 2e4]) + smoothing * 1e4, rtol=1e-6)


def test_labels_outside_the_classes():
    z = np.repeat(LOGITS[:1, 0], 4, 0)
    loss = np.asarray(jax.jit(losses.softmax_cross_entropy)(z, jnp.array([7, 100, -1, 6])))
    assert np.isnan(loss[:2]).all()
    assert loss[2] == loss[3]


def test_sigmoid_cross_entropy_against_torch():
    F = pytest.importorskip("torch").nn.functional
    same_as_torch(
        losses.sigmoid_cross_entropy,
        lambda z, t: F.binary_cross_entropy_with_logits(z, t.float(), reduction="none"),
        LOGITS,
        TARGETS,
    )
    np.testing.assert_allclose(losses.sigmoid_cross_entropy(jnp.array([-1e4, 1e4]), jnp.array([1, 0])), [1e4, 1e4])


def test_sigmoid_cross_entropy_second_derivative_and_derivative_by_targets():
    z, t = jnp.array([-3.0, 0.0, 2.0]), jnp.array([1.0, 0.3, 0.0])
    s = 1 / (1 + np.exp(-z))
    curvature = jax.vmap(jax.grad(jax.grad(losses.sigmoid_cross_entropy)))(z, t)
    np.testing.assert_allclose(curvature, s * (1 - s), rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(jax.grad(losses.sigmoid_cross_entropy, 1))(z, t), -z)


def test_sigmoid_cross_entropy_of_confident_correct_logits_is_not_0():
    loss = losses.sigmoid_cross_entropy(jnp.array([30.0, -30.0]), jnp.array([True, False]))
    np.testing.assert_allclose(loss, np.exp(-30.0), rtol=1e-5)


def test_gaussian_kl_against_torch():
    D = pytest.importorskip("torch").distributions

    def theirs(m, log_variance):
        return D.kl_divergence(D.Normal(m, (log_variance / 2).exp()), D.Normal(m * 0, m * 0 + 1))

    same_as_torch(losses.gaussian_kl, theirs, P, T)
    same_as_torch(
        lambda log_variance, m: losses.gaussian_kl(m, log_variance),
        lambda log_variance, m: theirs(m, log_variance),
        T,
        P,
    )


def test_gaussian_kl_near_the_prior():
    np.testing.assert_allclose(losses.gaussian_kl(jnp.zeros(2), jnp.array([0.0, 1e-3])), [0, 1e-6 / 4], rtol=1e-3)


def test_binary_sigmoid_is_a_softmax_of_two():
    z = LOGITS[..., 0]
    pair = np.stack([np.zeros_like(z), z], -1)
    sigmoid = jax.jit(losses.sigmoid_cross_entropy)(z, TARGETS[..., 0])
    np.testing.assert_allclose(sigmoid, jax.jit(losses.softmax_cross_entropy)(pair, TARGETS[..., 0]), atol=1e-6)


def test_softmax_then_cross_entropy_against_torch():
    torch = pytest.importorskip("torch")
    same_as_torch(
        losses.softmax_then_cross_entropy,
        lambda z, y: torch.nn.functional.cross_entropy(z.softmax(-1).movedim(-1, 1), y.long(), reduction="none"),
        LOGITS,
        LABELS,
    )


@pytest.mark.parametrize("N", [2, 3, 10])
def test_softmax_then_cross_entropy_is_bounded(N):
    low, high = math.log(1 + (N - 1) / math.e), math.log(N - 1 + math.e)
    if N == 10:
        assert low == pytest.approx(1.4612, abs=5e-5)
    confident, random = 1e3 * np.eye(N), 5 * np.random.default_rng(0).normal(size=(997, N))
    z = np.float32(np.concatenate([confident, confident, random]))
    y = np.concatenate([np.arange(N), (np.arange(N) + 1) % N, np.arange(997) % N])
    right, wrong, rest = np.split(jax.jit(losses.softmax_then_cross_entropy)(z, y), [N, 2 * N])
    np.testing.assert_allclose(right, low, rtol=1e-6)
    np.testing.assert_allclose(wrong, high, rtol=1e-6)
    assert low - 1e-6 <= rest.min() < rest.max() <= high + 1e-6


def test_softmax_then_cross_entropy_hardly_corrects_confident_mistakes():
    z, y = jnp.array([20.0, 0.0, 0.0]), jnp.array(1)
    assert abs(jax.jit(jax.grad(losses.softmax_cross_entropy))(z, y)).max() > 0.99
    assert abs(jax.jit(jax.grad(losses.softmax_then_cross_entropy))(z, y)).max() < 1e-8


ELEMENTWISE = [
    losses.squared_error,
    losses.absolute_error,
    losses.huber,
    losses.sigmoid_cross_entropy,
    losses.gaussian_kl,
]


@pytest.mark.parametrize("loss", ELEMENTWISE)
@pytest.mark.parametrize("shapes", [((5,), (5, 1)), ((5, 1), (5,)), ((5, 1), (1, 5)), ((5, 1), (5, 3)), ((5, 3), ())])
def test_shapes_are_never_broadcast(loss, shapes):
    p, t = (jnp.zeros(shape) for shape in shapes)
    with jax.numpy_rank_promotion("allow"), pytest.raises((AssertionError, ValueError)):
        jax.eval_shape(loss, p, t)


@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy, losses.softmax_then_cross_entropy])
@pytest.mark.parametrize("shape", [(5, 1), (1,), (5, 3), ()])
def test_labels_must_have_the_shape_of_the_examples(loss, shape):
    with jax.numpy_rank_promotion("allow"), pytest.raises(AssertionError):
        loss(jnp.zeros((5, 3)), jnp.zeros(shape, jnp.int32))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_bad_smoothing(smoothing):
    with pytest.raises(ValueError, match="label_smoothing"):
        losses.softmax_cross_entropy(LOGITS, LABELS, smoothing)
