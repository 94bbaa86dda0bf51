"""Transformer encoder: blocks of self-attention and a network for each token."""

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

# The gradient computes the tanh again from x instead of keeping four arrays [B, T, 4 D] for it: less memory, and 4% of
# a small GPT's step on the CPU.
gelu = jax.checkpoint(nn.gelu)


@dataclass(frozen=True)
class Block:
    """What the blocks of a Transformer, with or without cross-attention, are made of.

    Attributes:
      heads: H, a divisor of D.
      features: D.
      hidden: F, the width of the feed-forward network.
      activation: of the feed-forward network.
      dropout: probability in [0, 1), also on attention weights and hidden units; needs a "dropout" key.
      pre_norm: x <- x + dropout(f(LN(x))); else post-norm, x <- LN(x + dropout(f(x))).
      use_bias: in projections, feed-forward network and norms.
      kernel_init: linen initialiser of all kernels.
      out_init: of the kernels in front of the sums, if they have their own.
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
        """One attention of the block."""
        options = (self.dropout, self.use_bias, self.kernel_init, self.out_init)
        return MultiHeadAttention(self.heads, self.features, *options)

    def feed_forward(self) -> "FeedForward":
        """The network for each token."""
        options = (self.dropout, self.use_bias, self.kernel_init, self.out_init)
        return FeedForward(self.features, self.hidden, self.activation, *options)

    def residual(self) -> "Residual":
        """The sum around one of the two."""
        return Residual(self.pre_norm, self.dropout, self.use_bias)

    def last_norm(self) -> Any:
        """What stands behind a stack of blocks: one more norm if they are pre-norm, else nothing."""
        return LayerNorm(use_bias=self.use_bias) if self.pre_norm else lambda x: x


class FeedForward(nn.Module):
    """W_2 dropout(activation(W_1 x + b_1)) + b_2, the same for each token; 2 D F + F + D parameters.

    Attributes:
      features: D, the width of the output.
      hidden: F.
      activation: after W_1.
      dropout: probability in [0, 1) of a hidden unit being 0 in training; needs a "dropout" key.
      use_bias: in both layers.
      kernel_init: linen initialiser of both kernels.
      out_init: of W_2, if it has its own.
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
        """[B, T, D] for x [B, T, D]."""
        x = self.activation(Dense(self.hidden, self.use_bias, kernel_init=self.kernel_init)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Dense(self.features, self.use_bias, kernel_init=self.out_init or self.kernel_init)(x)


class Residual(nn.Module):
    """The sum around a sublayer f: `after(x, f(before(x)))`.

    post-norm: LN(x + dropout(f(x)))      pre-norm: x + dropout(f(LN(x)))

    Attributes:
      pre_norm: which of the two.
      dropout: probability in [0, 1).
      use_bias: whether the norm has a shift.
    """

    pre_norm: bool
    dropout: float
    use_bias: bool

    def setup(self) -> None:  # noqa: D102
        self.norm = LayerNorm(use_bias=self.use_bias)
        self.drop = nn.Dropout(self.dropout)

    def before(self, x: Array) -> Array:
        """What f takes."""
        return self.norm(x) if self.pre_norm else x

    def after(self, x: Array, y: Array, train: bool = False) -> Array:
        """The sum of x and what f gave."""
        x = x + self.drop(y, deterministic=not train)
        return x if self.pre_norm else self.norm(x)


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward network, each with a residual connection, dropout and layer norm.

        post-norm:  x <- LN(x + dropout(f(x)))      pre-norm:  x <- x + dropout(f(LN(x)))

    4 D^2 + 2 D F + 9 D + F parameters. Dropout also acts on the attention weights and the hidden units, as in PyTorch's
    TransformerEncoderLayer. Post-norm is the paper's; deep stacks of it need a warm-up of the learning rate, because
    the gradients near the output are large at the start. Called with `causal=True` this is GPT's block.

    Attributes:
      block: its options.

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
        """[B, T, D] for x [B, T, D]; masks as in `MultiHeadAttention`, True where a token may be seen."""
        first, second = self.residuals
        y = self.attention(first.before(x), train=train, causal=causal, key_mask=key_mask, mask=mask)
        x = first.after(x, y, train)
        return second.after(x, self.feed_forward(second.before(x), train), train)

    def decode(self, x: Array, cache: KeyValueCache) -> tuple[Array, KeyValueCache]:
        """The causal call for the next T tokens x [B, T, D], and the cache with them in it."""
        first, second = self.residuals
        y, cache = self.attention.decode(first.before(x), cache)
        x = first.after(x, y)
        return second.after(x, self.feed_forward(second.before(x))), cache


def decode_through(blocks: Sequence[Any], x: Array, caches: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
    """x through the `decode` of each block in turn, and the caches that they return."""
    new = []
    for block, cache in zip(blocks, caches, strict=True):
        x, cache = block.decode(x, cache)
        new.append(cache)
    return x, tuple(new)


class TransformerEncoder(nn.Module):
    """A stack of encoder blocks, and one more layer norm behind it if the blocks are pre-norm.

    L (4 D^2 + 2 D F + 9 D + F) parameters, and 2 D for the last norm: the encoder of Vaswani et al. 2017 (6 layers, 8
    heads, D 512, F 2048) has 18,914,304.

    Attributes:
      layers: L.
      block: options of each.
      remat: the backward pass computes each block anew from its input, which alone is kept: memory for a third more
        operations.
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
        """Encoded tokens [B, T, D].

        Args:
          x: [B, T, D], float: embedded tokens, with their positions.
          train: whether dropout is on.
          causal: token t sees tokens s <= t only.
          key_mask: bool [B, T], False on padding, which may hold anything, NaN included; the outputs there are finite
            and of no use.
          mask: bool, True where token t may see token s, broadcastable to [B, H, T, T].
        """
        x = zero_padding(x, key_mask)
        call = lambda block, x: block(x, train, causal=causal, key_mask=key_mask, mask=mask)
        for block in self.blocks:
            x = (nn.remat(call) if self.remat else call)(block, x)
        return self.norm(x)

    @nn.nowrap
    def empty_cache(self, batch: int, size: int, dtype: Any = jnp.float32) -> tuple[KeyValueCache, ...]:
        """For `decode`: room for `size` tokens in each of `batch` rows, layer by layer."""
        shape = (batch, size, self.block.heads, self.block.features)
        return tuple(KeyValueCache.empty(*shape, dtype) for _ in range(self.layers))

    def decode(self, x: Array, caches: tuple[KeyValueCache, ...]) -> tuple[Array, tuple[KeyValueCache, ...]]:
        """The causal call for the next T tokens x [B, T, D], and the caches with them in."""
        x, caches = decode_through(self.blocks, x, caches)
        return self.norm(x), caches
