"""One interface to language models of either kind: those that carry a state, and those that look back."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl.methods.sampling import generate
from jaxdl.nn import GPT, RecurrentLM


class LanguageModel(NamedTuple):
    """Pure functions of `variables`; a memory holds what the model keeps of the tokens before, B its leaves' axis 0.

    init: key, tokens -> variables.
    read: variables, tokens [B, T], memory, train, rngs -> (logits [B, T, V] of the tokens that follow, memory).
    decode: variables, tokens [B, T], cache -> (logits, cache); each token passes the network once.
    memory: rows -> an empty memory for `read`; a Transformer's stays empty.
    cache: rows -> an empty cache for `decode`.
    context: how many tokens a cache holds; None: it never is full.
    """

    init: Callable[..., Any]
    read: Callable[..., Any]
    decode: Callable[..., Any]
    memory: Callable[[int], Any]
    cache: Callable[[int], Any]
    context: int | None

    def log_probabilities(self, variables: Any, tokens: Array) -> Array:
        """log p(token t + 1 = v | tokens 0 ... t) [B, T, V] from an empty memory."""
        return jax.nn.log_softmax(self.read(variables, tokens, self.memory(len(tokens)))[0])

    def sample(self, variables: Any, prompts: Array, length: int, key: Array, **options: Any) -> Array:
        """Continues prompts [B, T] by int32 [B, length]; options are those of `generate`."""
        decode = lambda tokens, cache: self.decode(variables, tokens, cache)
        return generate(decode, self.cache(len(prompts)), prompts, length, key, context=self.context, **options)


def of_recurrent(net: RecurrentLM) -> LanguageModel:
    """The interface of a net that carries a state: memory and cache are its carry."""

    def read(variables: Any, x: Array, memory: Any, train: bool = False, rngs: Any = None) -> Any:
        return net.apply(variables, x, memory, train, rngs=rngs)

    return LanguageModel(net.init, read, read, net.initial_carry, net.initial_carry, None)


def of_transformer(net: GPT) -> LanguageModel:
    """The interface of a net that looks back: it keeps nothing but a cache of keys and values while decoding."""

    def read(variables: Any, x: Array, memory: Any, train: bool = False, rngs: Any = None) -> Any:
        return net.apply(variables, x, train, rngs=rngs), memory

    def decode(variables: Any, x: Array, cache: Any) -> Any:
        return net.apply(variables, x, cache, method="decode")

    return LanguageModel(net.init, read, decode, lambda rows: (), net.empty_cache, net.context)


def parameter_count(tree: Any) -> int:
    """The number of weights in a pytree of arrays or shapes."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def nearest_width(make: Callable[[int], LanguageModel], parameters: int, multiple: int = 4) -> int:
    """The width, a multiple of `multiple`, at which make(width) comes nearest to so many parameters."""

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
