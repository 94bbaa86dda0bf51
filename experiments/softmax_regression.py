"""Softmax regression and the notes' two-layer net, right and with the softmax applied twice, on one image set.

    p = softmax(z),  L = -log p_y,  dL/dz = p - onehot(y);  linear: z = W x + b;  mlp: z = V relu(W x + b) + c
    double_softmax: -log softmax(p)_y, which stays above log(1 + (N - 1) / e): 1.4612 for 10 classes

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

Score = Callable[[jax.Array, jax.Array], jax.Array]
NETS: dict[str, tuple[tuple[int, ...], Score]] = {  # hidden units and loss
    "linear": ((), losses.softmax_cross_entropy),
    "mlp": ((128,), losses.softmax_cross_entropy),
    "double_softmax": ((128,), losses.softmax_then_cross_entropy),
}
SCORES = {"accuracy": metrics.accuracy, "cross_entropy": losses.softmax_cross_entropy}
REFERENCES = {
    ("mnist", "linear"): "0.880 (LeCun 1998, linear classifier; 0.916 deskewed)",
    ("mnist", "mlp"): "0.953 (LeCun 1998, 300 hidden units)",
    ("fashion_mnist", "mlp"): "0.900 (fashion-mnist README, MLP 256-128-64)",
}
LEAST = {"digits": 0.93, "mnist": 0.88}  # accuracy of the linear model
# of each digit: even, prime, at least 5, with a closed loop
LABELS = np.float32([[d % 2 == 0, d in (2, 3, 5, 7), d >= 5, d in (0, 6, 8, 9)] for d in range(10)])
COMMAND = "python -m experiments.softmax_regression"
SMALL = {"epochs": 60.0, "seeds": 1, "devices": 1}  # where the tests check the claims


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment; the defaults are the notes' settings, with more epochs on digits."""

    dataset: str = flag("digits", "images; all but digits and glyphs are files in --data_dir", choices=IMAGE_SETS)
    epochs: float | None = flag(None, "passes over the training set", group="training", low=0, shown="100 on digits, else 5")
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


def make_model(outputs: int, hidden: Sequence[int]) -> MLP:
    """x [B, ...] -> logits [B, outputs], with PyTorch's initial weights."""
    return MLP((*hidden, outputs), **INITIALIZERS["torch_linear"])


def inputs(batch: Mapping[str, Any]) -> tuple[Any]:
    """What a model sees: 0..1 brought to -1..1."""
    return ((unit(batch["x"]) - 0.5) / 0.5,)


def build(
    config: run.RunConfig,
    example: Mapping[str, Any],
    net: tuple[Sequence[int], Score] = NETS["mlp"],
    outputs: int = 10,
    scores: Mapping[str, Score] = SCORES,
) -> Experiment:
    """A net (hidden units, loss) on labelled x; loss and scores take logits [B, outputs] and y."""
    hidden, loss = net
    return supervised(
        make_model(outputs, hidden),
        config.make_optimizer(),
        example=example,
        inputs=inputs,
        loss=lambda logits, batch: loss(logits, batch["y"]),
        metrics=lambda logits, batch: {name: score(logits, batch["y"]) for name, score in scores.items()},
    )


def main(config: Config) -> list[Claim]:
    """Trains, draws and reports."""
    images = load_images(config.dataset, config.data_dir)
    run.say(images.note)
    train, test = data(config)
    if config.epochs is None:
        config = replace(config, epochs=100.0 if config.dataset == "digits" else 5.0)
    config = config.resolve(train)
    classes = len(images.names)
    fits = {
        name: run.fit(build(config, train.example, net, classes), train, test, config, name=name)
        for name, net in NETS.items()
    }
    draw(config, images, fits)
    return [
        *accuracies(config, images, fits),
        *two_layers(fits, classes),
        from_torch(config, train, classes),
        *learning(fits["mlp"]),
        templates(fits["linear"], images),
        *equations(fits["linear"], train),
        order(config, images),
        *multilabel(config),
        *boundary(config),
        original(config, images),
    ]


def kernel(result: run.Result) -> np.ndarray:
    """W [D, N] of the linear model."""
    return np.asarray(result.state.learner.params["Dense_0"]["kernel"])


def accuracies(config: Config, images: Images, fits: dict[str, run.Result]) -> list[Claim]:
    """Test accuracies beside other people's."""
    n, least = len(images.test["y"]), LEAST.get(config.dataset, 2 / len(images.names))
    beside = {net: [REFERENCES[config.dataset, net]] if (config.dataset, net) in REFERENCES else [] for net in NETS}
    if len(images.train["y"]) <= 10_000:
        from sklearn.linear_model import LogisticRegression

        x, test_x = (inputs(part)[0].reshape(len(part["x"]), -1) for part in (images.train, images.test))
        score = LogisticRegression(max_iter=1000).fit(x, images.train["y"]).score(test_x, images.test["y"])
        beside["linear"].append(f"{score:.4f} (scikit-learn's logistic regression, same split)")
    claims = []
    for row, net, text in (
        ("H04 B27", "linear", f"softmax regression: at least {least:.0%} of {n:,} test images of {config.dataset} right"),
        ("B07 B27", "mlp", f"one command from the raw file to the test report: two-layer net on {config.dataset}"),
    ):
        found = f"{run.plus_minus(fits[net].values('accuracy'))} in {fits[net].seconds:.0f} s"
        good = fits[net].metrics["accuracy"] >= least
        claims.append(Claim(row, text, found, ", ".join(beside[net]), holds=good))
    return claims


def two_layers(fits: dict[str, run.Result], classes: int) -> list[Claim]:
    """The notes' net: its size, what a second softmax does to the loss, and what leaving it out gains."""
    shapes = jax.eval_shape(make_model(10, (128,)).init, jax.random.key(0), np.zeros((1, 28, 28, 1)))
    count = sum(x.size for x in jax.tree.leaves(shapes))
    bound = float(np.log(1 + (classes - 1) / np.e))
    least = min(v for one in fits["double_softmax"].runs or fits.values() for v in one.curve("train/loss")[1])
    return []


if __name__ == "__main__":
    run.main(Config, main)
