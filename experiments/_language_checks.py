"""What holds for every language model, and must be seen to hold for a trained one."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxdl.data import Text
from jaxdl.losses import softmax_cross_entropy
from jaxdl.run import Bound, Claim

Read = Callable[[np.ndarray], np.ndarray]  # tokens [n, T] -> log p of the next token [n, T, V]


def causal(read: Read, tokens: np.ndarray, text: Text) -> Claim:
    """Whether the future changes a prediction: tokens [n, T] against others in their second half."""
    T, V = tokens.shape[1], len(text.vocabulary)
    changed = np.concatenate([tokens[:, : T // 2], (tokens[:, T // 2 :] + 1) % V], 1)
    a, b = map(read, (tokens, changed))
    before, after = (a == b).all((0, 2))[: T // 2], (a != b).any((0, 2))[T // 2 :]
    measured = f"{before.sum()} of {len(before)} places before: equal bit for bit; {after.sum()} of {len(after)}: not"
    claim = f"other characters from place {T // 2 + 1} on change all predictions from there and none before"
    return Claim("K12", claim, measured, holds=bool(before.all() and after.all()))


def normalised(read: Read, text: Text) -> Claim:
    """Whether P sums to 1 over all strings of two; a model that saw what it predicts would fail."""
    V = min(200, len(text.vocabulary))  # of a larger vocabulary the first 200, whose share is at most 1
    strings = np.stack([np.full(V * V, text.test[0]), *np.indices((V, V)).reshape(2, -1)], 1).astype(np.int32)
    logs = np.take_along_axis(read(strings)[:, :2], strings[:, 1:, None], -1).astype(np.float64).sum((1, 2))
    mass, whole = float(np.exp(logs).sum()), len(text.vocabulary) == V
    claim = f"P sums to {'1 over all' if whole else 'at most 1 over'} {V * V:,} strings of two characters, to 1e-4"
    bound = Bound(abs(mass - 1) if whole else mass - 1, "<", 1e-4)
    return Claim("L07", claim, f"{mass:.7f}", "1", holds=bound.holds, bounds=(bound,))


def ends(text: Text) -> Claim:
    """The perplexity of one who knows nothing and of one who knows all."""
    V = len(text.vocabulary)
    losses = (softmax_cross_entropy(z, jnp.arange(V)).mean() for z in (jnp.zeros((V, V)), 1e3 * jnp.eye(V)))
    uniform, certain = (math.exp(loss) for loss in losses)
    claim = f"perplexity of a uniform guess among {V} characters is {V}, to 1e-4 of it, of certainty 1"
    return Claim("C14", claim, f"{uniform:.4f}, {certain:.4f}", holds=abs(uniform / V - 1) < 1e-4 and certain == 1)
