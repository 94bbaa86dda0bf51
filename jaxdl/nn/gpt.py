"""GPT: a decoder-only Transformer language model."""

from typing import Any

import chex
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl.nn.attention import Dense, KeyValueCache
from jaxdl.nn.positions import LearnedPositions, add_positions, sinusoidal_positions
from jaxdl.nn.transformer import Block, TransformerEncoder, gelu

SCALE = 0.02  # standard deviation of the initial weights


class GPT(nn.Module):
    """Decoder-only language model: token and position embeddings, L pre-norm causal blocks, layer norm, logits.

    With learned positions and biases it has V D + T_max D + L (12 D^2 + 13 D) + 2 D parameters, without biases
    V D + T_max D + L (12 D^2 + 2 D) + D, and V D more if not tied. nanoGPT's smallest model (4 layers, 4 heads, D 128,
    T_max 64, V 65, no biases) has 804,096; nanoGPT reports 0.80M, without the positions. With biases it has 809,856.
    GPT-2 (12 layers, 12 heads, D 768, T_max 1024, V 50,257) has 124,439,808.

    Kernels and embeddings are drawn from N(0, 0.02^2), the kernels before the 2 L residual sums from
    N(0, 0.02^2 / (2 L)), so that the variance of x does not grow with L. Biases are 0.

    Attributes:
      vocabulary: V.
      context: T_max, the longest sequence.
      layers: L.
      heads: H, a divisor of D.
      features: D; the feed-forward network is 4 D wide.
      dropout: probability in [0, 1) of zeroing an attention weight, a hidden unit, a sublayer's output or an entry of
        the embedded tokens in training; needs a "dropout" key.
      use_bias: whether projections, feed-forward networks and norms have biases; the output layer has none.
      tied: whether the output layer shares the token embedding (Press & Wolf 2017, arXiv:1608.05859).
      position: "learned"; "sinusoidal", the parameter-free `sinusoidal_positions` scaled to the token embeddings; or
        "none", which leaves only the causal mask to distinguish the order of tokens.
      remat: whether to keep only the input of each block for the backward pass and recompute the rest.

    References: Radford et al. 2018, Improving language understanding by generative pre-training; Radford et al. 2019,
    Language models are unsupervised multitask learners (GPT-2).
    """

    vocabulary: int
    context: int
    layers: int = 4
    heads: int = 4
    features: int = 128
    dropout: float = 0.0
    use_bias: bool = True
    tied: bool = True
    position: str = "learned"
    remat: bool = False

    def setup(self) -> None:  # noqa: D102
        init, out_init = nn.initializers.normal(SCALE), nn.initializers.normal(SCALE / (2 * self.layers) ** 0.5)
        self.embedding = nn.Embed(self.vocabulary, self.features, embedding_init=init)
        if self.position == "learned":
            self.positions = LearnedPositions(self.context, init)
        self.drop = nn.Dropout(self.dropout)
        width, options = self.features, dict[str, Any](dropout=self.dropout, use_bias=self.use_bias)
        block = Block(self.heads, width, 4 * width, gelu, pre_norm=True, kernel_init=init, out_init=out_init, **options)
        self.blocks = TransformerEncoder(self.layers, block, self.remat)
        if not self.tied:
            self.output = Dense(self.vocabulary, use_bias=False, kernel_init=init)

    def __call__(self, tokens: Array, train: bool = False) -> Array:
        """Returns logits [B, T, V] of the token after each of the given tokens.

        Args:
          tokens: [B, T], integers in [0, V), with T <= context.
          train: whether to apply dropout.

        Raises:
          ValueError: if T exceeds the context, heads does not divide features, dropout is outside [0, 1), or
            position is unknown.
          AssertionError: if tokens is not of rank 2.
        """
        chex.assert_rank(tokens, 2)
        x = self.drop(self._embed(tokens), deterministic=not train)
        return self._logits(self.blocks(x, train, causal=True))

    @nn.nowrap
    def empty_cache(self, batch: int, dtype: Any = jnp.float32) -> tuple[KeyValueCache, ...]:
        """Returns one empty cache for each layer, for `context` tokens in each of `batch` rows."""
        shape = (batch, self.context, self.heads, self.features)
        return tuple(KeyValueCache.empty(*shape, dtype) for _ in range(self.layers))

    def decode(self, tokens: Array, caches: tuple[KeyValueCache, ...]) -> tuple[Array, tuple[KeyValueCache, ...]]:
        """Computes the logits of the next T tokens, a whole prompt or one token at a time.

        A row that exceeds the context becomes NaN, because compiled code cannot raise.

        Args:
          tokens: [B, T], integers in [0, V).
          caches: one for each layer, from `empty_cache` or an earlier call.

        Returns:
          Logits [B, T, V], and the caches extended by T tokens.

        Raises:
          ValueError: if T exceeds the context.
        """
        x, caches = self.blocks.decode(self._embed(tokens, caches[0].length), caches)
        return self._logits(x), caches

    def _embed(self, tokens: Array, start: Array | None = None) -> Array:
        x = self.embedding(tokens)
        if self.position == "learned":
            return self.positions(x, start)
        if self.position == "sinusoidal":
            # sin² + cos² = 1, so the table times 0.02 √2 has root mean square 0.02, as the token embeddings have
            return add_positions(x, SCALE * 2**0.5 * sinusoidal_positions(self.context, self.features), start)
        if self.position != "none":
            raise ValueError(f"GPT: position must be learned, sinusoidal or none, got {self.position!r}")
        return x

    def _logits(self, x: Array) -> Array:
        if not self.tied:
            return self.output(x)
        return self.embedding.attend(x.reshape(-1, self.features)).reshape(*x.shape[:2], self.vocabulary)
