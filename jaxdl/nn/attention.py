"""Attention: scaled dot-product attention, multi-head attention and a key-value cache for decoding."""

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
    """Returns softmax(Q K^T / sqrt(D) + bias) over the visible keys; a query that sees no key has weights 0.

    If the entries of Q and K have mean 0 and variance 1, the products have variance D. Dividing by sqrt(D) makes it 1,
    so the softmax does not saturate at initialisation. Logits and softmax are computed in float32 at least.

    Args:
      queries: [B, T, H, D], float; D is the width of one head.
      keys: [B, S, H, D], float.
      causal: whether query t sees only keys s <= t.
      mask: bool, True where a query may see a key; rank 4, broadcastable to [B, H, T, S].
      bias: finite float added to the logits, for example relative positions; rank 4, broadcastable to [B, H, T, S].

    Returns:
      Weights [B, H, T, S], >= 0, float32 (float64 for float64 queries). They sum to 1 over S, or to 0 where a query
      sees no key.

    Raises:
      AssertionError: if the shapes do not match.

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
    # The lowest finite number, not -inf: a row of -inf has softmax and gradient NaN. The second `where` zeroes the row.
    weights = jax.nn.softmax(jnp.where(mask, logits, jnp.finfo(dtype).min))
    return jnp.where(mask, weights, 0)


def zero_padding(x: Array, mask: Array | None) -> Array:
    """Returns x [B, S, ...] with 0 where mask [B, S] is False; a weight of 0 is not enough, because 0 * NaN is NaN."""
    if mask is None:
        return x
    chex.assert_equal_shape_prefix([x, mask], 2)
    return jnp.where(jnp.expand_dims(mask, tuple(range(2, x.ndim))), x, 0)


def _visible(key_mask: Array | None, mask: Array | None) -> Array | None:
    """Combines key_mask [B, S] and mask into a mask of rank 4."""
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
    """Returns softmax(Q K^T / sqrt(D) + bias) V for each head, and 0 for a query that sees no key.

    Equals `jax.nn.dot_product_attention` except for queries that see no key, which get the mean of all values there.
    That function returns no weights, has no dropout and is not faster (a GPT step on the CPU takes 5% longer with it).

    Args:
      queries: [B, T, H, D], float.
      keys: [B, S, H, D], float.
      values: [B, S, H, E], float.
      causal: whether query t sees only keys s <= t.
      key_mask: bool [B, S], False on padding. Keys and values there may have any value, including NaN.
      mask: bool, True where a query may see a key; rank 4, broadcastable to [B, H, T, S]. Hidden keys must be finite.
      bias: finite float added to the logits; rank 4, broadcastable to [B, H, T, S].

    Returns:
      [B, T, H, E], of the dtype of the values.

    Raises:
      AssertionError: if the shapes do not match.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1.
    """
    keys, values = zero_padding(keys, key_mask), zero_padding(values, key_mask)
    weights = attention_weights(queries, keys, causal=causal, mask=_visible(key_mask, mask), bias=bias)
    return _weighted_sum(weights, values)


def _weighted_sum(weights: Array, values: Array) -> Array:
    return jnp.einsum("bhts,bshe->bthe", weights.astype(values.dtype), values)


class KeyValues(NamedTuple):
    """Projected keys and values that are attended to repeatedly, such as an encoder's output during decoding."""

    keys: Array  # [B, S, H, D / H]
    values: Array  # [B, S, H, D / H]
    mask: Array | None = None  # bool [B, S], False on padding


class KeyValueCache(NamedTuple):
    """Keys and values of the tokens decoded so far; the leading axis of every leaf is B.

    Beam search reorders a cache with `jax.tree.map(lambda a: a[rows], cache)`. Rows may have different lengths: decode
    prompts padded to one width, then set `cache._replace(length=lengths)`. Entries beyond a row's length are ignored
    and later overwritten.
    """

    keys: Array  # [B, S_max, H, D / H]
    values: Array  # [B, S_max, H, D / H]
    length: Array  # int32 [B]: tokens seen

    @classmethod
    def empty(cls, batch: int, size: int, heads: int, features: int, dtype: Any = jnp.float32) -> "KeyValueCache":
        """Returns an empty cache for `size` tokens in each of `batch` rows; `features` is D, a multiple of `heads`."""
        shape = (batch, size, heads, features // heads)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(batch, jnp.int32))

    def extend(self, keys: Array, values: Array) -> "KeyValueCache":
        """Returns the cache with T tokens appended to each row, keys and values [B, T, H, D / H]."""
        write = jax.vmap(lambda buffer, new, start: lax.dynamic_update_slice_in_dim(buffer, new, start, 0))
        return KeyValueCache(
            write(self.keys, keys, self.length), write(self.values, values, self.length), self.length + keys.shape[1]
        )


def _dot_general(x: Array, kernel: Array, dimension_numbers: Any, **options: Any) -> Array:
    # With one leading axis, XLA's kernel gradient on the CPU needs no transposed copy of the output's gradient; with
    # two it takes up to twice the time (0.95 instead of 0.55 ms for [12, 64, 128] by [128, 512]), 4% of a GPT step.
    y = lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **options)
    return y.reshape(*x.shape[:-1], -1)


Dense = partial(nn.Dense, dot_general=_dot_general)
"""`flax.linen.Dense` for inputs [B, T, D], with a faster kernel gradient on the CPU."""


class MultiHeadAttention(nn.Module):
    """Multi-head attention: concat_h(softmax(Q_h K_h^T / sqrt(D / H)) V_h) W_o.

    Q = X W_q, K = Y W_k and V = Z W_v are split into H heads of width D / H. With inputs of width D the layer has
    4 D^2 + 4 D parameters. Separate projections serve self-attention and cross-attention; a fused one is not faster on
    the CPU (1% of a GPT step). The bias of the keys has gradient 0, because it adds the same number to all logits of a
    query; under Adam its rounding noise becomes steps that change only this bias.

    The weights [B, H, T, S], before dropout, are sown as `weights` in the collection "intermediates":
    `_, seen = model.apply(variables, x, mutable=["intermediates"])`.

    Decoding passes and returns an explicit cache instead of linen's "cache" collection. The cache is an ordinary carry
    of `lax.scan` with B as the leading axis of every leaf; training and evaluation do not use it.

    The parameters of torch.nn.MultiheadAttention are in_proj_weight = [W_q^T; W_k^T; W_v^T], stacked by rows, and
    out_proj.weight = W_o^T. Its boolean masks are the negation of the masks here.

    Attributes:
      heads: H, the number of heads.
      features: D, a multiple of H: the width of all heads together and of the output.
      dropout: probability in [0, 1) of zeroing a weight in training; needs a "dropout" key.
      use_bias: whether the four projections have a bias.
      kernel_init: linen initialiser of the four kernels.
      out_init: linen initialiser of W_o; defaults to `kernel_init`.

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
                f"MultiHeadAttention: features must be a multiple of heads, got {self.features} and {self.heads}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"MultiHeadAttention: dropout must be in [0, 1), got {self.dropout}")
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
        """Attends from the queries to the keys and values.

        Args:
          queries: [B, T, D_q], float.
          keys: [B, S, D_k], float, or the result of `project`; default: the queries (self-attention).
          values: [B, S, D_v], float; default: the keys.
          train: whether to apply dropout to the weights.
          causal: whether query t sees only keys s <= t.
          key_mask: bool [B, S], False on padding. Keys and values there may have any value, including NaN. In
            self-attention the outputs at padding are finite but meaningless.
          mask: bool, True where a query may see a key; rank 4, broadcastable to [B, H, T, S].
          bias: finite float added to the logits; rank 4, broadcastable to [B, H, T, S].

        Returns:
          [B, T, D].

        Raises:
          ValueError: if features is not a multiple of heads, dropout is outside [0, 1), or values or key_mask are given
            together with keys from `project`.
          AssertionError: if the shapes do not match.
        """
        chex.assert_rank(queries, 3)
        if isinstance(keys, KeyValues):
            if key_mask is not None or values is not None:
                raise ValueError("MultiHeadAttention: values and key_mask must be None with keys from `project`")
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
        """Projects keys [B, S, D_k] and values [B, S, D_v] (default: the keys) to [B, S, H, D / H], for many calls."""
        keys = zero_padding(keys, key_mask)
        values = keys if values is None else zero_padding(values, key_mask)
        return KeyValues(self._split(self.key(keys)), self._split(self.value(values)), key_mask)

    def decode(self, x: Array, cache: KeyValueCache) -> tuple[Array, KeyValueCache]:
        """Applies causal self-attention to the next T tokens, which also see the tokens in the cache.

        Decoding one token at a time, or T tokens of a prompt at once, equals the causal call on the whole sequence. A
        row that overflows the cache becomes NaN and stays NaN, because compiled code cannot raise.

        Args:
          x: [B, T, D], float.
          cache: the tokens decoded so far.

        Returns:
          Outputs [B, T, D], and the cache extended by T tokens.

        Raises:
          ValueError: if T exceeds the size of the cache.
        """
        size, T = cache.keys.shape[1], x.shape[1]
        if size < T:
            raise ValueError(f"MultiHeadAttention: the cache must hold the {T} tokens of x, got size {size}")
        position = cache.length[:, None] + jnp.arange(T)[None]
        cache = cache.extend(*self.project(x)[:2])
        mask = jnp.arange(size)[None, None] <= position[:, :, None]
        weights = attention_weights(self._split(self.query(x)), cache.keys, mask=mask[:, None])
        y = self._output(weights, cache.values, train=False)
        return jnp.where((cache.length <= size)[:, None, None], y, jnp.nan), cache

    @nn.nowrap
    def empty_cache(self, batch: int, size: int, dtype: Any = jnp.float32) -> KeyValueCache:
        """Returns an empty cache for `size` tokens in each of `batch` rows."""
        return KeyValueCache.empty(batch, size, self.heads, self.features, dtype)

    def _split(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], self.heads, self.features // self.heads)

    def _output(self, weights: Array, values: Array, train: bool) -> Array:
        self.sow("intermediates", "weights", weights)
        y = _weighted_sum(self.drop(weights, deterministic=not train), values)
        return self.out(y.reshape(*y.shape[:2], self.features))
