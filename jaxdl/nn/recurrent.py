"""Recurrent networks: Elman RNN, GRU and LSTM with one interface and PyTorch's equations.

On the CPU a layer's time goes into its matrix products, so all those that can wait for each other are one: the inputs
of all times before the scan, the gradients of both kernels after it (`_unroll`). Forward and backward pass of an LSTM
2 x 256 on [32, 64, 256], one core: PyTorch 65 ms, this 92, flax's `nn.RNN(OptimizedLSTMCell)` 118, the gradient that
autodiff makes of the scan 122 (with the input products as flax's Dense has them, on [T, B, D], 154). Of each of the
last three 25 to 40 ms are page faults of XLA's buffers, which glibc's huge pages take away
(GLIBC_TUNABLES=glibc.malloc.hugetlb=1): 66, 73, 92, 95 and 112 ms. `unroll` in the scan gains nothing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jax.nn import sigmoid
from jax.nn.initializers import Initializer

from jaxdl.nn.initializers import BiasInitializer, torch_bias, zero_bias

LayerState = tuple[Array, ...]  # (h,) of RNN and GRU, (h, c) of the LSTM, each [B, D]
Carry = tuple[LayerState, ...]
"""States of all layers and directions, in the order layer_0, layer_0_reverse, layer_1, ...; B is each leaf's axis 0."""


class _Cell(NamedTuple):
    """One time step and its gradient, on x W + b (`zx`) and h U + b' (`zh`) [B, gates D].

    The gradients are written by hand because what they need can then be saved once: autodiff of the LSTM saves eleven
    arrays [B, D] per step, this five.
    """

    gates: int
    states: int
    step: Callable[[Array, Array, LayerState], tuple[LayerState, LayerState]]  # zx, zh, before -> after, saved
    # saved, before, after, gradient of after -> gradients of zx and of before, the latter without the way through zh
    pull: Callable[[LayerState, LayerState, LayerState, LayerState], tuple[Array, LayerState]]
    # saved, gradient of zx -> gradient of zh
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


_CELLS = {
    "rnn": _Cell(1, 1, _rnn_step, _rnn_pull),
    "gru": _Cell(3, 1, _gru_step, _gru_pull, _gru_recurrent),
    "lstm": _Cell(4, 2, _lstm_step, _lstm_pull),
}


def _scan(
    cell: _Cell, reverse: bool, zx: Array, kernel: Array, bias: Array | None, state: LayerState, real: Array | None
) -> tuple[LayerState, LayerState, LayerState]:
    """The last state, and of all times the states after the step and what the gradient needs."""

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
def _unroll(
    cell: _Cell, reverse: bool, zx: Array, kernel: Array, bias: Array | None, state: LayerState, real: Array | None
) -> tuple[Array, LayerState]:
    """h of all times [T, B, D] and the last state; a step that is not real [T, B, 1] keeps its state.

    The custom gradient makes the recurrent kernel's part one product over all times, where autodiff of a scan adds up
    T of them.
    """
    last, states, _ = _scan(cell, reverse, zx, kernel, bias, state, real)
    return states[0], last


def _unroll_forward(
    cell: _Cell, reverse: bool, zx: Array, kernel: Array, bias: Array | None, state: LayerState, real: Array | None
) -> tuple[tuple[Array, LayerState], Any]:
    last, states, saved = _scan(cell, reverse, zx, kernel, bias, state, real)
    return (states[0], last), (kernel, bias, state, real, states, saved)


def _unroll_backward(cell: _Cell, reverse: bool, residuals: Any, gradients: Any) -> tuple[Any, ...]:
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


_unroll.defvjp(_unroll_forward, _unroll_backward)


class _Layer(nn.Module):
    """One layer in one direction, time first: x [T, B, D_in], real [T, B, 1] -> h [T, B, D], last state."""

    cell: _Cell
    features: int
    kernel_init: Initializer
    recurrent_init: Initializer
    bias_init: BiasInitializer
    forget_bias: float
    reverse: bool

    @nn.compact
    def __call__(self, x: Array, state: LayerState, real: Array | None) -> tuple[Array, LayerState]:
        (T, B, D_in), D, gates = x.shape, self.features, self.cell.gates

        def each_gate(init: Initializer) -> Callable[..., Array]:
            return lambda key, D_in: jnp.concatenate([init(k, (D_in, D)) for k in jax.random.split(key, gates)], -1)

        def bias_init(key: Array) -> Array:
            bias = self.bias_init(D)(key, (gates, D))
            return (bias.at[1].add(self.forget_bias) if self.cell.states == 2 else bias).reshape(-1)

        kernel = self.param("kernel", each_gate(self.kernel_init), D_in)
        recurrent_kernel = self.param("recurrent_kernel", each_gate(self.recurrent_init), D)
        bias = self.param("bias", bias_init)
        recurrent_bias = None
        if gates == 3:
            recurrent_bias = self.param("recurrent_bias", self.bias_init(D), (D,))
            recurrent_bias = jnp.concatenate([jnp.zeros(2 * D, recurrent_bias.dtype), recurrent_bias])[None]
        # As [T B, D_in], because for x [T, B, D_in] autodiff's kernel gradient transposes a copy of [T, B, gates D].
        zx = x.reshape(T * B, D_in) @ kernel + bias[None]
        return _unroll(self.cell, self.reverse, zx.reshape(T, B, -1), recurrent_kernel, recurrent_bias, state, real)


class Recurrent(nn.Module):
    """Elman RNN, GRU or LSTM, in layers and directions; per layer, with input x, state h (and c), sigmoid σ:

        rnn   h <- tanh(x W + h U + b)
        gru   r = σ(x W_r + h U_r + b_r),  u = σ(x W_u + h U_u + b_u),  n = tanh(x W_n + b_n + r (h U_n + b'_n))
              h <- (1 - u) n + u h
        lstm  i, f, o = σ(x W_k + h U_k + b_k), k = i, f, o,  g = tanh(x W_g + h U_g + b_g)
              c <- f c + i g,  h <- o tanh(c)

    Parameters of layer l (`layer_l`, and `layer_l_reverse`): kernel W [D_in, gates D], recurrent_kernel U [D, gates D],
    bias b [gates D] and for the GRU recurrent_bias b' [D], with the gates side by side in PyTorch's order: r, u, n and
    i, f, g, o. So W and U are the transposes of weight_ih and weight_hh. PyTorch's two biases only ever appear as a sum,
    b = bias_ih + bias_hh, but for the last D of the GRU: b_n of bias_ih, b'_n of bias_hh (the reset gate stands after
    the product, as in cuDNN and v1 of the paper; in its later versions it stands before). A layer has gates D (D_in + D
    + 1) parameters, the GRU's D more, in each direction.

    By default each gate's W is Glorot uniform, its U orthogonal (products of U over time then neither grow nor shrink at
    first), and the LSTM forgets little: `forget_bias` 1. PyTorch's choice, all U(-1/sqrt(D), 1/sqrt(D)):
    `Recurrent("lstm", 256, **TORCH_RECURRENT)`.

    Gradients of gradients work by reverse mode only (`jax.jacrev(jax.grad(...))`): `jax.jvp`, and with it
    `jax.hessian`, raise a TypeError, because the gradient over time is a custom one.

    Attributes:
      cell: "rnn", "gru" or "lstm".
      features: D, of each layer and direction.
      layers: number of layers; a layer's input is the output of the one below.
      bidirectional: a second set of weights reads from the end; outputs are side by side, [B, T, 2 D].
      dropout: probability in [0, 1) of an output between two layers being 0 in training, drawn anew for each time; needs
        a "dropout" key.
      kernel_init: linen initialiser of one gate's W [D_in, D].
      recurrent_init: linen initialiser of one gate's U [D, D].
      bias_init: D -> linen initialiser of the biases.
      forget_bias: added to the LSTM's b_f at the start.

    References: Elman 1990, Finding structure in time; Hochreiter & Schmidhuber 1997, Long short-term memory; Gers et al.
    2000, Learning to forget; Cho et al. 2014, arXiv:1406.1078 (GRU); Jozefowicz et al. 2015 (forget bias); Saxe et al.
    2014, arXiv:1312.6120 (orthogonal).
    """

    cell: str
    features: int
    layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_init: Initializer = nn.initializers.orthogonal()
    bias_init: BiasInitializer = zero_bias
    forget_bias: float = 1.0

    @nn.nowrap
    def initial_carry(self, batch_size: int) -> Carry:
        """Zeros: for each layer and direction h [B, D], float32, and for the LSTM c [B, D]."""
        state = tuple(jnp.zeros((batch_size, self.features)) for _ in range(self._cell.states))
        return (state,) * (self.layers * (1 + self.bidirectional))

    @nn.compact
    def __call__(
        self, x: Array, carry: Carry | None = None, *, mask: Array | None = None, train: bool = False
    ) -> tuple[Array, Carry]:
        """Outputs of the last layer at all times, and the states behind the last step of each row.

        A step with mask 0 does not happen: the state stays, the output is 0, no gradient passes, and x there may be
        anything, NaN too. With padding behind each row this is PyTorch's packed sequence (the other direction starts at
        the row's own end); padding in front or between is as good.

        Args:
          x: [B, T, D_in], T >= 1.
          carry: as returned or by `initial_carry`; None: zeros. The whole sequence in two calls that hand on the carry
            is the whole sequence in one, unless bidirectional.
          mask: [B, T], 1 or True for a real step; None: all are.
          train: whether to drop out.

        Returns:
          Outputs [B, T, D], bidirectional [B, T, 2 D], and the carry, like the argument.

        Raises:
          ValueError: an unknown cell, layers below 1, or a dropout outside [0, 1).
        """
        if self.layers < 1:
            raise ValueError(f"Recurrent: layers is {self.layers}, it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Recurrent: dropout is {self.dropout}, it must be in [0, 1)")
        chex.assert_rank(x, 3)
        if carry is None:
            carry = self.initial_carry(len(x))
        chex.assert_trees_all_equal_shapes(carry, self.initial_carry(len(x)))
        real = None
        if mask is not None:
            chex.assert_shape(mask, x.shape[:2])
            real = (mask != 0)[..., None]
            x = jnp.where(real, x, 0)  # a NaN would pass a product with a gradient of 0
            real = real.swapaxes(0, 1)
        h = x.swapaxes(0, 1)
        layer_of = partial(
            _Layer,
            self._cell,
            self.features,
            self.kernel_init,
            self.recurrent_init,
            self.bias_init,
            self.forget_bias,
        )
        states = iter(carry)
        last: list[LayerState] = []
        for layer in range(self.layers):
            if layer:
                h = nn.Dropout(self.dropout, deterministic=not train)(h)
            outputs = []
            for name in (f"layer_{layer}", f"layer_{layer}_reverse")[: 1 + self.bidirectional]:
                scan = layer_of(reverse=name.endswith("reverse"), name=name)
                output, state = scan(h, next(states), real)
                outputs.append(output if real is None else jnp.where(real, output, 0))
                last.append(state)
            h = jnp.concatenate(outputs, -1)
        return h.swapaxes(0, 1), tuple(last)

    @property
    def _cell(self) -> _Cell:
        if self.cell not in _CELLS:
            raise ValueError(f"Recurrent: cell is {self.cell!r}, it must be one of {', '.join(_CELLS)}")
        return _CELLS[self.cell]


_by_width = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")  # one gate's fan_out is D

TORCH_RECURRENT: dict[str, Any] = {
    "kernel_init": _by_width,
    "recurrent_init": _by_width,
    "bias_init": torch_bias,
    "forget_bias": 0.0,
}
"""PyTorch's start, all U(-1/sqrt(D), 1/sqrt(D)); its b is the sum of two such draws, here one."""
