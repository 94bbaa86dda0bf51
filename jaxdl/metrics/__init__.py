"""Metrics: those of one example, not reduced, for jit; and those of a whole test set, on the host.

The first return float32 [B, ...], 1 or 0, for `jaxdl.core.weighted_sum`; the second take what evaluation added up.
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
