"""Rosenblatt's perceptron, and the margin that bounds the number of its mistakes."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

__all__ = ["best_margin", "perceptron"]


def perceptron(
    x: Array, y: Array, passes: int = 1, *, order: Array | None = None, start: Array | None = None
) -> tuple[Array, Array]:
    """Trains a perceptron: at each mistake, y w.x <= 0, it adds y x to w.

    On separable rows it makes at most (R / g)^2 mistakes, with R = max |x| and g = `best_margin`, whatever their order
    (Novikoff's theorem, for w = 0 at the start). Then it changes no more.

    Args:
      x: rows [N, D], float; a column of ones gives the classifier a bias.
      y: classes [N], -1 or 1.
      passes: E, the number of passes over the rows.
      order: integers [E, N], the rows of each pass; None: as they are given.
      start: initial w [D]; None: 0.

    Returns:
      w after each pass [E, D], and the number of mistakes in each [E], int32.

    References: Rosenblatt 1958, The perceptron; Novikoff 1962, On convergence proofs on perceptrons.
    """
    order = jnp.broadcast_to(jnp.arange(len(x)), (passes, len(x))) if order is None else order

    def visit(w: Array, row: Array) -> tuple[Array, Array]:
        wrong = y[row] * jnp.sum(w * x[row]) <= 0
        return jnp.where(wrong, w + y[row] * x[row], w), wrong

    def one_pass(w: Array, rows: Array) -> tuple[Array, tuple[Array, Array]]:
        w, wrong = lax.scan(visit, w, rows)
        return w, (w, wrong.sum(dtype=jnp.int32))

    return lax.scan(one_pass, jnp.zeros_like(x[0]) if start is None else start, order)[1]


def best_margin(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the largest margin g = max_w min_n y_n w.x_n / |w| of a separator through 0, and its w [D] of length 1.

    It is the hard-margin support vector machine without a bias: min |w| such that y_n w.x_n >= 1, solved exactly as a
    nonnegative least-squares problem.

    Args:
      x: rows [N, D].
      y: classes [N], -1 or 1.

    Raises:
      ValueError: no w separates the classes.

    Reference: Lawson and Hanson 1974, Solving least squares problems, chapter 23 (least distance programming).
    """
    from scipy.optimize import nnls

    signed = np.asarray(x, np.float64) * np.asarray(y, np.float64)[:, None]
    system = np.vstack([signed.T, np.ones(len(signed))])
    target = np.append(np.zeros(signed.shape[1]), 1.0)
    residual = system @ nnls(system, target)[0] - target
    w = residual[:-1] / np.linalg.norm(residual[:-1]) if residual @ residual > 1e-12 else np.zeros(signed.shape[1])
    margin = float((signed @ w).min())
    if margin <= 0:
        raise ValueError("no hyperplane through 0 separates the classes; a column of ones in x gives it a bias")
    return margin, w
