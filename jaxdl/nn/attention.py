"""Attention: scaled dot product, many heads, a cache for decoding."""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jax.nn.initializers import Initializer


def attention_weights(
    queries: Array, keys: Array, *, causal: bool = False, mask: Array | None = None, bias: Array | None = None
) -> Array:
    """softmax(Q K^T / sqrt(D) + bias) over the keys that may be seen; a query that may see none has weights 0.

    With entries of Q and K of mean 0 and variance 1 the products have variance D; the division makes it 1, so that the
    softmax starts soft whatever D is. Logits and softmax are float32 at least.

    Args:
      queries: [B, T, H, D], float; D is the width of one head.
      keys: [B, S, H, D].
      causal: query t sees keys s <= t only.
      mask: bool, True where a query may see a key, of rank 4 and broadcastable to [B, H, T, S].
      bias: float, finite, of rank 4 and broadcastable to [B, H, T, S]; relative positions, for example.

    Returns:
      [B, H, T, S], >= 0; the sum over S is 1, or 0 where a query sees nothing.

    Raises:
      AssertionError: shapes do not fit.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1.
    """
    B, T, H, D = queries.shape
    S = keys.shape[1]
    chex.assert_shape(keys, (B, S, H, D))
    chex.assert_rank([a for a in (mask, bias) if a is not None], 4)
    dtype = jnp.promote_types(queries.dtype, jnp.float32)
    logits = jnp.einsum("bthd,bshd->bhts", queries * D**-0.5, keys, preferred_element_type=dtype)
    if bias is not None:
        logits += bias
    if causal:
        earlier = jnp.tri(T, S, dtype=bool)[None, None]
        mask = earlier if mask is None else mask & earlier
    if mask is None:
        return jax.nn.softmax(logits)
    # The lowest finite number, not -inf: a row of it has a softmax and a gradient, which the second `where` makes 0.
    weights = jax.nn.softmax(jnp.where(mask, logits, jnp.finfo(dtype).min))
    return jnp.where(mask, weights, 0)


def zero_padding(x: Array, mask: Array | None) -> Array:
    """x [B, S, ...] with 0 where mask [B, S] is False: 0 times a NaN or an infinity would be NaN in a weighted sum."""
    if mask is None:
        return x
    chex.assert_equal_shape_prefix([x, mask], 2)
    return jnp.where(jnp.expand_dims(mask, tuple(range(2, x.ndim))), x, 0)


def _visible(key_mask: Array | None, mask: Array | None) -> Array | None:
    """The mask of rank 4 that hides what key_mask [B, S] or mask hides."""
    if key_mask is None:
        return mask
    chex.assert_rank(key_mask, 2)
    key_mask = key_mask.astype(bool)[:, None, None]
    return key_mask if mask is None else key_mask & mask


def dot_product_attention(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    causal: bool = False,
    key_mask: Array | None = None,
    mask: Array | None = None,
    bias: Array | None = None,
) -> Array:
    """softmax(Q K^T / sqrt(D) + bias) V per head; a query that may see no key gets 0.

    Equal to `jax.nn.dot_product_attention` but for queries that see nothing: there they get the mean of all values. It
    returns no weights, has no dropout, and is no faster (a GPT's step on the CPU takes 5% longer with it).

    Args:
      queries: [B, T, H, D], float.
      keys: [B, S, H, D].
      values: [B, S, H, E].
      causal: query t sees keys s <= t only.
      key_mask: bool [B, S], False on padding, where keys and values may be anything, NaN included.
      mask: bool, broadcastable to [B, H, T, S]; what it hides has to be finite.
      bias: float, broadcastable to [B, H, T, S].

    Returns:
      [B, T, H, E].

    Raises:
      AssertionError: shapes do not fit.
    """
    keys, values = zero_padding(keys, key_mask), zero_padding(values, key_mask)
    weights = attention_weights(queries, keys, causal=causal, mask=_visible(key_mask, mask), bias=bias)
    return _weighted_sum(weights, values)


def _weighted_sum(weights: Array, values: Array) -> Array:
    return jnp.einsum("bhts,bshe->bthe", weights.astype(values.dtype), values)


class KeyValues(NamedTuple):
    """Keys and values after their projections, to be attended to many times: an encoder's output while decoding."""

    keys: Array  # [B, S, H, D / H]
    values: Array  # [B, S, H, D / H]
    mask: Array | None = None  # bool [B, S], False on padding


class KeyValueCache(NamedTuple):
    """Keys and values of the tokens decoded so far, row by row: the leading axis of every leaf is B.

    So beam search reorders it by `jax.tree.map(lambda a: a[rows], cache)`, and rows may be of different lengths: for
    prompts padded to one width, decode all of it and then set `cache._replace(length=lengths)`; what stands behind a
    row's length is not seen and is written over.
    """

    keys: Array  # [B, S_max, H, D / H]
    values: Array  # [B, S_max, H, D / H]
    length: Array  # int32 [B]: tokens seen

    @classmethod
    def empty(cls, batch: int, size: int, heads: int, features: int, dtype: Any = jnp.float32) -> "KeyValueCache":
        """Room for `size` tokens in each of `batch` rows, for `heads` heads of a width of `features` together."""
        shape = (batch, size, heads, features // heads)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(batch, jnp.int32))

    def extend(self, keys: Array, values: Array) -> "KeyValueCache":
        """The cache with T more tokens, keys and values [B, T, H, D / H], behind those that each row has."""
        write = jax.vmap(lambda buffer, new, start: lax.dynamic_update_slice_in_dim(buffer, new, start, 0))
        return KeyValueCache(
            write(self.keys, keys, self.length), write(self.values, values, self.length), self.length + keys.shape[1]
        )


def _dot_general(x: Array, kernel: Array, dimension_numbers: Any, **options: Any) -> Array:
    # With one leading axis XLA's gradient of the kernel on the CPU needs no transposed copy of the output's gradient;
    # with two it takes up to twice the time (0.95 against 0.55 ms for [12, 64, 128] by [128, 512]); 4% of a GPT's step.
    y = lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **options)
    return y.reshape(*x.shape[:-1], -1)


Dense = partial(nn.Dense, dot_general=_dot_general)
"""linen's Dense for inputs [B, T, D], faster to train on the CPU."""


class MultiHeadAttention(nn.Module):
    """concat_h(softmax(Q_h K_h^T / sqrt(D / H)) V_h) W_o, with Q = X W_q, K = Y W_k, V = Z W_v cut into H heads.

    4 D^2 + 4 D parameters if all inputs have width D. Queries, keys and values have a projection each: a fused one is
    not faster on the CPU (1% of a GPT's step), and separate ones serve self-attention and cross-attention alike. The
    keys' bias has gradient 0, because it adds the same to all logits of a query; under Adam its rounding noise becomes
    steps that change nothing but the bias.

    The weights [B, H, T, S], before dropout, are sown as `weights` in the collection "intermediates":
    `_, seen = model.apply(variables, x, mutable=["intermediates"])`.

    Decoding has an explicit cache, passed in and returned, not linen's "cache" collection: it is an ordinary carry of
    `lax.scan`, its leading axis is B in every leaf, and evaluation and training know nothing of it.

    In terms of torch.nn.MultiheadAttention: in_proj_weight is [W_q^T; W_k^T; W_v^T], one below the other, out_proj's
    weight is W_o^T, and its masks are True where ours are False.

    Attributes:
      heads: H.
      features: D, a multiple of H: the width of all heads together and of the output.
      dropout: probability in [0, 1) of a weight being 0 in training; needs a "dropout" key.
      use_bias: in all four projections.
      kernel_init: linen initialiser of the four kernels.
      out_init: of W_o, if it has its own.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """

    heads: int
    features: int
    dropout: float = 0.0
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    out_init: Initializer | None = None

    def setup(self) -> None:  # noqa: D102
        if self.heads < 1 or self.features % self.heads:
            raise ValueError(
                f"MultiHeadAttention: features is {self.features}, it must be a multiple of heads, {self.heads}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"MultiHeadAttention: dropout is {self.dropout}, it must be in [0, 1)")
        dense = partial(Dense, self.features, use_bias=self.use_bias)
        self.query, self.key, self.value = (dense(kernel_init=self.kernel_init) for _ in range(3))
        self.out = dense(kernel_init=self.out_init or self.kernel_init)
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self,
        queries: Array,
        keys: Array | KeyValues | None = None,
        values: Array | None = None,
        train: bool = False,
        *,
        causal: bool = False,
        key_mask: Array | None = None,
        mask: Array | None = None,
        bias: Array | None = None,
    ) -> Array:
        """[B, T, D] for queries [B, T, D_q].

        Args:
          queries: [B, T, D_q], float.
          keys: [B, S, D_k], or what `project` made of it; default: the queries, self-attention.
          values: [B, S, D_v]; default: the keys.
          train: whether weights drop out.
          causal: query t sees keys s <= t only.
          key_mask: bool [B, S], False on padding, which may hold anything, NaN included. In self-attention the outputs
            there are of no use, but finite.
          mask: bool, True where a query may see a key, broadcastable to [B, H, T, S].
          bias: float, added to the logits, broadcastable to [B, H, T, S].

        Raises:
          ValueError: features is no multiple of heads, a dropout outside [0, 1), or a key_mask or values besides
            those of `project`.
          AssertionError: shapes do not fit.
        """
        chex.assert_rank(queries, 3)
        if isinstance(keys, KeyValues):
            if key_mask is not None or values is not None:
                raise ValueError("MultiHeadAttention: projected keys bring their values and key_mask, give no others")
            projected = keys
        elif keys is None:
            queries = zero_padding(queries, key_mask)
            projected = self.project(queries, values, key_mask)
        else:
            projected = self.project(keys, values, key_mask)
        mask = _visible(projected.mask, mask)
        weights = attention_weights(
            self._split(self.query(queries)), projected.keys, causal=causal, mask=mask, bias=bias
        )
        return self._output(weights, projected.values, train)

    def project(self, keys: Array, values: Array | None = None, key_mask: Array | None = None) -> KeyValues:
        """The part of attention that depends on the keys [B, S, D_k] and values [B, S, D_v] alone, done once."""
        keys = zero_padding(keys, key_mask)
        values = keys if values is None else zero_padding(values, key_mask)
        return KeyValues(self._split(self.key(keys)), self._split(self.value(values)), key_mask)

    def decode(self, x: Array, cache: KeyValueCache) -> tuple[Array, KeyValueCache]:
        """Causal self-attention of the next T tokens x [B, T, D], which also see those in the cache.

        Token by token, or T at a time for a prompt, equals the causal call on the whole sequence. A row for which the T
        tokens are too many for the cache is NaN, then and ever after, because under jit nobody can raise.

        Returns:
          [B, T, D] and the cache with T more tokens.

        Raises:
          ValueError: T is more than the whole cache holds.
        """
        size, T = cache.keys.shape[1], x.shape[1]
        if size < T:
            raise ValueError(f"MultiHeadAttention: {T} tokens at once for a cache of {size}; make it larger")
        position = cache.length[:, None] + jnp.arange(T)[None]
        cache = cache.extend(*self.project(x)[:2])
        mask = jnp.arange(size)[None, None] <= position[:, :, None]
        weights = attention_weights(self._split(self.query(x)), cache.keys, mask=mask[:, None])
        y = self._output(weights, cache.values, train=False)
        return jnp.where((cache.length <= size)[:, None, None], y, jnp.nan), cache

    @nn.nowrap
    def empty_cache(self, batch: int, size: int, dtype: Any = jnp.float32) -> KeyValueCache:
        """Room for `size` tokens in each of `batch` rows."""
        return KeyValueCache.empty(batch, size, self.heads, self.features, dtype)

    def _split(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], self.heads, self.features // self.heads)

    def _output(self, weights: Array, values: Array, train: bool) -> Array:
        self.sow("intermediates", "weights", weights)
        y = _weighted_sum(self.drop(weights, deterministic=not train), values)
        return self.out(y.reshape(*y.shape[:2], self.features))
