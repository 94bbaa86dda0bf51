"""Metrics per example for jit, counts and sums that merge over batches, and metrics of a whole test set.

Per example: accuracy, top_k_accuracy and others return float32 [B, ...], for `jaxdl.core.weighted_sum`. Sums over
examples: class_counts and label_counts (precision, recall, f1), error_sums (MSE, RMSE, MAE, R^2), moments (Frechet
distance). Whole vectors: roc_auc, average_precision, spearman, which depend on the order of all scores. Where a value
is not defined, it is NaN, unless the function states another rule.
"""

from jaxdl.metrics.classification import (
    accuracy,
    binary_accuracy,
    confusion_matrix,
    subset_accuracy,
    top_k_accuracy,
    zero_one_error,
)
from jaxdl.metrics.comparison import Gsb, gsb
from jaxdl.metrics.counts import Counts, class_counts, counts_of, f1, f_beta, label_counts, precision, recall
from jaxdl.metrics.errors import ErrorSums, error_sums, merge_errors, regression_scores
from jaxdl.metrics.generation import (
    earth_movers_distance,
    frechet_distance,
    mean_and_covariance,
    mode_hits,
    modes_found,
    moments,
)
from jaxdl.metrics.information import cross_entropy, entropy, kl_divergence
from jaxdl.metrics.ranking import Curve, average_precision, average_ranks, pearson, roc_auc, spearman, threshold_curve
from jaxdl.metrics.regression import r_squared
from jaxdl.metrics.spreads import merge_spreads

__all__ = [
    "Counts",
    "Curve",
    "ErrorSums",
    "Gsb",
    "accuracy",
    "average_precision",
    "average_ranks",
    "binary_accuracy",
    "class_counts",
    "confusion_matrix",
    "counts_of",
    "cross_entropy",
    "earth_movers_distance",
    "entropy",
    "error_sums",
    "f1",
    "f_beta",
    "frechet_distance",
    "gsb",
    "kl_divergence",
    "label_counts",
    "mean_and_covariance",
    "merge_errors",
    "merge_spreads",
    "mode_hits",
    "modes_found",
    "moments",
    "pearson",
    "precision",
    "r_squared",
    "recall",
    "regression_scores",
    "roc_auc",
    "spearman",
    "subset_accuracy",
    "threshold_curve",
    "top_k_accuracy",
    "zero_one_error",
]
