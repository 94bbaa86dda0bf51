"""Cells of `Recurrent`: one step of an Elman RNN, a GRU and an LSTM with its gradient, and the scan over time."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.nn import sigmoid

LayerState = tuple[Array, ...]  # (h,) of RNN and GRU, (h, c) of the LSTM, each [B, D]


class Cell(NamedTuple):
    """One time step and its gradient, as functions of x W + b (`zx`) and h U + b' (`zh`), [B, gates D] each.

    The gradients are written by hand because autodiff saves more: for the LSTM eleven arrays [B, D] per step besides h
    instead of five, which makes its step 1.15 to 1.3 times as long. The tests compare them with autodiff of `scan`.

    Attributes:
      gates: number of gates: 1 (rnn), 3 (gru) or 4 (lstm).
      states: number of state arrays: 2 for the LSTM's (h, c), else 1.
      step: (zx, zh, state before) -> (state after, arrays saved for the gradient).
      pull: (saved, before, after, gradient of after) -> (gradient of zx, gradient of before except through zh).
      recurrent: (saved, gradient of zx) -> gradient of zh.
    """

    gates: int
    states: int
    step: Callable[[Array, Array, LayerState], tuple[LayerState, LayerState]]
    pull: Callable[[LayerState, LayerState, LayerState, LayerState], tuple[Array, LayerState]]
    recurrent: Callable[[LayerState, Array], Array] = lambda saved, g: g


def _rnn_step(zx: Array, zh: Array, before: LayerState) -> tuple[LayerState, LayerState]:
    return (jnp.tanh(zx + zh),), ()


def _rnn_pull(saved: LayerState, before: LayerState, after: LayerState, g: LayerState) -> tuple[Array, LayerState]:
    return g[0] * (1 - after[0] ** 2), (jnp.zeros_like(g[0]),)


def _gru_step(zx: Array, zh: Array, before: LayerState) -> tuple[LayerState, LayerState]:
    (rx, ux, nx), (rh, uh, nh) = jnp.split(zx, 3, -1), jnp.split(zh, 3, -1)
    r, u = sigmoid(rx + rh), sigmoid(ux + uh)
    n = jnp.tanh(nx + r * nh)
    return (n + u * (before[0] - n),), (r, u, n, nh)


def _gru_pull(saved: LayerState, before: LayerState, after: LayerState, g: LayerState) -> tuple[Array, LayerState]:
    r, u, n, nh = saved
    gn = g[0] * (1 - u) * (1 - n**2)
    gu = g[0] * (before[0] - n) * u * (1 - u)
    return jnp.concatenate([gn * nh * r * (1 - r), gu, gn], -1), (g[0] * u,)


def _gru_recurrent(saved: LayerState, g: Array) -> Array:
    gr, gu, gn = jnp.split(g, 3, -1)
    return jnp.concatenate([gr, gu, gn * saved[0]], -1)


def _lstm_step(zx: Array, zh: Array, before: LayerState) -> tuple[LayerState, LayerState]:
    i, f, g, o = jnp.split(zx + zh, 4, -1)
    i, f, g, o = sigmoid(i), sigmoid(f), jnp.tanh(g), sigmoid(o)
    c = f * before[1] + i * g
    return (o * jnp.tanh(c), c), (i, f, g, o)


def _lstm_pull(saved: LayerState, before: LayerState, after: LayerState, g: LayerState) -> tuple[Array, LayerState]:
    (i, f, u, o), (gh, gc) = saved, g
    t = jnp.tanh(after[1])  # cheaper than one more array to save and read
    gc = gc + gh * o * (1 - t**2)
    gates = [gc * u * i * (1 - i), gc * before[1] * f * (1 - f), gc * i * (1 - u**2), gh * t * o * (1 - o)]
    return jnp.concatenate(gates, -1), (jnp.zeros_like(gh), gc * f)


CELLS = {
    "rnn": Cell(1, 1, _rnn_step, _rnn_pull),
    "gru": Cell(3, 1, _gru_step, _gru_pull, _gru_recurrent),
    "lstm": Cell(4, 2, _lstm_step, _lstm_pull),
}


def scan(
    cell: Cell, reverse: bool, zx: Array, kernel: Array, bias: Array | None, state: LayerState, real: Array | None
) -> tuple[LayerState, LayerState, LayerState]:
    """Runs the cell over time; the arguments are those of `unroll`.

    Returns:
      (last state, states after each step, arrays that the gradient needs from each step).
    """

    def step(
        before: LayerState, inputs: tuple[Array, Array | None]
    ) -> tuple[LayerState, tuple[LayerState, LayerState]]:
        zx, real = inputs
        zh = before[0] @ kernel
        after, saved = cell.step(zx, zh if bias is None else zh + bias, before)
        if real is not None:
            after = jax.tree.map(partial(jnp.where, real), after, before)
        return after, (after, saved)

    last, (states, saved) = lax.scan(step, state, (zx, real), reverse=reverse)
    return last, states, saved


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def unroll(
    cell: Cell, reverse: bool, zx: Array, kernel: Array, bias: Array | None, state: LayerState, real: Array | None
) -> tuple[Array, LayerState]:
    """Runs the cell over time; a masked step keeps the state and passes its gradient through.

    The custom gradient computes the recurrent kernel's gradient as one product over all times, where autodiff of a scan
    sums T products. Only reverse mode is supported, also for second derivatives.

    Args:
      cell: one of CELLS.
      reverse: whether to run from the last time to the first.
      zx: x W + b for all times, [T, B, gates D].
      kernel: U, [D, gates D].
      bias: b', [1, gates D], or None.
      state: the state before the first step, each array [B, D].
      real: bool [T, B, 1], False where a step is masked; None: all steps are real.

    Returns:
      h [T, B, D], and the state after the last step.

    Raises:
      TypeError: under forward-mode differentiation (`jax.jvp`).
    """
    last, states, _ = scan(cell, reverse, zx, kernel, bias, state, real)
    return states[0], last


def _unroll_forward(
    cell: Cell, reverse: bool, zx: Array, kernel: Array, bias: Array | None, state: LayerState, real: Array | None
) -> tuple[tuple[Array, LayerState], Any]:
    last, states, saved = scan(cell, reverse, zx, kernel, bias, state, real)
    return (states[0], last), (kernel, bias, state, real, states, saved)


def _unroll_backward(cell: Cell, reverse: bool, residuals: Any, gradients: Any) -> tuple[Any, ...]:
    kernel, bias, state, real, states, saved = residuals
    g_h, g_last = gradients

    def shift(first: Array, after: Array) -> Array:
        return jnp.concatenate([after[1:], first[None]] if reverse else [first[None], after[:-1]])

    before = jax.tree.map(shift, state, states)
    kernel_T = kernel.T

    def step(g: LayerState, inputs: Any) -> tuple[LayerState, Array]:
        saved, before, after, g_h, real = inputs
        g = (g[0] + g_h, *g[1:])
        through = g if real is None else tuple(jnp.where(real, leaf, 0) for leaf in g)
        gz, g_before = cell.pull(saved, before, after, through)
        g_before = (g_before[0] + cell.recurrent(saved, gz) @ kernel_T, *g_before[1:])
        if real is not None:
            g_before = tuple(jnp.where(real, new, held) for new, held in zip(g_before, g, strict=True))
        return g_before, gz

    g_state, gz = lax.scan(step, g_last, (saved, before, states, g_h, real), reverse=not reverse)
    gz_h = cell.recurrent(saved, gz)
    rows = gz_h.shape[0] * gz_h.shape[1]
    g_kernel = before[0].reshape(rows, -1).T @ gz_h.reshape(rows, -1)
    return gz, g_kernel, None if bias is None else gz_h.sum((0, 1))[None], g_state, None


unroll.defvjp(_unroll_forward, _unroll_backward)
