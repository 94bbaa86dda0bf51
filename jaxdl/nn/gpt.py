"""GPT: a language model of causal Transformer blocks."""

from typing import Any

import chex
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl.nn.attention import Dense, KeyValueCache
from jaxdl.nn.positions import LearnedPositions, add_positions, sinusoidal_positions
from jaxdl.nn.transformer import Block, TransformerEncoder, gelu

SCALE = 0.02  # standard deviation of the first weights


class GPT(nn.Module):
    """Decoder-only language model: token + position embedding, L pre-norm causal blocks, layer norm, logits.

    V D + T_max D + L (12 D^2 + 13 D) + 2 D parameters, V D more if not tied; without biases V D + T_max D +
    L (12 D^2 + 2 D) + D. nanoGPT's smallest (4 layers, 4 heads, D 128, T_max 64, V 65, no biases) has 804,096, of which
    it reports 0.80M without the positions; with biases 809,856. GPT-2 (12 layers, 12 heads, D 768, T_max 1024,
    V 50,257) has 124,439,808.

    Weights start as N(0, 0.02^2), those in front of the 2 L residual sums as N(0, 0.02^2 / (2 L)), so that the size of
    x does not grow with L; biases as 0.

    Attributes:
      vocabulary: V.
      context: T_max, the longest sequence.
      layers: L.
      heads: H, a divisor of D.
      features: D; the feed-forward network is 4 D wide.
      dropout: probability in [0, 1), also of the embedded tokens; needs a "dropout" key.
      position: "learned"; "sinusoidal", those of `sinusoidal_positions` at the size of the token embeddings, without
        parameters; or "none": only the causal mask is left to tell the order of tokens.
      use_bias: in projections, feed-forward network and norms; the output has none.
      remat: keep only the input of each block for the backward pass, and compute the rest anew.
      tied: the output's matrix is the token embedding's (Press & Wolf 2017, arXiv:1608.05859).

    References: Radford et al. 2018 and 2019 (GPT, GPT-2).
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
        """Logits [B, T, V] of the token that follows each of tokens [B, T], integers in [0, V).

        Raises:
          ValueError: T is more than the context, heads does not divide features, a dropout is outside [0, 1), or
            position is none of the three.
        """
        chex.assert_rank(tokens, 2)
        x = self.drop(self._embed(tokens), deterministic=not train)
        return self._logits(self.blocks(x, train, causal=True))

    @nn.nowrap
    def empty_cache(self, batch: int, dtype: Any = jnp.float32) -> tuple[KeyValueCache, ...]:
        """For `decode`: room for `context` tokens in each of `batch` rows, layer by layer."""
        shape = (batch, self.context, self.heads, self.features)
        return tuple(KeyValueCache.empty(*shape, dtype) for _ in range(self.layers))

    def decode(self, tokens: Array, caches: tuple[KeyValueCache, ...]) -> tuple[Array, tuple[KeyValueCache, ...]]:
        """The call for the next T tokens [B, T] only, a prompt at once or one by one, and the caches with them in.

        A row for which the T tokens go beyond the context is NaN, because under jit nobody can raise.
        """
        x, caches = self.blocks.decode(self._embed(tokens, caches[0].length), caches)
        return self._logits(x), caches

    def _embed(self, tokens: Array, start: Array | None = None) -> Array:
        x = self.embedding(tokens)
        if self.position == "learned":
            return self.positions(x, start)
        if self.position == "sinusoidal":
            # sin² + cos² = 1: entries of 0.02 √2 times the table have the root mean square 0.02 of the embedding's
            return add_positions(x, SCALE * 2**0.5 * sinusoidal_positions(self.context, self.features), start)
        if self.position != "none":
            raise ValueError(f"GPT: position is {self.position!r}, it must be learned, sinusoidal or none")
        return x

    def _logits(self, x: Array) -> Array:
        if not self.tied:
            return self.output(x)
        return self.embedding.attend(x.reshape(-1, self.features)).reshape(*x.shape[:2], self.vocabulary)
