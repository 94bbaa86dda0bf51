"""GSB: two models compared example by example, with a sign test."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Gsb(NamedTuple):
    """The comparison of a model A with a model B on n examples.

    good, same, bad: on how many examples A is better, as good, and worse; they add up to n. balance: (G - B) / n, in
    [-1, 1], above 0 if A is better. p: two-sided p value of the sign test.
    """

    good: int
    same: int
    bad: int
    balance: float
    p: float

    @property
    def n(self) -> int:
        """The number of examples."""
        return self.good + self.same + self.bad


def gsb(a: ArrayLike, b: ArrayLike) -> Gsb:
    """Compares two models on the same examples.

    The sign test asks whether A and B win equally often among the examples on which they differ: p is the probability
    under Binomial(G + B, 1/2) of a count at least as far from the middle. It uses no size of a difference, and takes
    examples as independent. Exchanging the models exchanges good and bad, and keeps p.

    Args:
      a: [n], the score of A on each example, higher is better: 1 for a correct prediction and 0 for a wrong one, or
        minus the absolute error of a regression.
      b: [n], the same of B.

    Raises:
      ValueError: if the shapes differ or are not [n], there is no example, or a score is NaN.

    References:
      Dixon and Mood 1946 (the sign test); for accuracies it is McNemar's exact test, 1947.
    """
    from scipy.stats import binomtest

    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ValueError(f"scores must have the same shape [n], n > 0, got {list(x.shape)} and {list(y.shape)}")
    for name, scores in (("a", x), ("b", y)):
        if np.isnan(scores).any():
            raise ValueError(f"{name}: score {int(np.isnan(scores).argmax())} is NaN")
    good, bad = int((x > y).sum()), int((x < y).sum())
    p = float(binomtest(good, good + bad).pvalue) if good + bad else 1.0
    return Gsb(good, len(x) - good - bad, bad, (good - bad) / len(x), p)
