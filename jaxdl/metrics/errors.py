"""Errors of regressions: MSE, RMSE, MAE and R^2, from statistics of batches that merge exactly.

    parts = [error_sums(predictions, targets) for predictions, targets in batches]
    regression_scores(merge_errors(*parts))      # {"mse": ..., "rmse": ..., "mae": ..., "r2": ...}

R^2 needs the spread of the targets around their mean. The difference sum y^2 - (sum y)^2 / n, which `r_squared` takes,
adds up over batches but loses all digits in float32 if the mean is a few thousand times the standard deviation. Here
every batch keeps its own mean. NumPy arrays are computed on the host in float64.
"""

from typing import Any, NamedTuple

import chex

from jaxdl.metrics.spreads import merge_spreads


class ErrorSums(NamedTuple):
    """Statistics of the errors p - y and the targets y of a part of the examples; arrays of one shape, [] or [K].

    count: n, or the sum of the weights. squared: sum (p - y)^2. absolute: sum |p - y|. mean: of y. spread:
    sum (y - mean)^2.
    """

    count: Any
    squared: Any
    absolute: Any
    mean: Any
    spread: Any


def error_sums(predictions: Any, targets: Any, where: Any | None = None) -> ErrorSums:
    """Returns the statistics of one batch.

    Args:
      predictions: p, [B] or [B, ...], float; all entries are examples.
      targets: y, the same shape.
      where: weights >= 0, the same shape; 0 leaves an entry out, even a NaN. None: all ones.

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([predictions, targets])
    xp = targets.__array_namespace__()
    w = xp.ones(targets.shape) if where is None else where + xp.zeros(targets.shape)
    chex.assert_equal_shape([w, targets])
    y, error = (xp.where(w > 0, x, 0) for x in (targets, predictions - targets))
    count = xp.sum(w)
    mean = xp.sum(w * y) / xp.where(count > 0, count, 1)
    return ErrorSums(count, xp.sum(w * error**2), xp.sum(w * xp.abs(error)), mean, xp.sum(w * (y - mean) ** 2))


def merge_errors(*parts: ErrorSums) -> ErrorSums:
    """Returns the statistics of all parts together, in any order and of any sizes, by `merge_spreads`.

    A part may also have a leading axis [K], one entry for each batch of a `lax.scan` or each device of an
    `all_gather`; its entries are merged as well.
    """
    xp = parts[0].mean.__array_namespace__()
    counts, squared, absolute, means, spreads = (
        xp.concat([xp.reshape(xp.asarray(part[i]), (-1,)) for part in parts]) for i in range(len(ErrorSums._fields))
    )
    count, mean, spread = merge_spreads(counts, means, spreads)
    return ErrorSums(count, xp.sum(squared), xp.sum(absolute), mean, spread)


def regression_scores(sums: ErrorSums) -> dict[str, Any]:
    """Returns the scores of all examples in the sums.

    mse: mean (p - y)^2, in squared units of y. rmse: its root, in units of y. mae: mean |p - y|, in units of y, at most
    rmse. r2: 1 - sum (p - y)^2 / sum (y - mean)^2, at most 1, 0 for predicting the mean, and negative for worse.

    All are NaN without examples. r2 is NaN if all targets are equal, even if they are predicted exactly; scikit-learn
    returns 1 or 0 there, unless force_finite=False.
    """
    xp = sums.mean.__array_namespace__()
    n = xp.where(sums.count > 0, sums.count, xp.nan)
    spread = xp.where(sums.spread > 0, sums.spread, xp.nan)
    mse = sums.squared / n
    return {"mse": mse, "rmse": xp.sqrt(mse), "mae": sums.absolute / n, "r2": 1 - sums.squared / spread}
