"""Data of a few numbers, drawn from a formula."""

import numpy as np


def noisy_line(n: int = 100, slope: float = 3.0, intercept: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """x uniform in 0..2 and y = intercept + slope x + N(0, 1), float64 [n, 1] each; the same at every call.

    With the defaults they are the points that tutorials of linear regression draw with np.random.seed(0).
    """
    random = np.random.RandomState(0)
    x = 2 * random.rand(n, 1)
    return x, intercept + slope * x + random.randn(n, 1)
