"""Scores of generated examples."""

from collections.abc import Mapping
from typing import Any, SupportsFloat

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def moments(features: Array, where: Array | None = None) -> dict[str, Array]:
    """Sums from which mean and covariance follow: n = sum w,  sum w x,  sum w x x^T; they add up over batches.

    As for `r_squared`: where the mean is large against the spread, add up x minus a constant near it; a distance
    between two sets of features does not change if the same is taken off both.

    Args:
      features: [B, D], float.
      where: [B], weights >= 0; 0 leaves an example out, whatever stands there. None: all ones.

    Returns:
      float32 {"count": [], "sum": [D], "outer": [D, D]}.

    Raises:
      AssertionError: other shapes.
    """
    chex.assert_rank(features, 2)
    where = jnp.ones(len(features)) if where is None else where.astype(jnp.float32)
    chex.assert_shape(where, (len(features),))
    x = jnp.where(where[:, None] > 0, features, 0).astype(jnp.float32)
    weighted = where[:, None] * x
    # "highest": accelerators would round the factors to 10 or 8 bits
    return {
        "count": jnp.sum(where),
        "sum": jnp.sum(weighted, axis=0),
        "outer": jnp.matmul(weighted.T, x, precision="highest"),
    }


def mean_and_covariance(sums: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """m = sum x / n,  C = (sum x x^T - n m m^T) / (n - 1), on the host in float64, from `moments` added up.

    A single example has C = 0.

    Args:
      sums: {"count", "sum": [D], "outer": [D, D]}.

    Returns:
      (m [D], C [D, D]), float64.

    Raises:
      ValueError: no examples.
    """
    n, total, outer = (np.asarray(sums[key], np.float64) for key in ("count", "sum", "outer"))
    if not n > 0:
        raise ValueError(f"mean and covariance need an example, the weights add up to {n:g}")
    mean = total / n
    return mean, (outer - n * np.outer(mean, mean)) / max(float(n) - 1, 1.0)


def frechet_distance(mean1: ArrayLike, cov1: ArrayLike, mean2: ArrayLike, cov2: ArrayLike) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), the squared 2-Wasserstein distance of two Gaussians.

    C1 C2 has the eigenvalues of the symmetric C1^1/2 C2 C1^1/2, so two symmetric eigenproblems give the trace of the
    root; eigenvalues that rounding made negative count as 0, and singular covariances need no special case.

    In the features of the Inception network it is the FID; in those of another network the numbers compare only among
    themselves. With n examples for D features it is too large by about D^2 / n in units of a feature's variance: give
    n with every figure.

    Args:
      mean1: [D].
      cov1: [D, D], symmetric, no eigenvalue below 0.
      mean2: [D].
      cov2: [D, D], the same.

    Returns:
      A number >= 0.

    Raises:
      ValueError: the shapes do not fit.

    References:
      Dowson and Landau 1982; Heusel et al. 2017, arXiv:1706.08500 (FID).
    """
    m1, c1, m2, c2 = (np.asarray(x, np.float64) for x in (mean1, cov1, mean2, cov2))
    if m1.ndim != 1 or m1.shape != m2.shape or not c1.shape == c2.shape == 2 * m1.shape:
        shapes = ", ".join(str(list(x.shape)) for x in (m1, c1, m2, c2))
        raise ValueError(f"means and covariances have shapes {shapes}; [D], [D, D], [D], [D, D] are needed")
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    middle = np.linalg.eigvalsh(root @ c2 @ root)
    distance = np.sum((m1 - m2) ** 2) + np.trace(c1) + np.trace(c2) - 2 * np.sum(np.sqrt(np.maximum(middle, 0)))
    return max(0.0, float(distance))


def earth_movers_distance(x: ArrayLike, y: ArrayLike) -> float:
    """min over pairings p of the mean of |x_i - y_p(i)|: the 1-Wasserstein distance of two samples of equal size.

    The pairing costs some n^3 operations: a second for a few thousand points.

    Args:
      x: [n, D].
      y: [n, D].

    Returns:
      A number >= 0, in the unit of x.

    Raises:
      ValueError: the shapes differ.

    References:
      Rubner, Tomasi and Guibas 2000; in GANs, Arjovsky et al. 2017, arXiv:1701.07875.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape or x.ndim != 2:
        raise ValueError(f"samples of shapes {list(x.shape)} and {list(y.shape)}; both must be the same [n, D]")
    cost = cdist(x, y)
    return float(cost[linear_sum_assignment(cost)].mean())


def mode_hits(samples: Array, centres: Array, radius: float) -> Array:
    """1 where centre k is the nearest one and |x - c_k| <= radius, else 0; sum over samples to count modes.

    Args:
      samples: [B, D], float.
      centres: [N, D], float: where the modes of the true distribution are.
      radius: > 0, three standard deviations of a mode for example.

    Returns:
      [B, N], 0 or 1; at most one 1 in a row.

    Raises:
      AssertionError: other shapes.
    """
    chex.assert_rank([samples, centres], 2)
    chex.assert_equal_shape_suffix([samples, centres], 1)
    distance = jnp.linalg.norm(samples[:, None] - centres[None], axis=-1)
    near = jnp.min(distance, axis=-1, keepdims=True) <= radius
    return jax.nn.one_hot(distance.argmin(-1), len(centres)) * near


def modes_found(hits: ArrayLike, samples: SupportsFloat, share: float = 0.2) -> int:
    """How many modes have at least `share` of their fair part of all samples: n_k >= share n / N.

    Args:
      hits: [N], how many samples fell on each mode: `mode_hits` summed.
      samples: n, all of them, those far from every mode too.
      share: in (0, 1]. 0.2 lets a mode of 8 be found with 2.5% of the samples.

    Returns:
      0 ... N.
    """
    counts = np.asarray(hits, np.float64)
    return int(np.sum(counts >= share * float(samples) / len(counts)))
