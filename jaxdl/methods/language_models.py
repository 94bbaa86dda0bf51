"""A common interface for recurrent and Transformer language models."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl.methods.sampling import generate
from jaxdl.nn import GPT, RecurrentLM


class LanguageModel(NamedTuple):
    """Language model as pure functions of `variables`.

    Memory and cache represent earlier tokens; axis 0 of their leaves is B.

    Attributes:
      init: key, tokens -> variables.
      read: variables, tokens [B, T], memory, train, rngs -> (logits [B, T, V] of the next tokens, memory).
      decode: variables, tokens [B, T], cache -> (logits [B, T, V], cache); each token passes the network once.
      memory: rows -> an empty memory for `read`; the memory of a Transformer is the empty tuple.
      cache: rows -> an empty cache for `decode`.
      context: number of tokens that a cache holds; None: unlimited.
    """

    init: Callable[..., Any]
    read: Callable[..., Any]
    decode: Callable[..., Any]
    memory: Callable[[int], Any]
    cache: Callable[[int], Any]
    context: int | None

    def log_probabilities(self, variables: Any, tokens: Array) -> Array:
        """Returns log p(token t + 1 = v | tokens 0 ... t), [B, T, V] in nats, from an empty memory."""
        return jax.nn.log_softmax(self.read(variables, tokens, self.memory(len(tokens)))[0])

    def sample(self, variables: Any, prompts: Array, length: int, key: Array, **options: Any) -> Array:
        """Returns continuations of prompts [B, T], int32 [B, length]; options and errors are those of `generate`."""
        decode = lambda tokens, cache: self.decode(variables, tokens, cache)
        return generate(decode, self.cache(len(prompts)), prompts, length, key, context=self.context, **options)


def of_recurrent(net: RecurrentLM) -> LanguageModel:
    """Returns the interface of a recurrent network: memory and cache are its carry."""

    def read(variables: Any, x: Array, memory: Any, train: bool = False, rngs: Any = None) -> Any:
        return net.apply(variables, x, memory, train, rngs=rngs)

    return LanguageModel(net.init, read, read, net.initial_carry, net.initial_carry, None)


def of_transformer(net: GPT) -> LanguageModel:
    """Returns the interface of a Transformer: the memory is empty, the cache holds keys and values."""

    def read(variables: Any, x: Array, memory: Any, train: bool = False, rngs: Any = None) -> Any:
        return net.apply(variables, x, train, rngs=rngs), memory

    def decode(variables: Any, x: Array, cache: Any) -> Any:
        return net.apply(variables, x, cache, method="decode")

    return LanguageModel(net.init, read, decode, lambda rows: (), net.empty_cache, net.context)


def parameter_count(tree: Any) -> int:
    """Returns the number of entries of all leaves of a pytree of arrays or shapes."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def nearest_width(make: Callable[[int], LanguageModel], parameters: int, multiple: int = 4) -> int:
    """Returns the width, a multiple of `multiple`, at which make(width) has closest to the given number of parameters.

    Args:
      make: width -> model; its number of parameters grows with the width.
      parameters: the target number, at least 1.
      multiple: divisor of the width, at least 1.
    """

    def size(width: int) -> int:
        tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        return parameter_count(jax.eval_shape(make(width).init, jax.random.key(0), tokens))

    low, high = 1, 2  # in multiples; size(low) <= parameters < size(high), or low is 1
    while size(high * multiple) <= parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle * multiple) <= parameters else (low, middle)
    return min((low, high), key=lambda n: abs(size(n * multiple) - parameters)) * multiple
