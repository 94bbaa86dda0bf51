"""What a classifier is: 0/1 error, decision boundaries, sigmoid against softmax, one label and several.

    softmax: p_k = e^z_k / sum_j e^z_j, one label of N;  sigmoid: p_k = 1 / (1 + e^-z_k), each label by itself

The net of `--head` learns four labels at once on digits: even, prime, at least five, with a closed loop. Beside it the
other head, a linear classifier on two measures of iris flowers, and checks of single equations.

    python -m experiments.classification
    python -m experiments.classification --workdir=RUN --fit=sigmoid --predict=images/

Fisher 1936 (iris).
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
FIGURE = "boundary"  # the one that the results page shows
# of a digit: even, prime, at least 5, with a closed loop
LABELS = np.array([[d % 2 == 0, d in (2, 3, 5, 7), d >= 5, d in (0, 6, 8, 9)] for d in range(10)], np.float32)
NAMES = ("even", "prime", "at least five", "closed loop")
HEADS: dict[str, Any] = {"sigmoid": nn.sigmoid, "softmax": nn.softmax}
CLAIMS = {
    "zero_one": Claim("zero-one error: a class taken for any other costs one", "A01"),
    "binary": Claim("two classes: sigmoid of z_1 - z_0 and softmax give the same loss and gradient", "A12"),
    "gradient": Claim("a network and a loss are all one writes: the automatic gradient is X^T (p - onehot) / B", "B10"),
    "labels": Claim("several labels an image: a sigmoid for each gets all of them right, a softmax over them, whose "
                    "outputs sum to one, gets no image right that has several", "A11", headline=True),
    "boundary": Claim("boundaries drawn between three irises have most flowers on the right side", "A01", True),
}  # fmt: skip
SMALL: dict[str, Any] = {}  # where the tests check the claims: the defaults take seconds


class Config(run.RunConfig):
    """Flags of this experiment."""

    head: str | None = flag(None, "train a net with this one alone", choices=HEADS, shown="both")
    steps: int | None = 1000
    batch_size: int = 64
    learning_rate: float = 3e-3


def data(config: Config) -> Data:
    """Digits with four labels each."""
    digits = load_images("digits", valid=config.valid_fraction).data(config.batch_size)
    labelled = lambda part: part and Batches({"x": part.arrays["x"], "y": LABELS[part.arrays["y"]]}, part.batch_size)
    return Data(labelled(digits.train), labelled(digits.valid), labelled(digits.test), digits.note, {"names": NAMES})


def shared_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy with a target shared evenly among the labels of an example, or among all if it has none."""
    count = targets.sum(-1, keepdims=True)
    share = jnp.where(count > 0, targets / jnp.maximum(count, 1), 1 / targets.shape[-1])
    return optax.softmax_cross_entropy(logits, share)


def build(config: Config, data: Data) -> Experiment:
    """A net of 128 hidden units with a probability for each label; a label is given where that is above one half."""
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
    """The probability of each label, for images of digits."""
    images = run.of_images(config, data)
    table = lambda p: {name: [f"{x:.4f}" for x in column] for name, column in zip(NAMES, p.T, strict=True)}
    return run.Inference(images.read, images.encode, table=table)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Equations, several labels, and a picture of boundaries."""
    yield from equations()
    yield from several_labels(config, data)
    yield boundary(config)


def equations() -> Iterator[run.Finding]:
    """0/1 error of the notes' example, a sigmoid beside a softmax over two classes, a gradient beside one by hand."""
    wrong = metrics.zero_one_error(jax.nn.one_hot(jnp.array([5, 8]), 11), jnp.array([10, 10]))
    cost = [Quantity(f"class 10 taken for {k}", value, "==", 1) for k, value in zip((5, 8), wrong, strict=True)]
    yield run.measured("zero_one", *cost)
    z, y = 3 * jax.random.normal(jax.random.key(0), (97, 2)), jnp.arange(97) % 2
    softmax = jax.value_and_grad(lambda z: losses.softmax_cross_entropy(z, y).mean())(z)
    sigmoid = jax.value_and_grad(lambda z: losses.sigmoid_cross_entropy(z[:, 1] - z[:, 0], y).mean())(z)
    apart = max(float(jnp.abs(a - b).max()) for a, b in zip(softmax, sigmoid, strict=True))
    yield run.measured("binary", Quantity("apart on 97 random pairs", apart, "<", 1e-6))
    x, y3 = jax.random.normal(jax.random.key(1), (97, 5)), jnp.arange(97) % 3
    w = jax.random.normal(jax.random.key(2), (5, 3))
    automatic = jax.grad(lambda w: losses.softmax_cross_entropy(x @ w, y3).mean())(w)
    gap = jnp.abs(automatic - x.T @ (nn.softmax(x @ w) - jax.nn.one_hot(y3, 3)) / 97).max()
    yield run.measured("gradient", Quantity("apart", gap, "<", 1e-6))


def several_labels(config: Config, data: Data) -> Iterator[run.Finding]:
    """A sigmoid for every label beside one softmax over the labels; nothing is compared where one is trained alone."""
    heads = [config.head] if config.head else list(HEADS)
    fits = {name: run.fit(build(config.replace(head=name), data), data, config, head=name, name=name) for name in heads}
    if config.head:
        return
    right = {name: fit.values("subset_accuracy") for name, fit in fits.items()}
    spread = {name: np.ptp(fit.predict(data.test).sum(-1)) for name, fit in fits.items()}
    several = float(np.mean(data.test.arrays["y"].sum(-1) > 1))
    yield run.measured(
        "labels",
        Quantity("sigmoid: images with all labels right", right["sigmoid"], ">", 0.9),
        Quantity("range of its sums", spread["sigmoid"], ">", 1.0),
        # what is left follows from a softmax that adds up to 1, however it is trained
        Quantity("softmax: images", right["softmax"], "<=", 1 - several),
        Quantity("range of its sums", spread["softmax"], "<", 1e-5),
    )


def boundary(config: Config) -> run.Finding:
    """Softmax regression on two measures of iris flowers, with the regions it draws."""
    iris = load_table("iris")
    x = iris.x[:, 2:] / 8  # petals, at most 6.9 cm: into 0..1
    train = Batches({"x": x, "y": iris.y}, 64)
    # no part is held out: the claim is about these flowers
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
        axis.set(xlabel=iris.columns[2], ylabel=iris.columns[3], title="softmax regression on two measures of iris")
        axis.legend()
        return figure

    run.save_figure(config, "boundary", drawn)
    right = Quantity("flowers on the right side", np.mean(result.predict(train) == iris.y), ">", 0.93)
    return run.measured("boundary", right, reference=baselines.classifiers(train.arrays, train.arrays))


if __name__ == "__main__":
    run.main()
