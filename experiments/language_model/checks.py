"""Properties that hold for every language model, checked on a trained one."""

import math
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np

from jaxdl.losses import softmax_cross_entropy
from jaxdl.run import Finding, Quantity, measured

Read = Callable[[np.ndarray], np.ndarray]  # tokens [n, T] -> log p of the next token [n, T, V]


def checks(read: Read, tokens: np.ndarray, vocabulary: int) -> Iterator[Finding]:
    """Runs all checks on windows of tokens [n, T] from a vocabulary of V."""
    yield causal(read, tokens, vocabulary)
    yield normalised(read, int(tokens[0, 0]), vocabulary)
    yield ends(vocabulary)


def causal(read: Read, tokens: np.ndarray, V: int) -> Finding:
    """Checks that predictions do not depend on the future: tokens [n, T] with and without another second half."""
    T = tokens.shape[1]
    changed = np.concatenate([tokens[:, : T // 2], (tokens[:, T // 2 :] + 1) % V], 1)
    a, b = map(read, (tokens, changed))
    before, after = (a != b).any((0, 2))[: T // 2], (a == b).all((0, 2))[T // 2 :]
    return measured(
        "causal",
        Quantity(f"changed predictions before the change, of {len(before)}", before.sum(), "==", 0),
        Quantity(f"unchanged predictions after it, of {len(after)}", after.sum(), "==", 0),
    )


def normalised(read: Read, first: int, vocabulary: int) -> Finding:
    """Checks that P sums to 1 over all strings of two characters; a model that sees its target would fail."""
    V = min(200, vocabulary)  # for a larger vocabulary the first 200 characters, whose sum is at most 1
    strings = np.stack([np.full(V * V, first), *np.indices((V, V)).reshape(2, -1)], 1).astype(np.int32)
    logs = np.take_along_axis(read(strings)[:, :2], strings[:, 1:, None], -1).astype(np.float64).sum((1, 2))
    off = float(np.exp(logs).sum()) - 1
    over = Quantity("sum - 1", abs(off) if vocabulary == V else off, "<", 1e-4)
    return measured("normalised", over, Quantity("strings", V * V))


def ends(V: int) -> Finding:
    """Checks the two ends of the perplexity: a uniform and a certain prediction."""
    losses = (softmax_cross_entropy(z, jnp.arange(V)).mean() for z in (jnp.zeros((V, V)), 1e3 * jnp.eye(V)))
    uniform, certain = (math.exp(loss) for loss in losses)
    guess = Quantity("uniform: relative difference from the number of characters", abs(uniform / V - 1), "<", 1e-4)
    return measured("ends", guess, Quantity("certain: perplexity", certain, "==", 1))
