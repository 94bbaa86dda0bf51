"""Means and sums of squared deviations of parts of the examples, merged exactly."""

from typing import Any


def merge_spreads(counts: Any, means: Any, spreads: Any) -> tuple[Any, Any, Any]:
    """Returns (n, mean, spread) of K parts together, in any order and of any sizes:

        n = sum n_k,  mean = sum n_k mean_k / n,  spread = sum spread_k + sum n_k (mean_k - mean)^2

    Sums of squares of numbers with a large mean cancel; these deviations do not.

    Args:
      counts: n_k, [K, ...], NumPy or JAX; numbers or sums of weights, 0 for an empty part.
      means: mean_k, [K, ...], of a shape to which that of the counts broadcasts.
      spreads: spread_k = sum (x - mean_k)^2 over part k, of the same shape as the means.

    Reference: Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances.
    """
    xp = means.__array_namespace__()
    n = xp.sum(counts, axis=0)
    # relative to the first mean, so that equal large means do not cancel
    mean = means[0] + xp.sum(counts * (means - means[:1]), axis=0) / xp.where(n > 0, n, 1)
    return n, mean, xp.sum(spreads, axis=0) + xp.sum(counts * (means - mean[None]) ** 2, axis=0)
