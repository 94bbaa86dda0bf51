"""Losses, not reduced: one value per entry, so that masks and weights act before the mean (`core.weighted_mean`).

Regression: squared_error, absolute_error, huber. Classification: softmax_cross_entropy for one class of N,
sigmoid_cross_entropy for labels that are each true or false. Latent variables: gaussian_kl. Shapes must agree exactly:
[B] against [B, 1] raises, where NumPy's rules would make [B, B] of it.
"""

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array
from optax import squared_error  # (p - t)^2 without a factor 1/2; raises by itself unless the shapes are equal

__all__ = [
    "absolute_error",
    "gaussian_kl",
    "huber",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "softmax_then_cross_entropy",
    "squared_error",
]


def absolute_error(predictions: Array, targets: Array) -> Array:
    """|p - t|, whose minimiser is the median; gradient sign(p - t), 0 where they are equal.

    Args:
      predictions: [B, ...], float.
      targets: of the same shape.

    Returns:
      [B, ...], not reduced.

    Raises:
      AssertionError: the shapes differ.
    """
    chex.assert_equal_shape([predictions, targets])
    return jnp.abs(predictions - targets)


def huber(predictions: Array, targets: Array, delta: float = 1.0) -> Array:
    """With r = |p - t|: r^2 / 2 up to r = delta, delta (r - delta / 2) beyond (optax's, with shapes checked).

    Args:
      predictions: [B, ...], float.
      targets: of the same shape.
      delta: where the parabola goes over into the straight line, > 0; the gradient is clipped to [-delta, delta].

    Returns:
      [B, ...], not reduced.

    Raises:
      AssertionError: the shapes differ.

    Reference: Huber 1964, Robust estimation of a location parameter.
    """
    chex.assert_equal_shape([predictions, targets])
    return optax.huber_loss(predictions, targets, delta=delta)


def softmax_cross_entropy(logits: Array, labels: Array, label_smoothing: float = 0.0) -> Array:
    """-sum_k q_k log softmax(z)_k with q = (1 - a) onehot(y) + a / N.

    Args:
      logits: [B, ..., N], float.
      labels: [B, ...], integers in [0, N). Under jit nobody can raise for others: N and above give NaN, negative ones
        count from the end.
      label_smoothing: a in [0, 1); 0 is the negative log likelihood -log softmax(z)_y.

    Returns:
      [B, ...], not reduced, in nats.

    Raises:
      AssertionError: the shape of labels is not that of logits without its last axis.
      ValueError: label_smoothing is outside [0, 1).

    Reference: label smoothing: Szegedy et al. 2015, arXiv:1512.00567.
    """
    chex.assert_shape(labels, logits.shape[:-1])
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}, it must be in [0, 1)")
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if label_smoothing == 0:
        return loss
    return (1 - label_smoothing) * loss - label_smoothing * jax.nn.log_softmax(logits).mean(-1)


def sigmoid_cross_entropy(logits: Array, targets: Array) -> Array:
    """-t log s(z) - (1 - t) log(1 - s(z)), s the sigmoid: each label by itself, binary or multi-label.

    Args:
      logits: [B] or [B, ..., N], float.
      targets: of the same shape, probabilities in [0, 1], any number type.

    Returns:
      Of the same shape, not reduced over labels either: [B, N] for N labels, in nats.

    Raises:
      AssertionError: the shapes differ.
    """
    chex.assert_equal_shape([logits, targets])
    return _sigmoid_cross_entropy(logits, targets.astype(logits.dtype))


# optax takes two log-sigmoids, four transcendental functions per label: value and gradient of [128, 784] logits, the
# pixels of a batch of images, take 0.6 ms of a CPU step with it and 0.08 ms so. The derivative is given because that of
# max(z, 0) and |z| is right at z = 0, but not the second one, 0 there instead of 1/4.
@jax.custom_jvp
def _sigmoid_cross_entropy(logits: Array, targets: Array) -> Array:
    return jnp.maximum(logits, 0) - logits * targets + jnp.log1p(jnp.exp(-jnp.abs(logits)))


_sigmoid_cross_entropy.defjvps(
    lambda tangent, loss, logits, targets: (jax.nn.sigmoid(logits) - targets) * tangent,
    lambda tangent, loss, logits, targets: -logits * tangent,
)


def gaussian_kl(mean: Array, log_variance: Array) -> Array:
    """The D terms of KL(N(m, diag s^2) || N(0, I)) = sum_d 1/2 (m_d^2 + s_d^2 - 1 - log s_d^2).

    Args:
      mean: m, [B, ..., D], float.
      log_variance: log s^2, of the same shape.

    Returns:
      [B, ..., D], not reduced, each term >= 0, in nats: how much each dimension says of the example.

    Raises:
      AssertionError: the shapes differ.

    Reference: Kingma & Welling 2013, arXiv:1312.6114, appendix B.
    """
    chex.assert_equal_shape([mean, log_variance])
    # expm1: near the prior e^l - 1 - l is a small difference of numbers near 1
    return (mean**2 + jnp.expm1(log_variance) - log_variance) / 2


def softmax_then_cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy of probabilities taken for logits, -log softmax(softmax(z))_y: a mistake, kept to be shown.

    This is what a network trains whose last layer is a softmax and whose loss has one too (PyTorch's CrossEntropyLoss).
    Probabilities p differ by at most 1, so the loss stays between log(1 + (N - 1) / e) for a perfect classifier, 1.4612
    for N = 10, and log(N - 1 + e) for the worst. Its gradient passes through the Jacobian diag(p) - p p^T, which
    vanishes for confidently wrong examples as well as for right ones.

    Args:
      logits: [B, ..., N], float.
      labels: [B, ...], integers in [0, N).

    Returns:
      [B, ...], not reduced, in nats.

    Raises:
      AssertionError: the shape of labels is not that of logits without its last axis.
    """
    return softmax_cross_entropy(jax.nn.softmax(logits), labels)
