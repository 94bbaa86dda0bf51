"""Sampling from language models, token by token with a cache."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike


def choose(key: Array, logits: Array, temperature: ArrayLike = 1.0, top_k: int = 0) -> Array:
    """Draws token i with probability softmax(logits / temperature)_i among the top_k largest logits.

    Args:
      key: PRNG key.
      logits: [B, V], float.
      temperature: >= 0, a scalar or [B]; 0 selects the largest logit.
      top_k: in [1, V], or 0 for all V. Ties with the k-th largest logit are kept.

    Returns:
      Tokens, int32 [B].

    Raises:
      ValueError: if top_k is outside [0, V].
      AssertionError: if logits is not of rank 2.
    """
    chex.assert_rank(logits, 2)
    B, V = logits.shape
    if not 0 <= top_k <= V:
        raise ValueError(f"top_k must be in [1, {V}], or 0 for the whole vocabulary, got {top_k}")
    if top_k:
        logits = jnp.where(logits < lax.top_k(logits, top_k)[0][:, -1:], -jnp.inf, logits)
    temperature = jnp.broadcast_to(temperature, (B,))[:, None]
    drawn = jax.random.categorical(key, logits / jnp.where(temperature > 0, temperature, 1))
    return jnp.where(temperature[:, 0] > 0, drawn, logits.argmax(-1)).astype(jnp.int32)


def generate(
    decode: Callable[[Array, Any], tuple[Array, Any]],
    memory: Any,
    prompt: Array,
    length: int,
    key: Array,
    *,
    temperature: ArrayLike = 1.0,
    top_k: int = 0,
    context: int | None = None,
    given: tuple[Array, Array] | None = None,
) -> Array:
    """Continues each row of a prompt by `length` tokens, each drawn by `choose` given all earlier tokens.

    Every token passes the model once, because the memory (a key-value cache or a recurrent state) represents the
    earlier tokens. A cache holds `context` tokens; when it is full, an empty one is refilled with the second half of
    them. After that, tokens see at least context // 2 earlier ones. A long text takes up to two passes per token.

    Args:
      decode: (tokens [B, T], memory) -> (logits [B, T, V] of the next tokens, memory).
      memory: an empty memory.
      prompt: integers [B, T], 1 <= T <= context.
      length: number of tokens to draw, >= 1.
      key: PRNG key.
      temperature: >= 0, a scalar or [B], as in `choose`.
      top_k: as in `choose`.
      context: number of tokens that the memory can hold, >= 2; None: unlimited.
      given: (tokens, where), integers and bool [B, length]: entry t of a row is taken from `tokens` where `where` is
        True, for example the rest of a prompt that is longer than the others.

    Returns:
      Tokens, int32 [B, length].

    Raises:
      ValueError: if the prompt is longer than the context, or top_k is outside [0, V].
    """
    B, T = prompt.shape
    if context is not None and context < T:
        raise ValueError(f"prompt must have at most {context} tokens, the context, got {T}")

    tokens, where = given or (jnp.zeros((B, length), jnp.int32), jnp.zeros((B, length), bool))

    def draw(prompt: Array, key: Array, at: ArrayLike, count: int) -> Array:
        logits, filled = decode(prompt, memory)
        known = tuple(lax.dynamic_slice_in_dim(x, at, count, 1).T for x in (tokens, where))
        pick = lambda key, logits, token, fixed: jnp.where(fixed, token, choose(key, logits, temperature, top_k))

        def one(carry: tuple[Array, Any], x: Any) -> tuple[tuple[Array, Any], Array]:
            logits, memory = carry
            token = pick(x[0], logits, *x[1])
            logits, memory = decode(token[:, None], memory)
            return (logits[:, 0], memory), token

        # the last token is drawn but not decoded, because the cache may be full
        keys = jax.random.split(key, count)
        before, end = (jax.tree.map(lambda x: x[s], known) for s in (slice(-1), -1))
        (logits, _), new = lax.scan(one, (logits[:, -1], filled), (keys[:-1], before))
        return jnp.concatenate([new.T, pick(keys[-1], logits, *end)[:, None]], 1)

    first = length if context is None else min(length, context + 1 - T)
    text = jnp.concatenate([prompt, draw(prompt, jax.random.fold_in(key, 0), 0, first)], 1)
    if first < length:
        assert context is not None
        keep = context // 2
        each = context + 1 - keep
        chunks = -(-(length - first) // each)
        tokens, where = (jnp.pad(x, ((0, 0), (0, first + chunks * each - length))) for x in (tokens, where))

        def chunk(tail: Array, x: Any) -> tuple[Array, Array]:
            new = draw(tail, x[0], x[1], each)
            return jnp.concatenate([tail, new], 1)[:, -keep:], new

        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(1, chunks + 1))
        _, new = lax.scan(chunk, text[:, -keep:], (keys, first + each * jnp.arange(chunks)))
        text = jnp.concatenate([text, jnp.moveaxis(new, 0, 1).reshape(B, -1)], 1)
    return text[:, T : T + length].astype(jnp.int32)
