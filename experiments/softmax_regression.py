"""Softmax regression and the notes' two-layer net, right and with the softmax applied twice, on one image set.

    p = softmax(z),  L = -log p_y,  dL/dz = p - onehot(y);  linear: z = W x + b;  mlp: z = V relu(W x + b) + c
    double_softmax: mlp with -log softmax(p)_y, which stays above log(1 + (N - 1) / e), 1.4612 for 10 classes

    python -m experiments.softmax_regression                                  # digits, 3 seeds, no files needed
    python -m experiments.softmax_regression --dataset=mnist --data_dir=DATA  # the notes' 5 epochs

Mission rows A05, B07, B27, H03, H04, H05, S01, S02, S03. LeCun, Bottou, Bengio and Haffner 1998.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from experiments._image_report import baselines
from experiments._notes_in_torch import net_losses
from jaxdl import losses, metrics, run
from jaxdl.core import Experiment, supervised
from jaxdl.data import IMAGE_SETS, Batches, Images, load_images, unit
from jaxdl.nn import INITIALIZERS, MLP
from jaxdl.run import Bound, Claim, flag, plots

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
EPOCHS = {"digits": 150.0}  # elsewhere the notes' 5; from 200 on the second softmax catches up on digits
COMMAND = "python -m experiments.softmax_regression"
SMALL = {"seeds": 1}  # where the tests check the claims


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment; the defaults are the notes' settings, with more epochs on digits."""

    dataset: str = flag("digits", "images; all but digits and glyphs are files in --data_dir", choices=IMAGE_SETS)
    epochs: float | None = flag(None, "passes over the data", group="training", low=0, shown="150 on digits, else 5")
    batch_size: int = 64
    seeds: int = 3
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    log_every: int = 1
    tensorboard: bool = False


def load(config: Config) -> Images:
    """The images that the flags name; digits and glyphs are split by seed 0, so that every run has the same tests."""
    return load_images(config.dataset, config.data_dir, valid=config.valid_fraction)


def data(config: Config, images: Images | None = None) -> tuple[Batches, Batches | None, Batches]:
    """Training, validation and test images."""
    images = images or load(config)
    valid = Batches(images.valid, 256) if images.valid else None
    return Batches(images.train, config.batch_size), valid, Batches(images.test, 256)


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
    images = load(config)
    train, valid, test = data(config, images)
    run.say(images.note)
    if config.steps is None and config.epochs is None:
        config = replace(config, epochs=EPOCHS.get(config.dataset, 5.0))
    config, n = config.resolve(train), len(images.names)
    built = {name: build(config, train.example, net, n) for name, net in NETS.items()}
    fits = {name: run.fit(built[name], train, valid, config, test=test, name=name) for name in NETS}
    return [
        *accuracies(config, images, fits),
        *notes_net(config, fits, n),
        same_losses(config, fits["double_softmax"], train, n),
        order(config, train),
        templates(config, images, fits["linear"].state),
        original(config, images),
    ]


def accuracies(config: Config, images: Images, fits: dict[str, run.Result]) -> list[Claim]:
    """Test accuracies beside other people's."""
    least = LEAST.get(config.dataset, 2 / len(images.names))
    right = f"at least {least:.2g} of {len(images.test['y']):,} test images of {config.dataset} right"
    known = {net: REFERENCES.get((config.dataset, net), "") for net in NETS}
    beside = {name: f"{score:.4f} (scikit-learn, same split)" for name, score in baselines(images).items()}
    known["linear"] += beside.get("logistic regression", "")
    texts = {
        "linear": ("H04 B27", f"softmax regression: {right}"),
        "mlp": ("B07 B27", f"one command from raw file to test report: two-layer net, {right}"),
    }
    claims = []
    for net, (row, text) in texts.items():
        found = f"{run.plus_minus(fits[net].values('accuracy'))} in {fits[net].seconds:.0f} s"
        bound = Bound(fits[net].metrics["accuracy"], ">=", least, f"accuracy of {net}")
        claims.append(Claim(row, text, found, known[net], holds=bound.holds, bounds=(bound,)))
    return claims


def notes_net(config: Config, fits: dict[str, run.Result], classes: int) -> list[Claim]:
    """The notes' net: that it learns, its size, what a second softmax does to the loss and to the accuracy."""
    once, twice, limit = fits["mlp"], fits["double_softmax"], float(np.log(1 + (classes - 1) / np.e))
    histories = {"softmax once": once.histories(), "softmax twice": twice.histories()}
    run.save_figure(config, "losses", lambda: plots.curves(histories))
    shapes = jax.eval_shape(make_model(10, (128,)).init, jax.random.key(0), np.zeros((1, 28, 28, 1)))
    size = sum(x.size for x in jax.tree.leaves(shapes))
    claims = [Claim("H05", "784-128-10 has 101,770 parameters", f"{size:,}", "785 128 + 129 10", holds=size == 101_770)]
    learns = "two-layer net: training loss falls, validation accuracy rises"
    above = f"softmax twice: the training loss stays above log(1 + {classes - 1} / e)"
    better = "softmax once gains test accuracy over twice, every seed"
    (_, loss), (_, right) = once.curve("train/loss"), once.curve("valid/accuracy")
    if len(loss) < 100 or len(right) < 2:
        short = {"A05": learns, "H05": f"{above}; {better}"}
        return claims + [Claim(row, text, "not measured", command=COMMAND) for row, text in short.items()]
    last = float(np.mean(loss[-10:]))
    learnt = f"loss {loss[0]:.3f} to {last:.3f}, accuracy {right[0]:.4f} to {right[-1]:.4f}"
    falls = Bound(last - loss[0], "<", 0.0, "loss"), Bound(right[-1] - right[0], ">", 0.0, "accuracy")
    least = min(value for one in twice.runs or (twice,) for value in one.curve("train/loss")[1])
    stays = Bound(least, ">=", limit, "loss of softmax twice", seeds=len(twice.histories()))
    gains = 100 * np.subtract(once.values("accuracy"), twice.values("accuracy"))
    gained = Bound(float(gains.min()), ">", 0.0, "points gained", seeds=len(gains))
    scores = ["{accuracy:.4f}, cross-entropy {cross_entropy:.3f}".format(**fit.metrics) for fit in (once, twice)]
    gain = f"{run.plus_minus(gains, 3)} points: {scores[0]} against {scores[1]}"
    return [
        *claims,
        Claim("A05", learns, learnt, holds=all(bound.holds for bound in falls), bounds=falls),
        Claim("H05", above, f"least {least:.4f}", f"{limit:.4f}", holds=stays.holds, bounds=(stays,)),
        Claim("H05", better, gain, holds=gained.holds, bounds=(gained,)),
    ]


def same_losses(config: Config, result: run.Result, train: Batches, classes: int) -> Claim:
    """The notes' script, as it stands, beside PyTorch."""
    text = "the notes' script: losses of its first 100 SGD steps, same weights and batches, to 1e-4"
    steps, history = (column[:100] for column in (result.runs or (result,))[0].curve("train/loss"))
    if config.optimizer != "sgd" or steps != list(range(1, 101)):
        return Claim("S01 H05", text, "not measured", command=COMMAND)
    start = build(config, train.example, NETS["double_softmax"], classes).init(jax.random.key(config.seed))
    batches = (train.batch(config.seed, t) for t in range(100))
    pairs = [(inputs(batch).reshape(len(batch["y"]), -1), batch["y"]) for batch in batches]
    try:
        peer = net_losses(start.learner.params, pairs, config.learning_rate)
    except ImportError:
        return Claim("S01 H05", text, "not measured", command=f"pip install jaxdl[peers] && {COMMAND}")
    apart = Bound(float(np.abs(np.subtract(history, peer)).max()), "<", 1e-4, "losses apart")
    ends = "{:.5f} at first, {:.5f} at last".format
    found, known = f"{ends(history[0], history[-1])}; at most {apart.value:.0e} apart", ends(peer[0], peer[-1])
    return Claim("S01 H05", text, found, known, "PyTorch", apart.holds, bounds=(apart,))


def order(config: Config, train: Batches) -> Claim:
    """One epoch's batches drawn forwards, and backwards by another object."""
    batches, again = range(-(-train.length // train.batch_size)), Batches(train.arrays, train.batch_size)
    forwards = np.stack([train.order(config.seed, t) for t in batches])
    backwards = np.stack([again.order(config.seed, t) for t in reversed(batches)])[::-1]
    rows = len(np.unique(forwards.ravel()[: train.length]))
    same = np.array_equal(forwards, backwards) and rows == train.length
    found = f"{len(batches)} batches {'alike' if same else 'differ'}, {rows:,} different rows of {train.length:,}"
    return Claim("S02", "batch t depends on (seed, t) alone: an epoch forwards and backwards", found, holds=same)


def templates(config: Config, images: Images, state: Any) -> Claim:
    """Rows of W, drawn and matched: of all x of length 1 the score w_k.x is greatest along w_k."""
    w, y = np.asarray(state.learner.params["Dense_0"]["kernel"]).T, images.test["y"]
    rows = w.reshape(-1, *images.test["x"].shape[1:]).mean(-1, keepdims=True)
    picture = lambda: plots.image_grid(rows, images.names, columns=10, diverging=True, title="rows of W")
    run.save_figure(config, "weights", picture)
    along = w / np.linalg.norm(w, axis=1, keepdims=True)
    scores = w @ along.T  # of class i along row k
    lead = np.diag(scores) - np.where(np.eye(len(w)), -np.inf, scores).max(0)
    likeness = inputs(images.test).reshape(len(y), -1) @ along.T
    closer = np.array([likeness[y == k, k].mean() - likeness[y != k, k].mean() for k in range(len(w))])
    text = "an image along row k of W scores highest for class k, whose test images are more like it than the others"
    found = f"{np.sum(lead > 0)} and {np.sum(closer > 0)} of {len(w)} classes"
    bounds = Bound(float(lead.min()), ">", 0.0, "least lead"), Bound(float(closer.min()), ">", 0.0, "least likeness")
    return Claim("H03", text, found, holds=all(bound.holds for bound in bounds), bounds=bounds)


def original(config: Config, images: Images) -> Claim:
    """Whether the files are the published ones, which the reader tells by their checksums."""
    text = "MNIST or Fashion-MNIST from the original IDX files, by their checksums"
    if config.dataset not in ("mnist", "fashion_mnist"):
        return Claim("S03", text, "not measured", command=f"{COMMAND} --dataset=mnist --data_dir=DATA")
    return Claim("S03", text, images.note, holds=images.original)


if __name__ == "__main__":
    run.main(Config, main)
