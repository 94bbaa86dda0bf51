"""Metrics of generated examples."""

from collections.abc import Mapping
from typing import Any, SupportsFloat

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def moments(features: Array, where: Array | None = None) -> dict[str, Array]:
    """Returns the sums n = sum w, sum w x and sum w x x^T, from which `mean_and_covariance` follow.

    The sums of several batches can be added. If the mean is large compared with the standard deviation, subtract a
    constant near the mean from x first, or float32 loses digits; a distance between two sets of features does not
    change if the same constant is subtracted from both.

    Args:
      features: x, [B, D], float.
      where: w, weights [B], >= 0; weight 0 excludes an example, even a NaN. None: all ones.

    Returns:
      {"count": [], "sum": [D], "outer": [D, D]}, float32.

    Raises:
      AssertionError: if features is not of rank 2, or where is not [B].
    """
    chex.assert_rank(features, 2)
    where = jnp.ones(len(features)) if where is None else where.astype(jnp.float32)
    chex.assert_shape(where, (len(features),))
    x = jnp.where(where[:, None] > 0, features, 0).astype(jnp.float32)
    weighted = where[:, None] * x
    # "highest", because accelerators round the factors to 10 or 8 bits by default
    return {
        "count": jnp.sum(where),
        "sum": jnp.sum(weighted, axis=0),
        "outer": jnp.matmul(weighted.T, x, precision="highest"),
    }


def mean_and_covariance(sums: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean m = sum x / n and the covariance C = (sum x x^T - n m m^T) / (n - 1).

    Args:
      sums: {"count": n, "sum": [D], "outer": [D, D]}, the sum of the `moments` of all batches.

    Returns:
      (m [D], C [D, D]), float64, computed on the host. C is 0 for a single example.

    Raises:
      ValueError: if n is 0.
    """
    n, total, outer = (np.asarray(sums[key], np.float64) for key in ("count", "sum", "outer"))
    if not n > 0:
        raise ValueError(f"count must be above 0, got {n:g}")
    mean = total / n
    return mean, (outer - n * np.outer(mean, mean)) / max(float(n) - 1, 1.0)


def frechet_distance(mean1: ArrayLike, cov1: ArrayLike, mean2: ArrayLike, cov2: ArrayLike) -> float:
    """Returns |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), the squared 2-Wasserstein distance of two Gaussians.

    C1 C2 has the eigenvalues of the symmetric matrix C1^1/2 C2 C1^1/2, so two symmetric eigenproblems give the trace of
    the root. Eigenvalues that are negative because of rounding count as 0; singular covariances need no special case.

    On features of the Inception network this is the FID. Distances on features of different networks are not
    comparable. An estimate from n examples with D features is too large by about D^2 / n in units of a feature's
    variance, so report n with every value.

    Args:
      mean1: m1, [D].
      cov1: C1, [D, D], symmetric and positive semidefinite.
      mean2: m2, [D].
      cov2: C2, [D, D], symmetric and positive semidefinite.

    Returns:
      The distance, >= 0, computed in float64.

    Raises:
      ValueError: if the shapes do not match.

    References:
      Dowson and Landau 1982; Heusel et al. 2017, arXiv:1706.08500 (FID).
    """
    m1, c1, m2, c2 = (np.asarray(x, np.float64) for x in (mean1, cov1, mean2, cov2))
    if m1.ndim != 1 or m1.shape != m2.shape or not c1.shape == c2.shape == 2 * m1.shape:
        shapes = ", ".join(str(list(x.shape)) for x in (m1, c1, m2, c2))
        raise ValueError(f"means and covariances must have shapes [D], [D, D], [D], [D, D], got {shapes}")
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    middle = np.linalg.eigvalsh(root @ c2 @ root)
    distance = np.sum((m1 - m2) ** 2) + np.trace(c1) + np.trace(c2) - 2 * np.sum(np.sqrt(np.maximum(middle, 0)))
    return max(0.0, float(distance))


def earth_movers_distance(x: ArrayLike, y: ArrayLike) -> float:
    """Returns the 1-Wasserstein distance of two samples of equal size: min over pairings p of mean_i |x_i - y_p(i)|.

    The optimal pairing takes about n^3 operations, a second for a few thousand points.

    Args:
      x: [n, D].
      y: [n, D].

    Returns:
      The distance, >= 0, in the units of x.

    Raises:
      ValueError: if x and y are not of the same shape [n, D].

    References:
      Rubner, Tomasi and Guibas 2000; in GANs, Arjovsky et al. 2017, arXiv:1701.07875.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape or x.ndim != 2:
        raise ValueError(f"x and y must have the same shape [n, D], got {list(x.shape)} and {list(y.shape)}")
    cost = cdist(x, y)
    return float(cost[linear_sum_assignment(cost)].mean())


def mode_hits(samples: Array, centres: Array, radius: float) -> Array:
    """Returns 1 where centre k is the nearest to a sample x and |x - c_k| <= radius, else 0.

    Sum over the samples for `modes_found`.

    Args:
      samples: x, [B, D], float.
      centres: c, [N, D], float, the modes of the true distribution.
      radius: > 0, for example three standard deviations of a mode.

    Returns:
      [B, N], float32, 0 or 1; at most one 1 in a row.

    Raises:
      AssertionError: if samples and centres are not of rank 2 with equal D.
    """
    chex.assert_rank([samples, centres], 2)
    chex.assert_equal_shape_suffix([samples, centres], 1)
    distance = jnp.linalg.norm(samples[:, None] - centres[None], axis=-1)
    near = jnp.min(distance, axis=-1, keepdims=True) <= radius
    return jax.nn.one_hot(distance.argmin(-1), len(centres)) * near


def modes_found(hits: ArrayLike, samples: SupportsFloat, share: float = 0.2) -> int:
    """Returns the number of modes with n_k >= share n / N, `share` of the samples of a uniform distribution over modes.

    Args:
      hits: n_k, [N], the number of samples on each mode: the sum of `mode_hits` over samples.
      samples: n, the number of all samples, including those far from every mode.
      share: in (0, 1]; with 0.2 one of 8 modes needs 2.5% of the samples.

    Returns:
      An integer in [0, N].
    """
    counts = np.asarray(hits, np.float64)
    return int(np.sum(counts >= share * float(samples) / len(counts)))
