"""Toy data, drawn from a formula."""

import numpy as np


def noisy_line(n: int = 100, slope: float = 3.0, intercept: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns x uniform in 0..2 and y = intercept + slope x + N(0, 1), float64 [n, 1], the same in every call.

    The defaults give the points that tutorials on linear regression draw with np.random.seed(0).
    """
    random = np.random.RandomState(0)
    x = 2 * random.rand(n, 1)
    return x, intercept + slope * x + random.randn(n, 1)


def ring(modes: int = 8, radius: float = 2.0) -> np.ndarray:
    """Returns centres on a circle around 0, the first at (radius, 0): float32 [modes, 2]."""
    angles = np.arange(modes) * 2 * np.pi / modes
    return (radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def gaussians(centres: np.ndarray, spread: float, n: int, seed: int = 0) -> np.ndarray:
    """Returns n points of a mixture of equal Gaussians with standard deviation `spread`: [n, D].

    With `ring()`, a common first test of generative models (Metz et al. 2016, arXiv:1611.02163).
    """
    random = np.random.default_rng(seed)
    return centres[random.integers(len(centres), size=n)] + spread * random.normal(size=(n, centres.shape[1]))
