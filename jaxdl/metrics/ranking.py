"""Metrics of scores that depend on their order alone; ties count half.

A rank depends on all other examples, so these metrics are not sums over batches: they take the scores of a whole test
set, for example those of `Result.predict`. They work under jit and vmap, except the curves, whose length depends on the
scores. NumPy arrays are computed on the host in float64.
"""

from typing import Any, NamedTuple

import chex
import numpy as np
from jax.typing import ArrayLike


class Curve(NamedTuple):
    """Counts of a binary decision score >= t at each distinct score t, from the highest to the lowest, NumPy [K].

    thresholds: t. correct: positives that are found, TP. predicted: examples with score >= t, TP + FP. positives: the
    number of all positives, an int.
    """

    thresholds: np.ndarray
    correct: np.ndarray
    predicted: np.ndarray
    positives: int

    @property
    def precision(self) -> np.ndarray:
        """TP / (TP + FP) at each threshold."""
        return self.correct / self.predicted

    @property
    def recall(self) -> np.ndarray:
        """TP / (TP + FN) at each threshold, the true positive rate; it never falls along the curve."""
        return self.correct / self.positives if self.positives else np.ones(len(self.correct))

    @property
    def false_positive_rate(self) -> np.ndarray:
        """FP / (FP + TN) at each threshold, the other axis of the ROC curve; NaN without negatives."""
        wrong = self.predicted - self.correct
        return wrong / wrong[-1] if len(wrong) and wrong[-1] else np.full(len(wrong), np.nan)


def threshold_curve(scores: ArrayLike, targets: ArrayLike) -> Curve:
    """Returns precision and recall at every distinct threshold, on the host.

    Without a positive example recall is 1, as in scikit-learn's `precision_recall_curve`.

    Args:
      scores: [B], higher means more likely positive.
      targets: [B], bool or 0 and 1.

    Raises:
      AssertionError: if the shapes are not [B].
    """
    chex.assert_rank([scores, targets], 1)
    chex.assert_equal_shape([scores, targets])
    s, positive = np.asarray(scores), np.asarray(targets) > 0
    order = np.argsort(-s, kind="stable")
    last = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1) if len(s) else np.zeros(0, int)
    return Curve(s[order][last], np.cumsum(positive[order])[last], last + 1, int(positive.sum()))


def roc_auc(scores: Any, targets: Any) -> Any:
    """Returns the area under the ROC curve, P(s_i > s_j) + P(s_i = s_j) / 2 for a positive i and a negative j.

    Args:
      scores: s, [B], higher means more likely positive.
      targets: [B], bool or 0 and 1.

    Returns:
      A scalar in [0, 1]; NaN if there are no positives or no negatives, or if a score is NaN.

    Raises:
      AssertionError: if the shapes are not [B].

    Reference: Hanley and McNeil 1982; equal to the Mann-Whitney U statistic over the number of pairs.
    """
    xp, s, positive = _checked(scores, targets)
    negatives = _up_to(xp, s, ~positive)  # (below, up to) each score, exact integers
    n, m = xp.sum(positive), xp.sum(~positive)
    wins = (negatives[0] + negatives[1]) / (2 * xp.where(m > 0, m, 1))
    area = xp.sum(xp.where(positive, wins, 0)) / xp.where(n > 0, n, 1)
    return xp.where((n > 0) & (m > 0) & ~xp.any(xp.isnan(s)), area, xp.nan)


def average_precision(scores: Any, targets: Any) -> Any:
    """Returns the mean over the positives of the precision at their score, the area below the precision-recall curve.

    Args:
      scores: [B], higher means more likely positive.
      targets: [B], bool or 0 and 1.

    Returns:
      A scalar in [0, 1]; 0 without positives, as in scikit-learn; NaN if a score is NaN.

    Raises:
      AssertionError: if the shapes are not [B].
    """
    xp, s, positive = _checked(scores, targets)
    found, chosen = (_up_to(xp, -s, rows)[1] for rows in (positive, xp.ones_like(positive)))
    n = xp.sum(positive)
    mean = xp.sum(xp.where(positive, found / chosen, 0)) / xp.where(n > 0, n, 1)
    return xp.where(xp.any(xp.isnan(s)), xp.nan, mean)


def average_ranks(x: Any) -> Any:
    """Returns the rank of each entry, 1 for the smallest; equal entries share the mean of their ranks.

    Args:
      x: [B].

    Returns:
      [B], float.
    """
    chex.assert_rank(x, 1)
    xp = x.__array_namespace__()
    below, up_to = _up_to(xp, x, xp.ones(x.shape, dtype=bool))
    return (below + up_to + 1) / 2


def pearson(x: Any, y: Any) -> Any:
    """Returns the correlation sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2).

    Args:
      x: [B], float.
      y: [B], float.

    Returns:
      A scalar in [-1, 1]; NaN if all x or all y are equal.

    Raises:
      AssertionError: if the shapes are not [B].
    """
    chex.assert_rank([x, y], 1)
    chex.assert_equal_shape([x, y])
    xp = x.__array_namespace__()
    dx, dy = x - xp.mean(x), y - xp.mean(y)
    # divided by the largest entry first, so that squares neither overflow nor vanish
    dx, dy = (d / xp.where(top > 0, top, 1) for d in (dx, dy) for top in [xp.max(xp.abs(d))])
    spread = xp.sqrt(xp.sum(dx * dx) * xp.sum(dy * dy))
    equal = (xp.max(x) == xp.min(x)) | (xp.max(y) == xp.min(y))
    ratio = xp.sum(dx * dy) / xp.where(spread > 0, spread, 1)
    return xp.where(equal, xp.nan, xp.clip(ratio, -1, 1) + xp.where(xp.isnan(spread), xp.nan, 0))


def spearman(x: Any, y: Any) -> Any:
    """Returns the rank correlation, `pearson` of `average_ranks`: 1 if y grows wherever x does.

    Arguments, return value and errors are those of `pearson`; NaN also if an entry is NaN.

    Reference: Spearman 1904.
    """
    value = pearson(average_ranks(x), average_ranks(y))
    xp = x.__array_namespace__()
    return xp.where(xp.any(xp.isnan(x)) | xp.any(xp.isnan(y)), xp.nan, value)


def _checked(scores: Any, targets: Any) -> tuple[Any, Any, Any]:
    chex.assert_rank([scores, targets], 1)
    chex.assert_equal_shape([scores, targets])
    return scores.__array_namespace__(), scores, targets > 0


def _up_to(xp: Any, x: Any, rows: Any) -> tuple[Any, Any]:
    """For each entry of x, the numbers of `rows` with a smaller entry, and with one that is not larger."""
    order = xp.argsort(x, stable=True)
    ordered = xp.take(x, order)
    counted = xp.concat([xp.zeros(1, dtype=int), xp.cumulative_sum(xp.astype(xp.take(rows, order), int))])
    place = lambda side: xp.take(counted, xp.searchsorted(ordered, x, side=side))
    return place("left"), place("right")
