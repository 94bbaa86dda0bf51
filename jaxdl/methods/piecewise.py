"""Piecewise linear functions as sums of ReLUs."""

from typing import Any

import numpy as np

__all__ = ["fold", "relu_sum"]


def relu_sum(knots: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    """Returns the parameters of `MLP((n, 1))` that computes the piecewise linear function through n + 1 points.

        f(x) = v_0 + sum_k (s_k - s_{k-1}) relu(x - t_k),  s_k = (v_{k+1} - v_k) / (t_{k+1} - t_k),  s_{-1} = 0

    Left of t_0 it is constant, right of t_n it goes on with the last slope.

    Args:
      knots: t_0 < ... < t_n, n >= 1.
      values: v_0 ... v_n.

    Returns:
      {"Dense_0": {"kernel": [1, n], "bias": [n]}, "Dense_1": {"kernel": [n, 1], "bias": [1]}}, float64.

    Raises:
      ValueError: fewer than two knots, knots that do not increase, or another number of values.
    """
    knots, values = np.asarray(knots, np.float64), np.asarray(values, np.float64)
    if knots.ndim != 1 or len(knots) < 2 or knots.shape != values.shape or not (np.diff(knots) > 0).all():
        raise ValueError(f"needs two or more increasing knots, and as many values: {knots.shape}, {values.shape}")
    slopes = np.diff(values) / np.diff(knots)
    return {
        "Dense_0": {"kernel": np.ones((1, len(slopes))), "bias": -knots[:-1]},
        "Dense_1": {"kernel": np.diff(slopes, prepend=0.0)[:, None], "bias": values[:1]},
    }


def fold(depth: int) -> dict[str, Any]:
    """Returns the parameters of `MLP((2,) * depth + (1,))` that computes a sawtooth with 2^depth linear pieces on 0..1.

    Each layer applies the tent map T(x) = 2 relu(x) - 4 relu(x - 1/2), which folds 0..1 in two; f = T o ... o T. One
    hidden layer needs 2^depth units for as many pieces.

    Args:
      depth: the number of hidden layers, at least 1.

    Returns:
      {"Dense_0": {"kernel", "bias"}, ...}, float64.

    Reference: Telgarsky 2016, Benefits of depth in neural networks, arXiv:1602.04485.
    """
    outwards, bias = np.array([[2.0], [-4.0]]), np.array([0.0, -0.5])
    inner = {"kernel": np.repeat(outwards, 2, axis=1), "bias": bias}  # both units see T of the layer before
    layers = [{"kernel": np.ones((1, 2)), "bias": bias}, *[inner] * (depth - 1)]
    return {f"Dense_{i}": layer for i, layer in enumerate([*layers, {"kernel": outwards, "bias": np.zeros(1)}])}
