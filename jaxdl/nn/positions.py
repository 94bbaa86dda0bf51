"""Positions of tokens: sinusoids and learned vectors."""

import math

import chex
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer


def sinusoidal_positions(length: int, features: int, base: float = 10_000.0) -> Array:
    """PE[t, 2i] = sin(t / base^(2i / D)), PE[t, 2i + 1] = cos(t / base^(2i / D)).

    Wavelengths go from 2 pi to 2 pi base. For even D, PE[t + k] is a linear function of PE[t], the same for every t: a
    rotation of each pair.

    Args:
      length: positions t = 0 .. length - 1.
      features: D, at least 1.
      base: > 0.

    Returns:
      [length, D], float32, in [-1, 1]; for `add_positions`.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    # In float64: the angle of a float32 product is 1e-3 off at t = 10,000.
    angles = np.arange(length)[:, None] / base ** (2 * np.arange(math.ceil(features / 2)) / features)
    table = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, -1)[:, :features]
    return jnp.asarray(table, jnp.float32)


def add_positions(x: Array, table: Array, start: Array | None = None) -> Array:
    """x[b, t] + table[start[b] + t].

    Args:
      x: [B, T, D].
      table: [length, D].
      start: int32 [B], tokens before x in each row; default 0. Beyond the table the sum is NaN, because under jit
        nobody can raise.

    Returns:
      [B, T, D].

    Raises:
      ValueError: T is more than length.
    """
    B, T, D = x.shape
    length = len(table)
    chex.assert_shape(table, (length, D))
    if length < T:
        raise ValueError(f"positions: the sequence has {T} tokens, the table only {length}; make it longer or cut x")
    if start is None:
        return x + table[None, :T]
    chex.assert_shape(start, (B,))
    return x + jnp.asarray(table).at[start[:, None] + jnp.arange(T)[None]].get(mode="fill", fill_value=jnp.nan)


class LearnedPositions(nn.Module):
    """x[b, t] + P[t], with P [length, D] learned; length D parameters.

    Attributes:
      length: the longest sequence.
      embedding_init: linen initialiser of P.

    Reference: Gehring et al. 2017, arXiv:1705.03122; GPT and BERT have them too.
    """

    length: int
    embedding_init: Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(self, x: Array, start: Array | None = None) -> Array:
        """[B, T, D] for x [B, T, D]; `start` and errors as in `add_positions`."""
        return add_positions(x, self.param("embedding", self.embedding_init, (self.length, x.shape[-1])), start)
