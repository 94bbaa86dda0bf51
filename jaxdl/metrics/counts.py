"""Precision, recall and F scores from counts that add up over batches and devices.

    counts = class_counts(logits.argmax(-1), labels, 10, mask)       # in `evaluate`; a sum, like `weighted_sum`
    f1(counts, "macro")                                              # in `summarize`, after the sum over all batches

Counting is done in JAX; a float32 count is exact up to 2^24 examples in one batch, and `fit` adds batches in float64.
The scores accept counts of NumPy arrays, which they compute on the host in float64, or of JAX arrays.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

AVERAGES = (None, "micro", "macro", "weighted")


class Counts(NamedTuple):
    """Counts for each of N classes or labels, all sums over examples.

    correct: true positives TP, [N]. predicted: TP + FP, [N]. actual: TP + FN, the support, [N].
    """

    correct: Any
    predicted: Any
    actual: Any


def class_counts(predictions: Array, labels: Array, classes: int, where: Array | None = None) -> Counts:
    """Returns the counts of each class where every example has one class.

    Args:
      predictions: [B, ...], integers in [0, N).
      labels: y, the same shape. Compiled code cannot raise: a class outside [0, N) is counted in no class.
      classes: N.
      where: weights >= 0, the same shape; None: all ones.

    Returns:
      Counts of float32 [N].

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([predictions, labels])
    guess, truth = (jax.nn.one_hot(x, classes, dtype=bool) for x in (predictions, labels))
    return label_counts(guess, truth, None if where is None else where[..., None])


def label_counts(predictions: Array, targets: Array, where: Array | None = None) -> Counts:
    """Returns the counts of each label where an example has any number of labels; each label is a binary decision.

    With `scores[:, None] >= thresholds` as predictions and `targets[:, None]` broadcast to their shape, the counts of
    one binary decision at each threshold.

    Args:
      predictions: [B, ..., N], bool or 0 and 1.
      targets: the same shape.
      where: weights >= 0, of a shape that broadcasts to it; None: all ones.

    Returns:
      Counts of float32 [N], sums over all other axes.

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([predictions, targets])
    guess, truth = jnp.asarray(predictions) > 0, jnp.asarray(targets) > 0
    weights = jnp.ones((1,) * guess.ndim) if where is None else jnp.asarray(where, jnp.float32)
    axes = tuple(range(guess.ndim - 1))
    count = lambda chosen: jnp.sum(jnp.where(chosen, weights, 0.0), axis=axes)
    return Counts(count(guess & truth), count(guess), count(truth))


def counts_of(matrix: ArrayLike) -> Counts:
    """Returns the counts in a confusion matrix.

    Args:
      matrix: [N, N], rows are true classes, columns predictions, as from `confusion_matrix`.

    Raises:
      AssertionError: if it is not square.
    """
    chex.assert_rank(matrix, 2)
    chex.assert_shape(matrix, 2 * matrix.shape[:1])  # type: ignore[union-attr]
    xp: Any = matrix.__array_namespace__()  # type: ignore[union-attr]
    return Counts(xp.linalg.diagonal(matrix), xp.sum(matrix, axis=0), xp.sum(matrix, axis=1))


def precision(counts: Counts, average: str | None = None, zero_division: float = 0.0) -> Any:
    """Returns TP / (TP + FP): how many of the predictions of a class are correct.

    Args:
      counts: of N classes or labels.
      average: None: one value for each of them. "micro": of the sums of the counts over all of them. "macro": the mean
        over all N, also those without an example. "weighted": the mean, weighted with TP + FN.
      zero_division: value of a class that is never predicted. NaN: such a class is left out of means.

    Returns:
      [N] for None, else a scalar, in [0, 1]. Where scikit-learn's `precision_score` averages over the classes that
      occur, it has to be given labels=range(N) for the same value.

    Raises:
      ValueError: if `average` is not one of these.
    """
    return _averaged(counts.correct, counts.predicted, counts, average, zero_division)


def recall(counts: Counts, average: str | None = None, zero_division: float = 0.0) -> Any:
    """Returns TP / (TP + FN): how many of the examples of a class are found.

    Arguments, return value and errors are those of `precision`; zero_division is the value of a class without examples.
    """
    return _averaged(counts.correct, counts.actual, counts, average, zero_division)


def f_beta(counts: Counts, average: str | None = None, beta: float = 1.0, zero_division: float = 0.0) -> Any:
    """Returns (1 + b^2) TP / (TP + FP + b^2 (TP + FN)), the harmonic mean of precision and b^2 times weighted recall.

    Arguments, return value and errors are those of `precision`; zero_division is the value of a class that neither
    occurs nor is predicted. beta: above 0; above 1 recall counts more.

    Reference: van Rijsbergen 1979, Information Retrieval.
    """
    square = beta * beta
    return _averaged(
        (1 + square) * counts.correct, counts.predicted + square * counts.actual, counts, average, zero_division
    )


def f1(counts: Counts, average: str | None = None, zero_division: float = 0.0) -> Any:
    """Returns 2 TP / (2 TP + FP + FN) = 2 P R / (P + R), `f_beta` with beta 1.

    Where every example has one class, the micro average is the accuracy, because every wrong prediction is a false
    positive of one class and a false negative of another.
    """
    return f_beta(counts, average, 1.0, zero_division)


def _averaged(above: Any, below: Any, counts: Counts, average: str | None, zero_division: float) -> Any:
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(map(str, AVERAGES))}, got {average!r}")
    xp = below.__array_namespace__()
    if average == "micro":
        above, below = xp.sum(above), xp.sum(below)
    values = xp.where(below > 0, above / xp.where(below > 0, below, 1), zero_division)
    if average in (None, "micro"):
        return values
    weights = xp.ones_like(values) if average == "macro" else counts.actual * xp.ones_like(values)
    weights = xp.where(xp.isnan(values), 0, weights)
    total = xp.sum(weights)
    mean = xp.sum(xp.where(weights > 0, values, 0) * weights) / xp.where(total > 0, total, 1)
    return xp.where(total > 0, mean, zero_division)
