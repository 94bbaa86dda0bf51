"""Recurrent networks: Elman RNN, GRU and LSTM with one interface and PyTorch's equations.

On the CPU the time goes into the matrix products, so all that can wait for each other are one: the inputs of all times
before the scan, the gradients of both kernels after it (`cells.unroll`). Milliseconds of a forward and backward pass of
two layers of 256 on [32, 64, 256], on two cores; in brackets with huge pages, GLIBC_TUNABLES=glibc.malloc.hugetlb=1,
without which a fifth of the time goes into page faults of XLA's buffers:

                                                            LSTM      GRU       RNN
    this                                                    74 (55)   57 (37)   17 (12)
    this, half of the batch on each core under pmap         38 (38)
    flax's nn.RNN of OptimizedLSTMCell, GRUCell, SimpleCell 94 (66)   77 (62)   31 (24)
    PyTorch 2.13                                            58 (36)   85 (73)   31 (25)

Autodiff of the scan makes the LSTM's pass 1.2 times as long; `unroll=2` of the scan gains nothing, 8 costs 30%.
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
"""States of all layers and directions, in the order layer_0, layer_0_reverse, layer_1, ...; B is each leaf's axis 0."""


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
        # As [T B, D_in], because for x [T, B, D_in] autodiff's kernel gradient transposes a copy of [T, B, gates D].
        zx = (x.reshape(T * B, D_in) @ kernel + bias[None]).reshape(T, B, gates * D)
        zx, recurrent_kernel, recurrent_bias, *start = promote_dtype(zx, recurrent_kernel, recurrent_bias, *state)
        return unroll(self.cell, self.reverse, zx, recurrent_kernel, recurrent_bias, tuple(start), real)


class Recurrent(nn.Module):
    """Elman RNN, GRU or LSTM, in layers and directions; per layer, with input x, state h (and c), sigmoid σ:

        rnn   h <- tanh(x W + h U + b)
        gru   r = σ(x W_r + h U_r + b_r),  u = σ(x W_u + h U_u + b_u),  n = tanh(x W_n + b_n + r (h U_n + b'_n))
              h <- (1 - u) n + u h
        lstm  i, f, o = σ(x W_k + h U_k + b_k), k = i, f, o,  g = tanh(x W_g + h U_g + b_g)
              c <- f c + i g,  h <- o tanh(c)

    Parameters of layer l (`layer_l`, and `layer_l_reverse`): kernel W [D_in, gates D], recurrent_kernel U [D, gates D],
    bias b [gates D], and for the GRU recurrent_bias b' [D]; the gates side by side in PyTorch's order, r, u (its z), n
    and i, f, g, o. So W and U are weight_ih and weight_hh transposed. PyTorch's two biases act only as their sum,
    b = bias_ih + bias_hh, except in the GRU's candidate: b_n is from bias_ih, b'_n from bias_hh. Each direction of a
    layer has gates D (D_in + D + 1) parameters, the GRU's D more.

    The GRU's reset gate stands behind the product with U, as in PyTorch, cuDNN and the paper's first version; in the
    later ones it stands before.

    By default W is Glorot uniform and U orthogonal, each gate by itself, so that products of U over time neither grow
    nor shrink at first; the LSTM starts with open forget gates, `forget_bias` 1. PyTorch's choice, everything from
    U(-1/sqrt(D), 1/sqrt(D)), is `Recurrent("lstm", 256, **TORCH_RECURRENT)`.

    Second derivatives work by reverse mode alone, `jax.jacrev(jax.grad(...))`: the gradient over time is a custom one,
    so that `jax.jvp`, and with it `jax.hessian`, raises a TypeError.

    Attributes:
      cell: "rnn", "gru" or "lstm".
      features: D, of each layer and direction.
      layers: number of layers; a layer's input is the output of the one below.
      bidirectional: a second set of weights reads from the end; outputs are side by side, [B, T, 2 D].
      dropout: probability in [0, 1) of an output between two layers being 0 in training, the others divided by
        1 - dropout, drawn anew for each time (Zaremba et al. 2014, arXiv:1409.2329); needs a "dropout" key.
      kernel_init: linen initialiser of one gate's W [D_in, D].
      recurrent_init: linen initialiser of one gate's U [D, D].
      bias_init: linen initialiser of the biases, or one by fan_in, which is D here (`ByFanIn`).
      forget_bias: added to the LSTM's b_f at the start.

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
        """Zeros: for each layer and direction h [B, D], float32, and for the LSTM c [B, D]."""

        def zeros() -> LayerState:
            return tuple(jnp.zeros((batch_size, self.features)) for _ in range(self._cell.states))

        # Each an array of its own, because one buffer cannot be donated twice.
        return tuple(zeros() for _ in range(self.layers * (1 + self.bidirectional)))

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
            is the whole sequence in one, unless bidirectional. A float32 carry keeps the recurrence in float32 when
            parameters and x are bfloat16.
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
    def _cell(self) -> Cell:
        if self.cell not in CELLS:
            raise ValueError(f"Recurrent: cell is {self.cell!r}, it must be one of {', '.join(CELLS)}")
        return CELLS[self.cell]


_by_width = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")  # one gate's fan_out is D

TORCH_RECURRENT: dict[str, Any] = {
    "kernel_init": _by_width,
    "recurrent_init": _by_width,
    "bias_init": torch_bias,
    "forget_bias": 0.0,
}
"""PyTorch's start, all U(-1/sqrt(D), 1/sqrt(D)); its b is the sum of two such draws, here one."""
