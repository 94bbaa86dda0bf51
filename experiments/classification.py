"""Classification basics: 0/1 error, decision boundaries, softmax for one label and sigmoids for several.

A softmax chooses one class of N; an image with several labels needs one sigmoid per label. The experiment trains both
heads on digits with four labels (even, prime, at least five, closed loop), plots the decision regions of a linear
classifier on iris flowers, and checks the equations of sigmoid, softmax and their gradients.

    softmax: p_k = e^z_k / sum_j e^z_j        sigmoid: p_k = 1 / (1 + e^-z_k)

    python -m experiments.classification
    python -m experiments.classification --workdir=RUN --fit=sigmoid --predict=images/

Source of the iris data: Fisher 1936.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxdl import losses, metrics, run
from jaxdl.core import Experiment
from jaxdl.data import Batches, Data, load_images, load_table
from jaxdl.methods import baselines
from jaxdl.nn import MLP
from jaxdl.run import Claim, Quantity, flag, plots
from jaxdl.supervision import supervised

FAMILY = "foundations"
FIGURE = "boundary"  # shown on the page of results
# labels of each digit, in the order of NAMES
LABELS = np.array([[d % 2 == 0, d in (2, 3, 5, 7), d >= 5, d in (0, 6, 8, 9)] for d in range(10)], np.float32)
NAMES = ("even", "prime", "at least five", "closed loop")
HEADS: dict[str, Any] = {"sigmoid": nn.sigmoid, "softmax": nn.softmax}
CLAIMS = {
    "zero_one": Claim("The zero-one error counts every confusion of two classes as one", "A01"),
    "binary": Claim("For two classes, softmax and a sigmoid of z_1 - z_0 have the same loss and gradient", "A12"),
    "gradient": Claim("The automatic gradient of the cross-entropy equals X^T (p - onehot) / B", "B10"),
    "labels": Claim("For multi-label images, per-label sigmoids predict all labels; a softmax over labels cannot",
                    "A11", headline=True),
    "boundary": Claim("Linear decision boundaries separate the three iris species with few errors", "A01", True),
}  # fmt: skip
SMALL: dict[str, Any] = {"seeds": 1}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    head: str | None = flag(None, "train only the network with this output layer", choices=HEADS, shown="both")
    seeds: int = 3
    steps: int | None = 1000
    batch_size: int = 64
    learning_rate: float = 3e-3


def data(config: Config) -> Data:
    """Digits with four labels each."""
    digits = load_images("digits", valid=config.valid_fraction).data(config.batch_size)
    labelled = lambda part: part and Batches({"x": part.arrays["x"], "y": LABELS[part.arrays["y"]]}, part.batch_size)
    return Data(labelled(digits.train), labelled(digits.valid), labelled(digits.test), digits.note, {"names": NAMES})


def shared_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy whose target is uniform over the labels of an example, or over all labels if it has none."""
    count = targets.sum(-1, keepdims=True)
    share = jnp.where(count > 0, targets / jnp.maximum(count, 1), 1 / targets.shape[-1])
    return optax.softmax_cross_entropy(logits, share)


def build(config: Config, data: Data) -> Experiment:
    """An MLP with 128 hidden units and one probability per label; a label is predicted where it exceeds one half."""
    name = config.head or "sigmoid"
    head, loss = HEADS[name], losses.sigmoid_cross_entropy if name == "sigmoid" else shared_cross_entropy
    return supervised(
        MLP((128, LABELS.shape[1])),
        config.make_optimizer(data),
        example=data.example,
        loss=lambda outputs, batch: loss(outputs, batch["y"]),
        metrics=lambda outputs, batch: {"subset_accuracy": metrics.subset_accuracy(head(outputs) - 0.5, batch["y"])},
        predict=head,
    )


def inference(config: Config, data: Data) -> run.Inference:
    """Predicts the probability of each label for images of digits."""
    images = run.of_images(config, data)
    table = lambda p: {name: [f"{x:.4f}" for x in column] for name, column in zip(NAMES, p.T, strict=True)}
    return run.Inference(images.read, images.encode, table=table)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Checks the equations, trains both heads, draws the decision boundaries."""
    yield from equations()
    yield from several_labels(config, data)
    yield boundary(config)


def equations() -> Iterator[run.Finding]:
    """Checks the notes' 0/1 example, sigmoid against softmax for two classes, and autodiff against a formula."""
    wrong = metrics.zero_one_error(jax.nn.one_hot(jnp.array([5, 8]), 11), jnp.array([10, 10]))
    name = "error, class {} predicted for class 10"
    cost = [Quantity(name.format(k), value, "==", 1) for k, value in zip((5, 8), wrong, strict=True)]
    yield run.measured("zero_one", *cost)
    z, y = 3 * jax.random.normal(jax.random.key(0), (97, 2)), jnp.arange(97) % 2
    softmax = jax.value_and_grad(lambda z: losses.softmax_cross_entropy(z, y).mean())(z)
    sigmoid = jax.value_and_grad(lambda z: losses.sigmoid_cross_entropy(z[:, 1] - z[:, 0], y).mean())(z)
    apart = max(float(jnp.abs(a - b).max()) for a, b in zip(softmax, sigmoid, strict=True))
    yield run.measured("binary", Quantity("maximum difference on 97 random pairs", apart, "<", 1e-6))
    x, y3 = jax.random.normal(jax.random.key(1), (97, 5)), jnp.arange(97) % 3
    w = jax.random.normal(jax.random.key(2), (5, 3))
    automatic = jax.grad(lambda w: losses.softmax_cross_entropy(x @ w, y3).mean())(w)
    gap = jnp.abs(automatic - x.T @ (nn.softmax(x @ w) - jax.nn.one_hot(y3, 3)) / 97).max()
    yield run.measured("gradient", Quantity("maximum difference", gap, "<", 1e-6))


def several_labels(config: Config, data: Data) -> Iterator[run.Finding]:
    """Compares one sigmoid per label with one softmax over the labels; with `--head` nothing is compared."""
    heads = [config.head] if config.head else list(HEADS)
    fits = {name: run.fit(build(config.replace(head=name), data), data, config, head=name, name=name) for name in heads}
    if config.head:
        return
    exact = {name: fit.values("subset_accuracy") for name, fit in fits.items()}
    spread = {name: [np.ptp(one.predict(data.test).sum(-1)) for one in fit.runs] for name, fit in fits.items()}
    several = float(np.mean(data.test.arrays["y"].sum(-1) > 1))
    yield run.measured(
        "labels",
        Quantity("sigmoid: exact match", exact["sigmoid"], ">", 0.9),
        Quantity("sigmoid: range of the outputs' sum", spread["sigmoid"], ">", 1.0),
        # outputs that sum to 1 cannot all exceed one half: this bound holds for every softmax, however it is trained
        Quantity("softmax: exact match", exact["softmax"], "<=", 1 - several),
        Quantity("softmax: range of the outputs' sum", spread["softmax"], "<", 1e-5),
    )


def boundary(config: Config) -> run.Finding:
    """Trains softmax regression on two features of iris and draws its decision regions."""
    iris = load_table("iris")
    x = iris.x[:, 2:] / 8  # petal sizes, at most 6.9 cm, scaled to 0..1
    train = Batches({"x": x, "y": iris.y}, 64)
    # the claim is about these flowers, so no part is held out
    config = config.replace(learning_rate=0.1, patience=0, watch_test=False, init=None, init_skip=None)
    experiment = supervised(
        MLP((3,)),
        config.make_optimizer(train),
        example=train.example,
        loss=lambda logits, batch: losses.softmax_cross_entropy(logits, batch["y"]),
        predict=lambda logits: logits.argmax(-1),
    )
    result = run.fit(experiment, train, config, name="iris")
    length, width = np.meshgrid(np.linspace(0.5, 7.5, 400), np.linspace(0, 2.8, 400))
    cells = Batches({"x": np.stack([length.ravel(), width.ravel()], -1) / 8}, 4000)
    regions = result.predict(cells)

    def drawn() -> Any:
        figure, axis = plots.new_figure(5.5, 4.2)
        levels, colors = [-0.5, 0.5, 1.5, 2.5], ["C0", "C1", "C2"]
        axis.contourf(length, width, regions.reshape(length.shape), levels, colors=colors, alpha=0.25)
        for k, name in enumerate(iris.names):
            axis.scatter(*iris.x[iris.y == k, 2:].T, s=14, color=f"C{k}", label=name)
        axis.set(xlabel=iris.columns[2], ylabel=iris.columns[3], title="Decision regions of softmax regression on iris")
        axis.legend()
        return figure

    run.save_figure(config, "boundary", drawn)
    accuracy = [np.mean(one.predict(train) == iris.y) for one in result.runs]
    reference = baselines.classifiers(train.arrays, train.arrays)
    return run.measured("boundary", Quantity("training accuracy", accuracy, ">", 0.93), reference=reference)


if __name__ == "__main__":
    run.main()
