"""What holds for every language model, and must be seen to hold for a trained one."""

import math
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np

from jaxdl.losses import softmax_cross_entropy
from jaxdl.run import Finding, Quantity, measured

Read = Callable[[np.ndarray], np.ndarray]  # tokens [n, T] -> log p of the next token [n, T, V]


def checks(read: Read, tokens: np.ndarray, vocabulary: int) -> Iterator[Finding]:
    """All of them, for windows of tokens [n, T] and V different ones."""
    yield causal(read, tokens, vocabulary)
    yield normalised(read, int(tokens[0, 0]), vocabulary)
    yield ends(vocabulary)


def causal(read: Read, tokens: np.ndarray, V: int) -> Finding:
    """Whether the future changes a prediction: tokens [n, T] against others in their second half."""
    T = tokens.shape[1]
    changed = np.concatenate([tokens[:, : T // 2], (tokens[:, T // 2 :] + 1) % V], 1)
    a, b = map(read, (tokens, changed))
    before, after = (a != b).any((0, 2))[: T // 2], (a == b).all((0, 2))[T // 2 :]
    return measured(
        "causal",
        Quantity(f"of {len(before)} predictions before it, changed", before.sum(), "==", 0),
        Quantity(f"of {len(after)} from it on, the same", after.sum(), "==", 0),
    )


def normalised(read: Read, first: int, vocabulary: int) -> Finding:
    """Whether P sums to 1 over all strings of two; a model that saw what it predicts would fail."""
    V = min(200, vocabulary)  # of a larger vocabulary the first 200, whose share is at most 1
    strings = np.stack([np.full(V * V, first), *np.indices((V, V)).reshape(2, -1)], 1).astype(np.int32)
    logs = np.take_along_axis(read(strings)[:, :2], strings[:, 1:, None], -1).astype(np.float64).sum((1, 2))
    off = float(np.exp(logs).sum()) - 1
    over = Quantity("sum - 1", abs(off) if vocabulary == V else off, "<", 1e-4)
    return measured("normalised", over, Quantity("strings", V * V))


def ends(V: int) -> Finding:
    """The perplexity of one who knows nothing and of one who knows all."""
    losses = (softmax_cross_entropy(z, jnp.arange(V)).mean() for z in (jnp.zeros((V, V)), 1e3 * jnp.eye(V)))
    uniform, certain = (math.exp(loss) for loss in losses)
    guess = Quantity("uniform guess over the number of characters, from one", abs(uniform / V - 1), "<", 1e-4)
    return measured("ends", guess, Quantity("certainty", certain, "==", 1))
