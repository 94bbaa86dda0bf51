"""Bayes' rule and naive Bayes classifiers, whose fit is a sum over the rows.

    p(k | x) = p(k) p(x | k) / sum_j p(j) p(x | j),    p(x | k) = prod_d p(x_d | k)

The statistics of two sets of rows are merged into those of both, so they can be gathered batch by batch and device by
device. All functions compute in the dtype of their arguments: float64 within `jax.enable_x64(True)`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl.metrics import merge_spreads

__all__ = [
    "Counts", "Moments", "bayes", "bernoulli", "counts", "gaussian", "log_posterior", "merge_counts", "merge_moments",
    "moments",
]  # fmt: skip
Total = Callable[[Any], Any]


class Counts(NamedTuple):
    """Statistics of binary features: the number of rows of each class [K], and of those with feature d [K, D]."""

    rows: Array
    ones: Array


class Moments(NamedTuple):
    """Statistics of real features: rows of each class [K], their means and sums of squared deviations [K, D]."""

    rows: Array
    mean: Array
    squares: Array


def bayes(prior: Any, likelihood: Any) -> Any:
    """Returns the posterior p(k | e) = p(k) p(e | k) / sum_j p(j) p(e | j): [K], exact for arrays of fractions.

    Args:
      prior: p(k) [K].
      likelihood: p(e | k) [K], the probability of the evidence in each class.
    """
    joint = prior * likelihood
    return joint / joint.sum()


def log_posterior(log_joint: Array) -> Array:
    """Returns log p(k | x) [B, K], given log p(x, k)."""
    return jax.nn.log_softmax(log_joint)


def _members(x: Array, y: Array, classes: int, where: Array | None) -> Array:
    members = jax.nn.one_hot(y, classes, dtype=x.dtype)
    return members if where is None else members * where[:, None].astype(x.dtype)


def counts(x: Array, y: Array, classes: int, where: Array | None = None, total: Total = lambda tree: tree) -> Counts:
    """Returns the statistics for `bernoulli`.

    Args:
      x: [B, D], float, 0 or 1.
      y: integers [B] in 0 ... K - 1.
      classes: K.
      where: weights [B] >= 0; 0 leaves a row out, whose x must still be finite. None: all ones.
      total: sums a pytree over all devices if each has a part of the rows.
    """
    members = _members(x, y, classes, where)
    return total(Counts(members.sum(0), jnp.matmul(members.T, x, precision="highest")))


def merge_counts(a: Counts, b: Counts) -> Counts:
    """Returns the statistics of the rows behind `a` and `b` together."""
    return jax.tree.map(jnp.add, a, b)


def moments(x: Array, y: Array, classes: int, where: Array | None = None, total: Total = lambda tree: tree) -> Moments:
    """Returns the statistics for `gaussian`; x: [B, D], float, and the other arguments as for `counts`.

    The deviations are those from the mean over all devices, so squares of large numbers never cancel.
    """
    members = _members(x, y, classes, where)
    rows, sums = total((members.sum(0), jnp.matmul(members.T, x, precision="highest")))
    mean = sums / jnp.maximum(rows, 1e-30)[:, None]
    deviations = x - jnp.take(mean, y, axis=0)
    return Moments(rows, mean, total(jnp.matmul(members.T, deviations**2, precision="highest")))


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Returns the statistics of the rows behind `a` and `b` together, by `jaxdl.metrics.merge_spreads`."""
    rows, mean, squares = (jnp.stack(pair) for pair in zip(a, b, strict=True))
    n, mean, squares = merge_spreads(rows[..., None], mean, squares)
    return Moments(n[:, 0], mean, squares)


def bernoulli(statistics: Counts, x: Array, smoothing: float = 1.0) -> Array:
    """Returns log p(x, k) [B, K] of binary features: p(x_d = 1 | k) = (n_kd + s) / (n_k + 2 s), p(k) = n_k / n.

    Args:
      statistics: of the training rows. A class without rows has log p(x, k) = -inf.
      x: [B, D], float, 0 or 1.
      smoothing: s >= 0, the occurrences added to each value of a feature; 1 is Laplace's rule of succession. With 0,
        a value that a class never has makes the result infinite or NaN.
    """
    rows, ones = statistics
    each = (rows + 2 * smoothing)[:, None]
    on, off = jnp.log((ones + smoothing) / each), jnp.log((rows[:, None] - ones + smoothing) / each)
    chosen = jnp.matmul(x, (on - off).T, precision="highest") + off.sum(1)[None]
    return chosen + jnp.log(rows / rows.sum())[None]


def gaussian(statistics: Moments, x: Array, smoothing: float = 1e-9) -> Array:
    """Returns log p(x, k) [B, K] of normal features with each class's own means and variances, p(k) = n_k / n.

    Args:
      statistics: of the training rows. A class without rows has log p(x, k) = -inf.
      x: [B, D], float.
      smoothing: a fraction of the largest variance of a feature over all rows, added to every variance; as in
        scikit-learn. Without it, a feature that is constant in a class has density infinity or 0 there.
    """
    rows, mean, squares = statistics
    share = (rows / rows.sum())[:, None]
    middle = (share * mean).sum(0, keepdims=True)
    whole = (squares / rows.sum() + share * (mean - middle) ** 2).sum(0)
    variance = squares / jnp.maximum(rows, 1e-30)[:, None] + smoothing * whole.max()
    distance = ((x[:, None, :] - mean[None]) ** 2 / variance[None]).sum(-1)
    return jnp.log(share).T - 0.5 * jnp.log(2 * jnp.pi * variance).sum(1)[None] - 0.5 * distance
