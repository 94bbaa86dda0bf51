"""Transformer encoder: blocks of self-attention and a feed-forward network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer

from jaxdl.nn.attention import (
    Dense,
    KeyValueCache,
    MultiHeadAttention,
    zero_padding,
)
from jaxdl.nn.norm import LayerNorm

GLOROT = nn.initializers.glorot_uniform()

# The gradient recomputes the tanh from x instead of keeping four arrays [B, T, 4 D]. This saves memory, and 4% of the
# time of a small GPT's step on the CPU.
gelu = jax.checkpoint(nn.gelu)


@dataclass(frozen=True)
class Block:
    """Options of a Transformer block, with or without cross-attention.

    Attributes:
      heads: H, a divisor of D.
      features: D, the width of the block.
      hidden: F, the width of the feed-forward network.
      activation: activation of the feed-forward network.
      dropout: probability in [0, 1) of zeroing an attention weight, a hidden unit or an entry of a sublayer's output in
        training; needs a "dropout" key.
      pre_norm: True: x <- x + dropout(f(LN(x))). False: post-norm, x <- LN(x + dropout(f(x))).
      use_bias: whether projections, feed-forward network and norms have biases.
      kernel_init: linen initialiser of all kernels.
      out_init: linen initialiser of the kernels before the residual sums; defaults to `kernel_init`.
    """

    heads: int
    features: int
    hidden: int
    activation: Callable[[Array], Array] = nn.relu
    dropout: float = 0.0
    pre_norm: bool = False
    use_bias: bool = True
    kernel_init: Initializer = GLOROT
    out_init: Initializer | None = None

    def attention(self) -> MultiHeadAttention:
        """Returns an attention layer of the block."""
        options = (self.dropout, self.use_bias, self.kernel_init, self.out_init)
        return MultiHeadAttention(self.heads, self.features, *options)

    def feed_forward(self) -> "FeedForward":
        """Returns the feed-forward network of the block."""
        options = (self.dropout, self.use_bias, self.kernel_init, self.out_init)
        return FeedForward(self.features, self.hidden, self.activation, *options)

    def residual(self) -> "Residual":
        """Returns the residual connection around one sublayer."""
        return Residual(self.pre_norm, self.dropout, self.use_bias)

    def last_norm(self) -> Any:
        """Returns the final norm of a stack of blocks: a layer norm for pre-norm blocks, else the identity."""
        return LayerNorm(use_bias=self.use_bias) if self.pre_norm else lambda x: x


class FeedForward(nn.Module):
    """Feed-forward network for each token: W_2 dropout(activation(W_1 x + b_1)) + b_2; 2 D F + F + D parameters.

    Attributes:
      features: D, the width of the output.
      hidden: F, the width of the hidden layer.
      activation: activation after W_1.
      dropout: probability in [0, 1) of zeroing a hidden unit in training; needs a "dropout" key.
      use_bias: whether both layers have a bias.
      kernel_init: linen initialiser of both kernels.
      out_init: linen initialiser of W_2; defaults to `kernel_init`.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.3.
    """

    features: int
    hidden: int
    activation: Callable[[Array], Array] = nn.relu
    dropout: float = 0.0
    use_bias: bool = True
    kernel_init: Initializer = GLOROT
    out_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns outputs [B, T, D] for x [B, T, D], float; `train` applies dropout."""
        x = self.activation(Dense(self.hidden, self.use_bias, kernel_init=self.kernel_init)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Dense(self.features, self.use_bias, kernel_init=self.out_init or self.kernel_init)(x)


class Residual(nn.Module):
    """Residual connection around a sublayer f: `after(x, f(before(x)))`.

        post-norm:  LN(x + dropout(f(x)))      pre-norm:  x + dropout(f(LN(x)))

    Attributes:
      pre_norm: whether to normalise before f instead of after the sum.
      dropout: probability in [0, 1) of zeroing an entry of f's output in training; needs a "dropout" key.
      use_bias: whether the norm has a shift.
    """

    pre_norm: bool
    dropout: float
    use_bias: bool

    def setup(self) -> None:  # noqa: D102
        self.norm = LayerNorm(use_bias=self.use_bias)
        self.drop = nn.Dropout(self.dropout)

    def before(self, x: Array) -> Array:
        """Returns the input of f."""
        return self.norm(x) if self.pre_norm else x

    def after(self, x: Array, y: Array, train: bool = False) -> Array:
        """Returns the sum of x and y, the output of f."""
        x = x + self.drop(y, deterministic=not train)
        return x if self.pre_norm else self.norm(x)


class EncoderBlock(nn.Module):
    """Encoder block: self-attention and a feed-forward network, each with residual connection, dropout, layer norm.

        post-norm:  x <- LN(x + dropout(f(x)))      pre-norm:  x <- x + dropout(f(LN(x)))

    It has 4 D^2 + 2 D F + 9 D + F parameters. Dropout is also applied to the attention weights and the hidden units, as
    in PyTorch's TransformerEncoderLayer. The paper uses post-norm; deep post-norm stacks need a warm-up of the learning
    rate, because the gradients near the output are initially large. Called with `causal=True`, this is GPT's block.

    Attributes:
      block: options of the block.

    References: Vaswani et al. 2017, arXiv:1706.03762, section 3.1; Xiong et al. 2020, arXiv:2002.04745 (pre-norm).
    """

    block: Block

    def setup(self) -> None:  # noqa: D102
        self.attention, self.feed_forward = self.block.attention(), self.block.feed_forward()
        self.residuals = [self.block.residual() for _ in range(2)]

    def __call__(
        self,
        x: Array,
        train: bool = False,
        *,
        causal: bool = False,
        key_mask: Array | None = None,
        mask: Array | None = None,
    ) -> Array:
        """Returns outputs [B, T, D] for x [B, T, D], float; masks and errors as in `MultiHeadAttention`."""
        first, second = self.residuals
        y = self.attention(first.before(x), train=train, causal=causal, key_mask=key_mask, mask=mask)
        x = first.after(x, y, train)
        return second.after(x, self.feed_forward(second.before(x), train), train)

    def decode(self, x: Array, cache: KeyValueCache) -> tuple[Array, KeyValueCache]:
        """Returns the causal outputs [B, T, D] of the next T tokens x [B, T, D], and the extended cache."""
        first, second = self.residuals
        y, cache = self.attention.decode(first.before(x), cache)
        x = first.after(x, y)
        return second.after(x, self.feed_forward(second.before(x))), cache


def decode_through(blocks: Sequence[Any], x: Array, caches: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
    """Passes x through the `decode` of each block; returns the output and the new caches."""
    new = []
    for block, cache in zip(blocks, caches, strict=True):
        x, cache = block.decode(x, cache)
        new.append(cache)
    return x, tuple(new)


class TransformerEncoder(nn.Module):
    """Stack of encoder blocks, followed by a layer norm if the blocks are pre-norm.

    It has L (4 D^2 + 2 D F + 9 D + F) parameters, and 2 D more for the last norm. The encoder of Vaswani et al. 2017
    (6 layers, 8 heads, D 512, F 2048) has 18,914,304.

    Attributes:
      layers: L.
      block: options of each block.
      remat: whether to keep only the input of each block for the backward pass and recompute the rest, which saves
        memory for a third more operations.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """

    layers: int
    block: Block
    remat: bool = False

    def setup(self) -> None:  # noqa: D102
        self.blocks = [EncoderBlock(self.block) for _ in range(self.layers)]
        self.norm = self.block.last_norm()

    def __call__(
        self,
        x: Array,
        train: bool = False,
        *,
        causal: bool = False,
        key_mask: Array | None = None,
        mask: Array | None = None,
    ) -> Array:
        """Returns encoded tokens [B, T, D].

        Args:
          x: embedded tokens with positions, [B, T, D], float.
          train: whether to apply dropout.
          causal: whether token t sees only tokens s <= t.
          key_mask: bool [B, T], False on padding. x may have any value there, including NaN; the outputs there are
            finite but meaningless.
          mask: bool, True where token t may see token s; rank 4, broadcastable to [B, H, T, T].

        Raises:
          ValueError: if heads does not divide features, or dropout is outside [0, 1).
          AssertionError: if the shapes do not match.
        """
        x = zero_padding(x, key_mask)
        call = lambda block, x: block(x, train, causal=causal, key_mask=key_mask, mask=mask)
        for block in self.blocks:
            x = (nn.remat(call) if self.remat else call)(block, x)
        return self.norm(x)

    @nn.nowrap
    def empty_cache(self, batch: int, size: int, dtype: Any = jnp.float32) -> tuple[KeyValueCache, ...]:
        """Returns one empty cache for each layer, for `size` tokens in each of `batch` rows."""
        shape = (batch, size, self.block.heads, self.block.features)
        return tuple(KeyValueCache.empty(*shape, dtype) for _ in range(self.layers))

    def decode(self, x: Array, caches: tuple[KeyValueCache, ...]) -> tuple[Array, tuple[KeyValueCache, ...]]:
        """Returns the causal outputs [B, T, D] of the next T tokens x [B, T, D], and the extended caches."""
        x, caches = decode_through(self.blocks, x, caches)
        return self.norm(x), caches
