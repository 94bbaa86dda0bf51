"""What a classifier is: 0/1 error, decision boundaries, sigmoid against softmax, one label and several.

    softmax: p_k = e^z_k / sum_j e^z_j, one label of N;  sigmoid: p_k = 1 / (1 + e^-z_k), each label by itself

The net of `--head` learns four labels at once on digits: even, prime, at least five, with a closed loop. Beside it the
other head, a linear classifier on two measures of iris flowers, and checks of single equations.

    python -m experiments.classification

Mission rows A01, A11, A12 and B10.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxdl import losses, metrics, run
from jaxdl.core import Experiment, supervised
from jaxdl.data import Batches, load_images, load_table
from jaxdl.nn import MLP
from jaxdl.run import Bound, Claim, flag, plots

# of a digit: even, prime, at least 5, with a closed loop
LABELS = np.array([[d % 2 == 0, d in (2, 3, 5, 7), d >= 5, d in (0, 6, 8, 9)] for d in range(10)], np.float32)
SMALL: dict[str, Any] = {}  # where the tests check the claims: the defaults take seconds


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment."""

    head: str = flag("sigmoid", "what turns the outputs into probabilities", choices=("sigmoid", "softmax"))
    steps: int | None = 1000
    batch_size: int = 64
    learning_rate: float = 3e-3


def data(config: Config) -> tuple[Batches, Batches | None, Batches]:
    """Training, validation and test digits with four labels each."""
    digits = load_images("digits", valid=config.valid_fraction)
    labelled = lambda part, size: Batches({"x": part["x"], "y": LABELS[part["y"]]}, size)
    valid = labelled(digits.valid, 256) if digits.valid else None
    return labelled(digits.train, config.batch_size), valid, labelled(digits.test, 256)


def shared_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy with a target shared evenly among the labels of an example, or among all if it has none."""
    count = targets.sum(-1, keepdims=True)
    share = jnp.where(count > 0, targets / jnp.maximum(count, 1), 1 / targets.shape[-1])
    return optax.softmax_cross_entropy(logits, share)


def build(config: Config, example: dict[str, Any]) -> Experiment:
    """A net of 128 hidden units with a probability for each label; a label is given where that is above one half."""
    sigmoid = config.head == "sigmoid"
    loss, head = (losses.sigmoid_cross_entropy, nn.sigmoid) if sigmoid else (shared_cross_entropy, nn.softmax)
    return supervised(
        MLP((128, LABELS.shape[1])),
        config.make_optimizer(),
        example=example,
        loss=lambda outputs, batch: loss(outputs, batch["y"]),
        metrics=lambda outputs, batch: {"subset_accuracy": metrics.subset_accuracy(head(outputs) - 0.5, batch["y"])},
    )


def main(config: Config) -> list[Claim]:
    """Trains, draws and reports."""
    return [*equations(), several_labels(config), boundary(config)]


def equations() -> list[Claim]:
    """0/1 error of the notes' example, a sigmoid beside a softmax over two classes, a gradient beside one by hand."""
    wrong = metrics.zero_one_error(jax.nn.one_hot(jnp.array([5, 8]), 11), jnp.array([10, 10]))
    z, y = 3 * jax.random.normal(jax.random.key(0), (97, 2)), jnp.arange(97) % 2
    softmax = jax.value_and_grad(lambda z: losses.softmax_cross_entropy(z, y).mean())(z)
    sigmoid = jax.value_and_grad(lambda z: losses.sigmoid_cross_entropy(z[:, 1] - z[:, 0], y).mean())(z)
    apart = max(float(jnp.abs(a - b).max()) for a, b in zip(softmax, sigmoid, strict=True))
    x, y3 = jax.random.normal(jax.random.key(1), (97, 5)), jnp.arange(97) % 3
    w = jax.random.normal(jax.random.key(2), (5, 3))
    automatic = jax.grad(lambda w: losses.softmax_cross_entropy(x @ w, y3).mean())(w)
    gap = float(jnp.abs(automatic - x.T @ (nn.softmax(x @ w) - jax.nn.one_hot(y3, 3)) / 97).max())
    cost = f"{wrong[0]:.0f} and {wrong[1]:.0f}; as numbers 5 and 2"
    binary = "two classes: sigmoid of z_1 - z_0 and softmax give the same loss and gradient to 1e-6"
    given = "a network and a loss are all one writes: the automatic gradient is X^T (p - onehot) / B to 1e-6"
    return [
        Claim("A01", "0/1 error: class 10 taken for 5 or for 8 costs 1 and 1", cost, holds=bool((wrong == 1).all())),
        Claim("A12", binary, f"at most {apart:.0e} apart on 97 random pairs", holds=apart < 1e-6),
        Claim("B10", given, f"at most {gap:.0e} apart", holds=gap < 1e-6),
    ]


def several_labels(config: Config) -> Claim:
    """A sigmoid for every label beside one softmax over the labels."""
    train, valid, test = data(config)
    config = config.resolve(train)
    exact, sums = {}, {}
    for head, function in {"sigmoid": nn.sigmoid, "softmax": nn.softmax}.items():
        experiment = build(replace(config, head=head), train.example)
        fit = run.fit(experiment, train, valid, config, test=test, name=head)
        model: Any = MLP((128, LABELS.shape[1]))
        add_up: Any = lambda state, batch: function(model.apply(state.variables, batch["x"])).sum(-1)
        total = run.apply(add_up, fit.state, test)
        exact[head], sums[head] = fit.metrics["subset_accuracy"], (total.min(), total.max())
    bound = float(np.mean(test.arrays["y"].sum(-1) <= 1))
    text = (
        "0 to 3 labels a digit: sigmoid gets all labels of more than 0.9 of the images right, with sums over a range "
        "above 1; softmax, whose outputs sum to 1, gets none of those with several"
    )
    show = "{} {:.4f}, sums {:.3f} to {:.3f}".format
    found = "; ".join(show(head, exact[head], *sums[head]) for head in exact)
    bounds = (
        Bound(exact["sigmoid"], ">", 0.9, "sigmoid"),
        Bound(float(np.ptp(sums["sigmoid"])), ">", 1.0, "range of the sigmoid's sums"),
    )
    # what is left follows from a softmax that adds up to 1, however it is trained
    good = all(b.holds for b in bounds) and exact["softmax"] <= bound and bool(np.ptp(sums["softmax"]) < 1e-5)
    known = f"softmax at most {bound:.4f}"
    return Claim("A11", text, found, known, "images with at most one label", good, bounds=bounds)


def boundary(config: Config) -> Claim:
    """Softmax regression on two measures of iris flowers, with the regions it draws."""
    from sklearn.linear_model import LogisticRegression

    iris = load_table("iris")
    x = iris.x[:, 2:] / 8  # petals, at most 6.9 cm: into 0..1
    train = Batches({"x": x, "y": iris.y}, 64)
    model: Any = MLP((3,))
    # no part is held out: the claim is about these flowers
    config = replace(config, learning_rate=0.1, patience=0, watch_test=False).resolve(train)
    experiment = supervised(
        model,
        config.make_optimizer(),
        example=train.example,
        loss=lambda logits, batch: losses.softmax_cross_entropy(logits, batch["y"]),
    )
    state = run.fit(experiment, train, None, config, name="iris").state
    kind: Any = lambda state, batch: model.apply(state.variables, batch["x"]).argmax(-1)
    length, width = np.meshgrid(np.linspace(0.5, 7.5, 400), np.linspace(0, 2.8, 400))
    cells = Batches({"x": np.stack([length.ravel(), width.ravel()], -1) / 8}, 4000)
    regions = run.apply(kind, state, cells)

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
    known = LogisticRegression(C=1e4, max_iter=1000).fit(x, iris.y).score(x, iris.y)
    found = float(np.mean(run.apply(kind, state, train) == iris.y))
    text = "boundaries drawn between three irises have above 0.93 of 150 flowers on the right side"
    right, peer = Bound(found, ">", 0.93, "right side"), "scikit-learn's LogisticRegression"
    return Claim("A01", text, f"{found:.4f}", f"{known:.4f}", peer, right.holds, bounds=(right,))


if __name__ == "__main__":
    run.main(Config, main)
