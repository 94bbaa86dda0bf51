"""Position embeddings: sinusoidal and learned."""

import math

import chex
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer


def sinusoidal_positions(length: int, features: int, base: float = 10_000.0) -> Array:
    """Returns the table PE[t, 2i] = sin(t / base^(2i / D)), PE[t, 2i + 1] = cos(t / base^(2i / D)).

    Wavelengths range from 2 pi to 2 pi base. For even D, PE[t + k] is the same linear function of PE[t] for every t: a
    rotation of each pair.

    Args:
      length: number of positions t = 0 .. length - 1.
      features: D, at least 1.
      base: > 0, controls the longest wavelength.

    Returns:
      [length, D], float32, in [-1, 1], for `add_positions`.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    # In float64, because float32 angles have errors of 1e-3 at t = 10,000.
    angles = np.arange(length)[:, None] / base ** (2 * np.arange(math.ceil(features / 2)) / features)
    table = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, -1)[:, :features]
    return jnp.asarray(table, jnp.float32)


def add_positions(x: Array, table: Array, start: Array | None = None) -> Array:
    """Returns x[b, t] + table[start[b] + t].

    Args:
      x: [B, T, D], float.
      table: [length, D], float.
      start: int32 [B], number of tokens before x in each row; default 0. Positions beyond the table give NaN, because
        compiled code cannot raise.

    Returns:
      [B, T, D].

    Raises:
      ValueError: if T exceeds length.
      AssertionError: if the shapes do not match.
    """
    B, T, D = x.shape
    length = len(table)
    chex.assert_shape(table, (length, D))
    if length < T:
        raise ValueError(f"positions: x must have at most {length} tokens, the length of the table, got {T}")
    if start is None:
        return x + table[None, :T]
    chex.assert_shape(start, (B,))
    return x + jnp.asarray(table).at[start[:, None] + jnp.arange(T)[None]].get(mode="fill", fill_value=jnp.nan)


class LearnedPositions(nn.Module):
    """Learned position embeddings: x[b, t] + P[t] with P [length, D]; length D parameters.

    Attributes:
      length: the longest sequence.
      embedding_init: linen initialiser of P.

    Reference: Gehring et al. 2017, arXiv:1705.03122; also used by GPT and BERT.
    """

    length: int
    embedding_init: Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(self, x: Array, start: Array | None = None) -> Array:
        """Returns x [B, T, D] plus the embeddings; `start` and errors as in `add_positions`."""
        return add_positions(x, self.param("embedding", self.embedding_init, (self.length, x.shape[-1])), start)
