"""Metrics of classifiers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def accuracy(logits: Array, labels: Array) -> Array:
    """Returns 1 where argmax_k z_k = y, else 0; the first of equal logits wins.

    Args:
      logits: [B, ..., N], float.
      labels: [B, ...], integers in [0, N).

    Returns:
      [B, ...], float32, 0 or 1.

    Raises:
      AssertionError: if the shape of labels is not that of logits without the last axis.
    """
    chex.assert_shape(labels, logits.shape[:-1])
    return (logits.argmax(-1) == labels).astype(jnp.float32)


def zero_one_error(logits: Array, labels: Array) -> Array:
    """Returns 1 - accuracy, float32 [B, ...], 0 or 1; arguments and errors are those of `accuracy`."""
    return 1 - accuracy(logits, labels)


def top_k_accuracy(logits: Array, labels: Array, k: int) -> Array:
    """Returns 1 where y is among the k largest logits, else 0; the first of equal logits win.

    Args:
      logits: [B, ..., N], float.
      labels: [B, ...], integers in [0, N).
      k: in [1, N].

    Returns:
      [B, ...], float32, 0 or 1.

    Raises:
      AssertionError: if the shape of labels is not that of logits without the last axis.
      ValueError: if k is outside [1, N].
    """
    chex.assert_shape(labels, logits.shape[:-1])
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k must be in [1, {logits.shape[-1]}], the number of classes, got {k}")
    return (jax.lax.top_k(logits, k)[1] == labels[..., None]).any(-1).astype(jnp.float32)


def binary_accuracy(logits: Array, targets: Array) -> Array:
    """Returns 1 where (z > 0) = (t > 1/2), else 0, for each label: a sigmoid above 1/2 predicts 1.

    Args:
      logits: [B] or [B, ..., N], float.
      targets: the same shape, 0 or 1 or bool.

    Returns:
      The same shape, float32, 0 or 1.

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([logits, targets])
    return ((logits > 0) == (targets > 0.5)).astype(jnp.float32)


def subset_accuracy(logits: Array, targets: Array) -> Array:
    """Returns 1 where all N labels of an example are correct, else 0: the minimum of `binary_accuracy` over labels.

    Args:
      logits: [B, ..., N], float.
      targets: the same shape, 0 or 1 or bool.

    Returns:
      [B, ...], float32, 0 or 1.

    Raises:
      AssertionError: if the shapes differ.
    """
    return binary_accuracy(logits, targets).min(-1)


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> np.ndarray:
    """Returns n_ij, the number of examples of class i predicted as class j.

    Matrices of several batches can be added. Unlike scikit-learn's function, which silently ignores labels outside the
    given classes, this one raises.

    Args:
      labels: [B, ...], integers in [0, classes).
      predictions: the same shape, integers in [0, classes).
      classes: N.

    Returns:
      int64 [N, N]; rows are true classes, columns predictions.

    Raises:
      ValueError: if the shapes differ, or a class is outside [0, classes).
    """
    truth, guess = np.asarray(labels), np.asarray(predictions)
    if truth.shape != guess.shape:
        raise ValueError(f"labels and predictions must have the same shape, got {truth.shape} and {guess.shape}")
    for name, values in (("labels", truth), ("predictions", guess)):
        if not np.all((values >= 0) & (values < classes)):
            raise ValueError(f"{name} must be in [0, {classes}), got {values.min()} to {values.max()}")
    index = np.ravel_multi_index((truth.ravel(), guess.ravel()), (classes, classes))
    return np.bincount(index, minlength=classes**2).reshape(classes, classes)
