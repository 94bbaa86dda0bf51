"""Scores of regressions."""

from typing import SupportsFloat


def r_squared(
    sum_squared_error: SupportsFloat, sum_y: SupportsFloat, sum_y2: SupportsFloat, count: SupportsFloat
) -> float:
    """R^2 = 1 - sum (p - y)^2 / sum (y - mean y)^2, from sums over batches.

        sum (y - mean y)^2 = sum y^2 - (sum y)^2 / n

    The difference of two large sums loses digits where the mean is large against the spread, and float32 has seven:
    add up y minus a constant near its mean, which changes nothing else.

    Args:
      sum_squared_error: sum over the test set of (p - y)^2.
      sum_y: sum of the targets.
      sum_y2: sum of the squared targets.
      count: n, number of targets.

    Returns:
      At most 1; 0 for a model that predicts the mean, NaN where all targets are equal or there are none.
    """
    n = float(count)
    spread = float(sum_y2) - float(sum_y) ** 2 / n if n else 0.0
    return 1 - float(sum_squared_error) / spread if spread > 0 else float("nan")
