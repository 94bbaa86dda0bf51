"""Scores of classifiers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def accuracy(logits: Array, labels: Array) -> Array:
    """1 where argmax_k z_k = y; of equal logits the first counts.

    Args:
      logits: [B, ..., N], float.
      labels: [B, ...], integers in [0, N).

    Returns:
      [B, ...], 0 or 1.

    Raises:
      AssertionError: the shape of labels is not that of logits without its last axis.
    """
    chex.assert_shape(labels, logits.shape[:-1])
    return (logits.argmax(-1) == labels).astype(jnp.float32)


def zero_one_error(logits: Array, labels: Array) -> Array:
    """1 - accuracy: 1 for every wrong class, whichever it is. Arguments as for `accuracy`."""
    return 1 - accuracy(logits, labels)


def top_k_accuracy(logits: Array, labels: Array, k: int) -> Array:
    """1 where y is among the k largest logits; of equal logits the first count.

    Args:
      logits: [B, ..., N], float.
      labels: [B, ...], integers in [0, N).
      k: in [1, N].

    Returns:
      [B, ...], 0 or 1.

    Raises:
      AssertionError: the shape of labels is not that of logits without its last axis.
      ValueError: k is outside [1, N].
    """
    chex.assert_shape(labels, logits.shape[:-1])
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k is {k}, it must be in [1, {logits.shape[-1]}], the number of classes")
    return (jax.lax.top_k(logits, k)[1] == labels[..., None]).any(-1).astype(jnp.float32)


def binary_accuracy(logits: Array, targets: Array) -> Array:
    """1 where (z > 0) = (t > 1/2): a sigmoid's probability above one half, label by label.

    Args:
      logits: [B] or [B, ..., N], float.
      targets: of the same shape, 0 or 1.

    Returns:
      Of the same shape, 0 or 1.

    Raises:
      AssertionError: the shapes differ.
    """
    chex.assert_equal_shape([logits, targets])
    return ((logits > 0) == (targets > 0.5)).astype(jnp.float32)


def subset_accuracy(logits: Array, targets: Array) -> Array:
    """1 where all N labels of an example are right, min over labels of `binary_accuracy`.

    Args:
      logits: [B, ..., N], float.
      targets: of the same shape, 0 or 1.

    Returns:
      [B, ...], 0 or 1.

    Raises:
      AssertionError: the shapes differ.
    """
    return binary_accuracy(logits, targets).min(-1)


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> np.ndarray:
    """n_ij, how many examples of class i were taken for class j; matrices of several batches add up.

    NumPy's counting, not scikit-learn's function, which leaves out labels beyond the known classes without a word.

    Args:
      labels: [B, ...], integers in [0, classes).
      predictions: of the same shape, integers in [0, classes).
      classes: N.

    Returns:
      int64 [N, N], rows the truth, columns the predictions.

    Raises:
      ValueError: the shapes differ, or a class is outside [0, classes).
    """
    truth, guess = np.asarray(labels), np.asarray(predictions)
    if truth.shape != guess.shape:
        raise ValueError(f"labels {truth.shape} and predictions {guess.shape} differ in shape")
    for name, values in (("labels", truth), ("predictions", guess)):
        if not np.all((values >= 0) & (values < classes)):
            raise ValueError(f"{name} reach from {values.min()} to {values.max()}, they must be in [0, {classes})")
    index = np.ravel_multi_index((truth.ravel(), guess.ravel()), (classes, classes))
    return np.bincount(index, minlength=classes**2).reshape(classes, classes)
