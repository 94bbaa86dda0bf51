"""Recurrent networks: Elman RNN, GRU and LSTM with one interface and PyTorch's equations.

On the CPU matrix products dominate the time, so they are batched over time: one product for all inputs before the scan,
and one for the gradient of each kernel after it (`cells.unroll`). The table has milliseconds of a forward and backward
pass of two layers of 256 on [32, 64, 256], on two cores; in brackets with huge pages
(GLIBC_TUNABLES=glibc.malloc.hugetlb=1), without which page faults of XLA's buffers take a fifth of the time:

                                                            LSTM      GRU       RNN
    Recurrent                                               74 (55)   57 (37)   17 (12)
    Recurrent, half of the batch per core under pmap        38 (38)
    flax's nn.RNN of OptimizedLSTMCell, GRUCell, SimpleCell 94 (66)   77 (62)   31 (24)
    PyTorch 2.13                                            58 (36)   85 (73)   31 (25)

Autodiff of the scan makes the LSTM 1.2 times as slow. `unroll=2` of the scan gains nothing, `unroll=8` costs 30%.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import Array
from jax.nn.initializers import Initializer

from jaxdl.nn.cells import CELLS, Cell, LayerState, unroll
from jaxdl.nn.initializers import ByFanIn, bias_initializer, torch_bias

Carry = tuple[LayerState, ...]
"""States of all layers and directions: layer_0, layer_0_reverse, layer_1, ...; axis 0 of every leaf is B."""


class _Layer(nn.Module):
    """One layer in one direction, time first: x [T, B, D_in], real [T, B, 1] -> h [T, B, D], last state."""

    cell: Cell
    features: int
    kernel_init: Initializer
    recurrent_init: Initializer
    bias_init: Initializer | ByFanIn
    forget_bias: float
    reverse: bool

    @nn.compact
    def __call__(self, x: Array, state: LayerState, real: Array | None) -> tuple[Array, LayerState]:
        (T, B, D_in), D, gates = x.shape, self.features, self.cell.gates

        def each_gate(init: Initializer) -> Callable[..., Array]:
            return lambda key, D_in: jnp.concatenate([init(k, (D_in, D)) for k in jax.random.split(key, gates)], -1)

        def bias_init(key: Array) -> Array:
            bias = bias_initializer(self.bias_init, D)(key, (gates, D))
            return (bias.at[1].add(self.forget_bias) if self.cell.states == 2 else bias).reshape(-1)

        kernel = self.param("kernel", each_gate(self.kernel_init), D_in)
        recurrent_kernel = self.param("recurrent_kernel", each_gate(self.recurrent_init), D)
        bias = self.param("bias", bias_init)
        recurrent_bias = None
        if gates == 3:
            recurrent_bias = self.param("recurrent_bias", bias_initializer(self.bias_init, D), (D,))
            recurrent_bias = jnp.concatenate([jnp.zeros(2 * D, recurrent_bias.dtype), recurrent_bias])[None]
        # As [T B, D_in], because autodiff's kernel gradient for x [T, B, D_in] copies and transposes [T, B, gates D].
        zx = (x.reshape(T * B, D_in) @ kernel + bias[None]).reshape(T, B, gates * D)
        zx, recurrent_kernel, recurrent_bias, *start = promote_dtype(zx, recurrent_kernel, recurrent_bias, *state)
        return unroll(self.cell, self.reverse, zx, recurrent_kernel, recurrent_bias, tuple(start), real)


class Recurrent(nn.Module):
    """Elman RNN, GRU or LSTM with several layers and one or two directions.

    With input x, state h (and c) and sigmoid σ, a layer computes at each time

        rnn   h <- tanh(x W + h U + b)
        gru   r = σ(x W_r + h U_r + b_r),  u = σ(x W_u + h U_u + b_u),  n = tanh(x W_n + b_n + r (h U_n + b'_n))
              h <- (1 - u) n + u h
        lstm  i, f, o = σ(x W_k + h U_k + b_k), k = i, f, o,  g = tanh(x W_g + h U_g + b_g)
              c <- f c + i g,  h <- o tanh(c)

    The parameters of layer l (`layer_l`, and `layer_l_reverse`) are kernel W [D_in, gates D], recurrent_kernel U
    [D, gates D], bias b [gates D] and, for the GRU, recurrent_bias b' [D]. The gates are concatenated in the order of
    PyTorch, r, u (PyTorch's z), n and i, f, g, o, so W and U are weight_ih and weight_hh transposed. PyTorch has two
    biases, of which only the sum matters, b = bias_ih + bias_hh, except in the GRU's candidate: b_n is from bias_ih,
    b'_n from bias_hh. Each direction of a layer has gates D (D_in + D + 1) parameters, and D more for the GRU.

    The GRU's reset gate is applied after the product with U, as in PyTorch, cuDNN and the first version of the paper;
    later versions apply it before.

    By default W is Glorot uniform and U orthogonal, separately for each gate, so that products of U over time initially
    neither grow nor shrink, and the LSTM's forget gates start open (`forget_bias` 1). PyTorch draws everything from
    U(-1/sqrt(D), 1/sqrt(D)): `Recurrent("lstm", 256, **TORCH_RECURRENT)`.

    The gradient over time is a custom one, which supports reverse mode only: second derivatives need
    `jax.jacrev(jax.grad(...))`, and `jax.jvp` and `jax.hessian` raise a TypeError.

    Attributes:
      cell: "rnn", "gru" or "lstm".
      features: D, the width of each layer and direction.
      layers: number of layers, at least 1; the input of a layer is the output of the one below.
      bidirectional: whether a second set of weights reads the sequence backwards; the outputs are [B, T, 2 D].
      dropout: probability in [0, 1) of zeroing an output between two layers in training; the others are divided by
        1 - dropout. Each time has its own draw (Zaremba et al. 2014, arXiv:1409.2329). Needs a "dropout" key.
      kernel_init: linen initialiser of one gate's W [D_in, D].
      recurrent_init: linen initialiser of one gate's U [D, D].
      bias_init: linen initialiser of the biases, or a `ByFanIn`; fan_in is D here.
      forget_bias: number added to the initial b_f of the LSTM.

    References: Elman 1990, Finding structure in time; Hochreiter & Schmidhuber 1997, Long short-term memory; Gers et
    al. 2000, Learning to forget; Cho et al. 2014, arXiv:1406.1078 (GRU); Jozefowicz et al. 2015, An empirical
    exploration of recurrent network architectures (forget bias); Saxe et al. 2014, arXiv:1312.6120 (orthogonal).
    """

    cell: str
    features: int
    layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_init: Initializer = nn.initializers.orthogonal()
    bias_init: Initializer | ByFanIn = nn.initializers.zeros
    forget_bias: float = 1.0

    @nn.nowrap
    def initial_carry(self, batch_size: int) -> Carry:
        """Returns zeros, float32: h [B, D] for each layer and direction, and for the LSTM also c [B, D]."""

        def zeros() -> LayerState:
            return tuple(jnp.zeros((batch_size, self.features)) for _ in range(self._cell.states))

        # Separate arrays, because one buffer cannot be donated twice.
        return tuple(zeros() for _ in range(self.layers * (1 + self.bidirectional)))

    @nn.compact
    def __call__(
        self, x: Array, carry: Carry | None = None, *, mask: Array | None = None, train: bool = False
    ) -> tuple[Array, Carry]:
        """Returns the outputs of the last layer at all times, and the states after the last step of each row.

        A masked step is skipped: the state is kept, the output is 0, x receives no gradient and may have any value,
        including NaN. If padding follows each row, the result equals that of PyTorch's packed sequences (the backward
        direction starts at the end of each row). Padding before or inside a row is skipped, too.

        Args:
          x: [B, T, D_in], float, T >= 1.
          carry: the carry of an earlier call or of `initial_carry`; None: zeros. Two calls that pass on the carry equal
            one call on the whole sequence, unless bidirectional. A float32 carry keeps the recurrence in float32 when
            parameters and x are bfloat16.
          mask: [B, T], 1 or True for a real step, 0 or False for a masked one; None: all steps are real.
          train: whether to apply dropout.

        Returns:
          Outputs [B, T, D], or [B, T, 2 D] if bidirectional, and the new carry.

        Raises:
          ValueError: if cell is unknown, layers is below 1, or dropout is outside [0, 1).
          AssertionError: if the shapes of x, carry and mask do not match.
        """
        if self.layers < 1:
            raise ValueError(f"Recurrent: layers must be at least 1, got {self.layers}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Recurrent: dropout must be in [0, 1), got {self.dropout}")
        chex.assert_rank(x, 3)
        if carry is None:
            carry = self.initial_carry(len(x))
        chex.assert_trees_all_equal_shapes(carry, self.initial_carry(len(x)))
        real = None
        if mask is not None:
            chex.assert_shape(mask, x.shape[:2])
            real = (mask != 0)[..., None]
            x = jnp.where(real, x, 0)  # NaN times a gradient of 0 is NaN
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
    def _cell(self) -> Cell:
        if self.cell not in CELLS:
            raise ValueError(f"Recurrent: cell must be one of {', '.join(CELLS)}, got {self.cell!r}")
        return CELLS[self.cell]


_by_width = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")  # one gate's fan_out is D

TORCH_RECURRENT: dict[str, Any] = {
    "kernel_init": _by_width,
    "recurrent_init": _by_width,
    "bias_init": torch_bias,
    "forget_bias": 0.0,
}
"""PyTorch's initialisation, U(-1/sqrt(D), 1/sqrt(D)) for all; b is one draw, in PyTorch the sum of two."""
