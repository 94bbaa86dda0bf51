"""A small experiment for the gates: `python -m tests.reliability.program --workdir=W`.

An MLP with dropout on random numbers, Adam, an evaluation and a checkpoint every few steps: everything that a run
stores changes at every step, and a run has many saves.
"""

import numpy as np
import optax
from flax import linen as nn

from jaxdl import run
from jaxdl.core import Experiment
from jaxdl.data import Batches, Data
from jaxdl.supervision import supervised

FAMILY, CLAIMS, SMALL = "tests", dict[str, run.Claim](), dict[str, int]()


class Config(run.RunConfig):
    """The size of the problem; the defaults finish in about a second."""

    width: int = run.flag(13, "hidden units", minimum=1)
    examples: int = run.flag(101, "training examples", minimum=1)
    nap: float = run.flag(0.0, "seconds slept at each call that draws a batch", minimum=0, affects_result=False)
    steps: int | None = 60
    batch_size: int = 8
    log_every: int = 1
    eval_every: int = 20
    scan: int = 1
    devices: int = 1
    tensorboard: bool = False
    progress: bool = False


class Net(nn.Module):
    """One hidden layer with dropout, so that the randomness of a step must be reproduced too."""

    width: int

    @nn.compact
    def __call__(self, x, train=False):
        hidden = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(3)(nn.Dropout(0.25, deterministic=not train)(hidden))


def data(config: Config) -> Data:
    """Random inputs [rows, 5] and classes that depend on them; 31 more rows for validation."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(config.examples + 31, 5)).astype(np.float32)
    y = (x @ rng.normal(size=(5, 3))).argmax(-1).astype(np.int32)
    part = lambda rows: Batches({"x": x[rows], "y": y[rows]}, config.batch_size)
    return Data(part(slice(31, None)), part(slice(31)))


def build(config: Config, data: Data) -> Experiment:
    """Softmax regression on one hidden layer."""
    return supervised(
        Net(config.width),
        config.make_optimizer(data),
        example=data.example,
        loss=lambda logits, batch: optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]),
        metrics=lambda logits, batch: {"accuracy": logits.argmax(-1) == batch["y"]},
    )


def report(config: Config, data: Data) -> list[run.Finding]:
    """Trains; there are no claims."""
    if config.nap:
        import time

        order = data.train.order
        data.train.order = lambda seed, t: (time.sleep(config.nap), order(seed, t))[1]
    run.fit(build(config, data), data, config)
    return []


if __name__ == "__main__":
    run.main()
