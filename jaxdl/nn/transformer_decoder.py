"""Transformer decoder: blocks of causal self-attention, cross-attention and a feed-forward network."""

from typing import NamedTuple

from flax import linen as nn
from jax import Array

from jaxdl.nn.attention import KeyValueCache, KeyValues, zero_padding
from jaxdl.nn.transformer import Block, decode_through


class DecoderCache(NamedTuple):
    """Cache of a decoder block during decoding; the leading axis of every leaf is B."""

    tokens: KeyValueCache  # of the tokens decoded so far
    memory: KeyValues  # of the encoder's output


class DecoderBlock(nn.Module):
    """Decoder block: causal self-attention, cross-attention to an encoder's output, and a feed-forward network.

    Residual connections are as in `EncoderBlock`, dropout as in PyTorch's TransformerDecoderLayer. With memory of width
    D it has 8 D^2 + 2 D F + 15 D + F parameters.

    Attributes:
      block: options of the block.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """

    block: Block

    def setup(self) -> None:  # noqa: D102
        self.self_attention, self.cross_attention = self.block.attention(), self.block.attention()
        self.feed_forward = self.block.feed_forward()
        self.residuals = [self.block.residual() for _ in range(3)]

    def __call__(
        self,
        x: Array,
        memory: Array,
        train: bool = False,
        *,
        causal: bool = True,
        key_mask: Array | None = None,
        memory_mask: Array | None = None,
    ) -> Array:
        """Returns outputs [B, T, D] for x [B, T, D] and memory [B, S, D_m]; arguments as in `TransformerDecoder`."""
        first, second, third = self.residuals
        y = self.self_attention(first.before(x), train=train, causal=causal, key_mask=key_mask)
        x = first.after(x, y, train)
        y = self.cross_attention(second.before(x), memory, train=train, key_mask=memory_mask)
        x = second.after(x, y, train)
        return third.after(x, self.feed_forward(third.before(x), train), train)

    def start(self, memory: Array, size: int, memory_mask: Array | None = None) -> DecoderCache:
        """Returns a cache for `size` tokens, with the projected keys and values of memory [B, S, D_m]."""
        empty = KeyValueCache.empty(len(memory), size, self.block.heads, self.block.features, memory.dtype)
        return DecoderCache(empty, self.cross_attention.project(memory, key_mask=memory_mask))

    def decode(self, x: Array, cache: DecoderCache) -> tuple[Array, DecoderCache]:
        """Returns the causal outputs [B, T, D] of the next T tokens x [B, T, D], and the extended cache."""
        first, second, third = self.residuals
        y, tokens = self.self_attention.decode(first.before(x), cache.tokens)
        x = first.after(x, y)
        x = second.after(x, self.cross_attention(second.before(x), cache.memory))
        return third.after(x, self.feed_forward(third.before(x))), cache._replace(tokens=tokens)


class TransformerDecoder(nn.Module):
    """Stack of decoder blocks, followed by a layer norm if the blocks are pre-norm.

    It has L (8 D^2 + 2 D F + 15 D + F) parameters, and 2 D more for the last norm. The decoder of Vaswani et al. 2017
    (6 layers, 8 heads, D 512, F 2048) has 25,224,192.

    Attributes:
      layers: L.
      block: options of each block.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """

    layers: int
    block: Block

    def setup(self) -> None:  # noqa: D102
        self.blocks = [DecoderBlock(self.block) for _ in range(self.layers)]
        self.norm = self.block.last_norm()

    def __call__(
        self,
        x: Array,
        memory: Array,
        train: bool = False,
        *,
        causal: bool = True,
        key_mask: Array | None = None,
        memory_mask: Array | None = None,
    ) -> Array:
        """Returns decoded tokens [B, T, D].

        Args:
          x: embedded tokens with positions, shifted right by one token, [B, T, D], float.
          memory: the encoder's output, [B, S, D_m], float.
          train: whether to apply dropout.
          causal: whether token t sees only tokens s <= t; False for a decoder that predicts all tokens at once.
          key_mask: bool [B, T], False where x is padding. Padding may have any value, including NaN.
          memory_mask: bool [B, S], False where memory is padding, which may have any value, too.

        Raises:
          ValueError: if heads does not divide features, or dropout is outside [0, 1).
          AssertionError: if the shapes do not match.
        """
        x = zero_padding(x, key_mask)
        for block in self.blocks:
            x = block(x, memory, train, causal=causal, key_mask=key_mask, memory_mask=memory_mask)
        return self.norm(x)

    def start(self, memory: Array, size: int, memory_mask: Array | None = None) -> tuple[DecoderCache, ...]:
        """Returns one cache for each layer, for `size` tokens and the projected memory [B, S, D_m]."""
        return tuple(block.start(memory, size, memory_mask) for block in self.blocks)

    def decode(self, x: Array, caches: tuple[DecoderCache, ...]) -> tuple[Array, tuple[DecoderCache, ...]]:
        """Returns the causal outputs [B, T, D] of the next T tokens x [B, T, D], and the extended caches."""
        x, caches = decode_through(self.blocks, x, caches)
        return self.norm(x), caches
