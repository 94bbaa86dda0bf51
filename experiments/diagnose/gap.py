"""The gap between training and test accuracy: opens with the size of a network, closes with data and regularisation.

One fit trains K networks of two layers at once on digits with noisy labels, each R times from other weights and on
other rows. Network k uses the first units[k] of its hidden units, rows[k] rows, and the penalty decay[k] / 2 times its
squared weights.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxdl import losses, run
from jaxdl.core import Experiment
from jaxdl.data import Batches, Data
from jaxdl.run import Quantity
from jaxdl.supervision import supervised

NAME = "gap"
ROWS, NOISE, STEPS, CLASSES, REPEATS = 256, 0.1, 200, 10, 6
UNITS, COUNTS, DECAYS = (1, 2, 4, 8, 32), (64, 128, 256), (0.0, 0.01, 0.03, 0.06)
MODELS = np.array(
    [(units, COUNTS[0], 0.0) for units in UNITS]
    + [(UNITS[-1], count, 0.0) for count in COUNTS[1:]]
    + [(UNITS[-1], COUNTS[0], decay) for decay in DECAYS[1:]]
)  # [K, 3]: units, rows, decay
LARGE = len(UNITS) - 1  # the largest network, with the fewest rows and no penalty
BY_UNITS, BY_ROWS = range(len(UNITS)), (LARGE, *range(len(UNITS), len(UNITS) + len(COUNTS) - 1))
BY_DECAY = (LARGE, *range(len(UNITS) + len(COUNTS) - 1, len(MODELS)))
EACH = np.repeat(MODELS, REPEATS, axis=0)  # [K R, 3]
START = np.tile(np.arange(REPEATS) * ROWS // REPEATS, len(MODELS))  # first row of each, so that repeats use other rows


def uniform(fan: int) -> Callable[..., Array]:
    """Returns an initialiser with variance 1 / fan; numbers drawn flat compile ten times faster than [60, 32, 10]."""

    def init(key: Any, shape: Any) -> Array:
        flat = jax.random.uniform(key, (math.prod(shape),), minval=-1, maxval=1)
        return (3 / fan) ** 0.5 * flat.reshape(shape)

    return init


class Networks(nn.Module):
    """K networks of one hidden layer, each with its own number of units."""

    units: Sequence[int]
    classes: int = CLASSES

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Returns logits [B, K, N] for x [B, D], and the sum of each network's squared weights [K]."""
        count, most = len(self.units), max(self.units)
        used = jnp.arange(most)[None] < jnp.asarray(self.units)[:, None]  # [K, H]
        draw = lambda name, fan, *shape: self.param(name, uniform(fan), shape)
        w = draw("hidden_kernel", x.shape[-1], count, x.shape[-1], most)
        b = self.param("hidden_bias", nn.initializers.zeros, (count, most))
        v = draw("kernel", 1, count, most, self.classes) / jnp.sqrt(jnp.asarray(self.units))[:, None, None]
        c = self.param("bias", nn.initializers.zeros, (count, self.classes))
        h = nn.relu(jnp.einsum("bd,kdh->bkh", x, w) + b[None]) * used[None]
        squares = (w**2 * used[:, None]).sum((1, 2)) + (v**2 * used[..., None]).sum((1, 2))
        return jnp.einsum("bkh,khn->bkn", h, v) + c[None], squares


def parts(rows: dict[str, np.ndarray], seed: int) -> Data:
    """Splits rows into ROWS for training, in one batch, and the rest for testing; labels of both are noisy."""
    random = np.random.default_rng((seed, 2))
    wrong = random.random(len(rows["y"])) < NOISE
    y = np.where(wrong, random.integers(CLASSES, size=len(wrong)), rows["y"]).astype(np.int32)
    x = rows["x"].reshape(len(y), -1)
    train = {"x": x[:ROWS], "y": y[:ROWS], "row": np.arange(ROWS)}
    test = {"x": x[ROWS:], "y": y[ROWS:], "row": np.arange(ROWS, len(y))}
    return Data(Batches(train, ROWS), None, Batches(test, 256), facts={"classes": CLASSES})


def build(config: run.RunConfig, data: Data) -> Experiment:
    """Builds the K R networks; the loss of a row is the sum of those of the networks that train on it."""
    units, count, decay = EACH.T
    model = Networks(tuple(int(n) for n in units))

    def loss(outputs: Any, batch: Any) -> Array:
        logits, squares = outputs
        each = losses.softmax_cross_entropy(logits, jnp.broadcast_to(batch["y"][:, None], logits.shape[:2]))
        share = used(batch["row"], jnp) * (ROWS / jnp.asarray(count))[None]  # mean 1 over the rows
        return jnp.sum(each * share + (jnp.asarray(decay, jnp.float32) / 2 * squares)[None], axis=-1)

    return supervised(
        model, config.make_optimizer(data), example=data.example, loss=loss, predict=lambda outputs: outputs[0]
    )


def used(row: Any, xp: Any = np) -> Any:
    """Returns whether each network trains on these training rows, [B, K R] for row numbers [B]."""
    return (row[:, None] - xp.asarray(START)[None]) % ROWS < xp.asarray(EACH[:, 1])[None]


class Gaps(NamedTuple):
    """Accuracies on the own training rows and on the test rows, [seeds, K] each."""

    train: np.ndarray
    test: np.ndarray

    def findings(self) -> Iterator[run.Finding]:
        """Measures how the gap changes with units, rows and penalty."""
        gap, last = self.train - self.test, lambda models: list(models)[-1]
        change = lambda name, models, sign: Quantity(
            f"change of the gap, {name}", gap[:, last(models)] - gap[:, models[0]], sign, 0.0, enough=-1
        )
        small, large = f"{UNITS[0]} unit", f"{UNITS[-1]} units"
        yield run.measured(
            "opens",
            change(f"{small} to {large}", BY_UNITS, ">"),
            Quantity(f"gap, {small}", gap[:, 0]),
            Quantity(f"gap, {large}", gap[:, LARGE]),
            Quantity(f"training accuracy, {small}", self.train[:, 0]),
            Quantity(f"training accuracy, {large}", self.train[:, LARGE]),
        )
        yield run.measured(
            "closes",
            change(f"{COUNTS[0]} to {COUNTS[-1]} rows", BY_ROWS, "<"),
            change(f"decay {DECAYS[0]:g} to {DECAYS[-1]:g}", BY_DECAY, "<"),
            Quantity(f"test accuracy, {COUNTS[-1]} rows", self.test[:, last(BY_ROWS)]),
            Quantity(f"test accuracy, decay {DECAYS[-1]:g}", self.test[:, last(BY_DECAY)]),
            Quantity("test accuracy with neither", self.test[:, LARGE]),
        )


def accuracies(result: run.Result, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Returns the accuracies on the own training rows and on the test rows, means of the repeats, [K] each."""
    right = [
        np.asarray(result.predict(part)).argmax(-1) == part.arrays["y"][:, None] for part in (data.train, data.test)
    ]
    own = used(np.arange(ROWS))
    mean = lambda values: values.reshape(len(MODELS), REPEATS).mean(1)
    return mean((right[0] & own).sum(0) / own.sum(0)), mean(right[1].mean(0))
