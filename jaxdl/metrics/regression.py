"""Metrics of regressions."""

from typing import SupportsFloat


def r_squared(
    sum_squared_error: SupportsFloat, sum_y: SupportsFloat, sum_y2: SupportsFloat, count: SupportsFloat
) -> float:
    """Returns R^2 = 1 - sum (p - y)^2 / sum (y - mean y)^2, from sums over batches.

        sum (y - mean y)^2 = sum y^2 - (sum y)^2 / n

    This difference loses digits if the mean is large compared with the standard deviation, and float32 has only seven
    digits. In that case sum y minus a constant near its mean, which does not change R^2.

    Args:
      sum_squared_error: sum of (p - y)^2 over the test set.
      sum_y: sum of the targets y.
      sum_y2: sum of the squared targets.
      count: n, the number of targets.

    Returns:
      R^2, at most 1; 0 for a model that predicts the mean, NaN if all targets are equal or there are none.
    """
    n = float(count)
    spread = float(sum_y2) - float(sum_y) ** 2 / n if n else 0.0
    return 1 - float(sum_squared_error) / spread if spread > 0 else float("nan")
