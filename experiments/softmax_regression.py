"""Softmax regression and the notes' two-layer net, right and with the softmax applied twice, on one image set.

    p = softmax(z),  L = -log p_y,  dL/dz = p - onehot(y);  linear: z = W x + b;  mlp: z = V relu(W x + b) + c
    double_softmax: mlp with -log softmax(p)_y, which stays above log(1 + (N - 1) / e), 1.4612 for 10 classes

`--dataset` and the optimiser's flags are those of these three fits. Beside them: a sigmoid and a softmax head on digits
with several labels each, the boundaries of a linear classifier on iris, and checks of single equations.

    python -m experiments.softmax_regression                                  # digits, 3 seeds, no files needed
    python -m experiments.softmax_regression --dataset=mnist --data_dir=DATA  # the notes' 5 epochs

Mission rows A01, A05, A11, A12, B07, B10, B27, H03, H04, H05, S01, S02, S03. LeCun, Bottou, Bengio and Haffner 1998.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxdl import losses, metrics, run
from jaxdl.core import Experiment, supervised
from jaxdl.data import IMAGE_SETS, Batches, Images, load_images, load_table, unit
from jaxdl.nn import INITIALIZERS, MLP
from jaxdl.run import Claim, flag, plots

Net = tuple[tuple[int, ...], Callable[[Any, Any], Any]]  # hidden units; loss of logits [B, N] and labels
NETS: dict[str, Net] = {
    "linear": ((), losses.softmax_cross_entropy),
    "mlp": ((128,), losses.softmax_cross_entropy),
    "double_softmax": ((128,), losses.softmax_then_cross_entropy),
}
SCORES = {"accuracy": metrics.accuracy, "cross_entropy": losses.softmax_cross_entropy}
REFERENCES = {
    ("mnist", "linear"): "0.880, deskewed 0.916 (LeCun 1998, linear classifier)",
    ("mnist", "mlp"): "0.953 (LeCun 1998, 300 hidden units)",
    ("fashion_mnist", "mlp"): "0.900 (fashion-mnist README, MLP 256-128-64)",
}
LEAST = {"digits": 0.93, "mnist": 0.88}  # accuracy of the linear model
LABELS = np.array([[d % 2 == 0, d in (2, 3, 5, 7), d >= 5, d in (0, 6, 8, 9)] for d in range(10)], np.float32)
COMMAND = "python -m experiments.softmax_regression"
SMALL = {"epochs": 100.0, "seeds": 1, "devices": 1}  # where the tests check the claims


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment; the defaults are the notes' settings, with more epochs on digits."""

    dataset: str = flag("digits", "images; all but digits and glyphs are files in --data_dir", choices=IMAGE_SETS)
    epochs: float | None = flag(None, "passes over the data", group="training", low=0, shown="200 on digits, else 5")
    batch_size: int = 64
    seeds: int = 3
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    log_every: int = 10
    tensorboard: bool = False


def data(config: Config) -> tuple[Batches, Batches]:
    """Training and test images."""
    images = load_images(config.dataset, config.data_dir)
    return Batches(images.train, config.batch_size), Batches(images.test, 256)


def inputs(batch: Mapping[str, Any]) -> Any:
    """What a model sees: 0..1 brought to -1..1, the notes' Normalize((0.5,), (0.5,))."""
    return (unit(batch["x"]) - 0.5) / 0.5


def make_model(classes: int, hidden: Sequence[int]) -> MLP:
    """x [B, ...] -> logits [B, N], with the initial weights of PyTorch's layers."""
    return MLP((*hidden, classes), **INITIALIZERS["torch_linear"])


def predict(classes: int, hidden: Sequence[int]) -> Callable[[Any, Any], Any]:
    """(state, batch) -> logits [B, N]."""
    return lambda state, batch: make_model(classes, hidden).apply(state.variables, inputs(batch))


def build(
    config: run.RunConfig, example: Any, net: Net = NETS["mlp"], classes: int = 10, scores: Mapping[str, Any] = SCORES
) -> Experiment:
    """A net on batches of x and y; scores are functions of logits and y, as the net's loss is."""
    return supervised(
        make_model(classes, net[0]),
        config.make_optimizer(),
        example=example,
        inputs=lambda batch: (inputs(batch),),
        loss=lambda logits, batch: net[1](logits, batch["y"]),
        metrics=lambda logits, batch: {name: score(logits, batch["y"]) for name, score in scores.items()},
    )


def main(config: Config) -> list[Claim]:
    """Trains, draws and reports."""
    images, (train, test) = load_images(config.dataset, config.data_dir), data(config)
    run.say(images.note)
    if config.steps is None and config.epochs is None:
        config = replace(config, epochs=200.0 if config.dataset == "digits" else 5.0)
    config, n = config.resolve(train), len(images.names)
    fit = lambda name, net: run.fit(build(config, train.example, net, n), train, test, config, name=name)
    fits = {name: fit(name, net) for name, net in NETS.items()}
    draw(config, images, fits)
    linear, right, least = fits["linear"], fits["mlp"], LEAST.get(config.dataset, 2 / n)
    bound, tested = np.log(1 + (n - 1) / np.e), f"{len(images.test['y']):,} test images of {config.dataset}"
    found = {
        ("H04 B27", f"softmax regression: at least {least:.2g} of {tested} right"): accuracy(config, images, linear, least),
        ("B07 B27", f"one command from raw file to test report: two-layer net, {tested}"): accuracy(config, images, right, least),
        ("H05", "784-128-10 has 101,770 parameters"): parameters(),
        ("H05", f"softmax twice: the training loss stays above {bound:.4f} nats"): stays_above(fits["double_softmax"], bound),
        ("H05", "softmax once gains test accuracy at the same settings, for every seed"): gain(right, fits["double_softmax"]),
    }
    return []
