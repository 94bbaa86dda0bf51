"""Metrics per example for jit, and metrics of a whole test set for the host.

Metrics per example return float32 [B, ...], 0 or 1, for `jaxdl.core.weighted_sum`. Metrics of a test set take the sums
of an evaluation or arrays, and return NumPy arrays or Python numbers.
"""

from jaxdl.metrics.classification import (
    accuracy,
    binary_accuracy,
    confusion_matrix,
    subset_accuracy,
    top_k_accuracy,
    zero_one_error,
)
from jaxdl.metrics.generation import (
    earth_movers_distance,
    frechet_distance,
    mean_and_covariance,
    mode_hits,
    modes_found,
    moments,
)
from jaxdl.metrics.regression import r_squared

__all__ = [
    "accuracy",
    "binary_accuracy",
    "confusion_matrix",
    "earth_movers_distance",
    "frechet_distance",
    "mean_and_covariance",
    "mode_hits",
    "modes_found",
    "moments",
    "r_squared",
    "subset_accuracy",
    "top_k_accuracy",
    "zero_one_error",
]
