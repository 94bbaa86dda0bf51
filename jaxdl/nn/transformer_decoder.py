"""Transformer decoder: self-attention to what came before, attention to the encoder's output."""

from typing import NamedTuple

from flax import linen as nn
from jax import Array

from jaxdl.nn.attention import KeyValueCache, KeyValues, zero_padding
from jaxdl.nn.transformer import Block, decode_through


class DecoderCache(NamedTuple):
    """What a decoder block keeps from token to token; the leading axis of every leaf is B."""

    tokens: KeyValueCache  # of the tokens decoded so far
    memory: KeyValues  # of the encoder's output


class DecoderBlock(nn.Module):
    """Causal self-attention, attention to an encoder's output, and a feed-forward network; sums as in `EncoderBlock`.

    8 D^2 + 2 D F + 15 D + F parameters; dropout as in PyTorch's TransformerDecoderLayer.

    Attributes:
      block: its options.

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
        """[B, T, D] for x [B, T, D] and memory [B, S, D_m]; arguments as in `TransformerDecoder`."""
        first, second, third = self.residuals
        y = self.self_attention(first.before(x), train=train, causal=causal, key_mask=key_mask)
        x = first.after(x, y, train)
        y = self.cross_attention(second.before(x), memory, train=train, key_mask=memory_mask)
        x = second.after(x, y, train)
        return third.after(x, self.feed_forward(third.before(x), train), train)

    def start(self, memory: Array, size: int, memory_mask: Array | None = None) -> DecoderCache:
        """A cache for `size` tokens, with the keys and values of memory [B, S, D_m] computed once."""
        empty = KeyValueCache.empty(len(memory), size, self.block.heads, self.block.features, memory.dtype)
        return DecoderCache(empty, self.cross_attention.project(memory, key_mask=memory_mask))

    def decode(self, x: Array, cache: DecoderCache) -> tuple[Array, DecoderCache]:
        """The causal call for the next T tokens x [B, T, D], and the cache with them in it."""
        first, second, third = self.residuals
        y, tokens = self.self_attention.decode(first.before(x), cache.tokens)
        x = first.after(x, y)
        x = second.after(x, self.cross_attention(second.before(x), cache.memory))
        return third.after(x, self.feed_forward(third.before(x))), cache._replace(tokens=tokens)


class TransformerDecoder(nn.Module):
    """A stack of decoder blocks, and one more layer norm behind it if the blocks are pre-norm.

    L (8 D^2 + 2 D F + 15 D + F) parameters, and 2 D for the last norm: the decoder of Vaswani et al. 2017 (6 layers, 8
    heads, D 512, F 2048) has 25,224,192.

    Attributes:
      layers: L.
      block: options of each.
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
        """Decoded tokens [B, T, D].

        Args:
          x: [B, T, D], float: embedded tokens, with their positions, each shifted by one place to the right.
          memory: [B, S, D_m], the encoder's output.
          train: whether dropout is on.
          causal: token t sees tokens s <= t only; False for a decoder that writes all tokens at once.
          key_mask: bool [B, T], False where x is padding.
          memory_mask: bool [B, S], False where memory is padding. Padding may hold anything, NaN included.
        """
        x = zero_padding(x, key_mask)
        for block in self.blocks:
            x = block(x, memory, train, causal=causal, key_mask=key_mask, memory_mask=memory_mask)
        return self.norm(x)

    def start(self, memory: Array, size: int, memory_mask: Array | None = None) -> tuple[DecoderCache, ...]:
        """For `decode`: room for `size` tokens, and the keys and values of memory [B, S, D_m], layer by layer."""
        return tuple(block.start(memory, size, memory_mask) for block in self.blocks)

    def decode(self, x: Array, caches: tuple[DecoderCache, ...]) -> tuple[Array, tuple[DecoderCache, ...]]:
        """The causal call for the next T tokens x [B, T, D], and the caches with them in."""
        x, caches = decode_through(self.blocks, x, caches)
        return self.norm(x), caches
