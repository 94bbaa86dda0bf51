"""Entropy, cross-entropy and divergence of discrete distributions, given as probabilities.

Training uses losses of logits (`jaxdl.losses`), which do not lose digits where a probability is near 0 or 1.
"""

import math
from typing import Any

import chex


def entropy(p: Any, base: float = math.e) -> Any:
    """Returns H(p) = -sum_k p_k log p_k, with 0 log 0 = 0.

    Args:
      p: [..., N], probabilities that sum to 1 over the last axis; NumPy (float64 on the host) or JAX.
      base: of the logarithm: e for nats, 2 for bits.

    Returns:
      [...], in [0, log N].
    """
    return cross_entropy(p, p, base)


def cross_entropy(p: Any, q: Any, base: float = math.e) -> Any:
    """Returns H(p, q) = -sum_k p_k log q_k = H(p) + KL(p || q), with 0 log 0 = 0.

    With p one-hot, the negative log likelihood of the true class. It is smallest, H(p), where q = p.

    Args:
      p: [..., N], the true probabilities.
      q: [..., N], the predicted ones.
      base: of the logarithm.

    Returns:
      [...], >= 0; infinite where q_k = 0 < p_k.

    Raises:
      AssertionError: if the shapes differ.

    Reference: Shannon 1948; Good 1956.
    """
    chex.assert_equal_shape([p, q])
    xp = q.__array_namespace__()
    logs = xp.log(xp.where(q > 0, q, 1)) / math.log(base)
    terms = xp.where(p > 0, xp.where(q > 0, -p * logs, xp.inf), 0)
    return xp.sum(terms, axis=-1)


def kl_divergence(p: Any, q: Any, base: float = math.e) -> Any:
    """Returns KL(p || q) = sum_k p_k log (p_k / q_k) = H(p, q) - H(p), >= 0, and 0 only where q = p.

    Arguments, return value and errors are those of `cross_entropy`. It is not symmetric.

    Reference: Kullback and Leibler 1951.
    """
    chex.assert_equal_shape([p, q])
    xp = q.__array_namespace__()
    both = (p > 0) & (q > 0)
    logs = xp.log(xp.where(both, p, 1) / xp.where(both, q, 1)) / math.log(base)
    # the sum of p log(p/q) + q - p, whose terms are not negative: rounding cannot make the divergence so
    terms = xp.where(both, p * logs * math.log(base) + q - p, xp.where(p > 0, xp.inf, q)) / math.log(base)
    return xp.sum(terms, axis=-1)
