"""Softmax regression and the notes' two-layer net, right and with the softmax applied twice, on one image set.

    p = softmax(z),  L = -log p_y,  dL/dz = p - onehot(y);  linear: z = W x + b;  mlp: z = V relu(W x + b) + c
    double_softmax: mlp with -log softmax(p)_y, which stays above log(1 + (N - 1) / e), 1.4612 for 10 classes

    python -m experiments.softmax_regression                                  # digits, 3 seeds, no files needed
    python -m experiments.softmax_regression --dataset=mnist --data_dir=DATA  # the notes' 5 epochs

LeCun, Bottou, Bengio and Haffner 1998.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from jaxdl import losses, metrics, run
from jaxdl.core import Experiment
from jaxdl.data import IMAGE_SETS, Batches, Data, load_images, pixels11
from jaxdl.methods import baselines, torch_losses
from jaxdl.nn import INITIALIZERS, MLP
from jaxdl.run import Claim, Quantity, flag, pictures, plots
from jaxdl.supervision import supervised

FAMILY = "foundations"
FIGURE = "losses"  # the one that the results page shows
REFERENCES = {
    ("mnist", "linear"): {"LeCun 1998, linear classifier": 0.880, "the same, deskewed": 0.916},
    ("mnist", "mlp"): {"LeCun 1998, 300 hidden units": 0.953},
    ("fashion_mnist", "mlp"): {"fashion-mnist README, MLP 256-128-64": 0.900},
}
LEAST = {"digits": 0.93, "mnist": 0.88}  # accuracy of the linear model
MNIST = "--dataset=mnist --data_dir=DATA"
CLAIMS = {
    "linear": Claim("softmax regression tells new images", "H04 B27", headline=True),
    "mlp": Claim("one command goes from raw file to test report: the two-layer net tells new images", "B07 B27"),
    "size": Claim("the notes' net for MNIST has the number of weights that they say", "H05"),
    "learns": Claim("two-layer net: the training loss falls, the validation accuracy rises", "A05"),
    "floor": Claim("softmax twice: the training loss stays above the floor that N classes give", "H05"),
    "better": Claim("softmax once gains test accuracy over softmax twice, every seed", "H05", headline=True),
    "script": Claim("the notes' script as it stands: same weights and batches, same losses as PyTorch", "S01 H05",
                    needs="extra:peers"),
    "order": Claim("batch t depends on seed and t alone: an epoch forwards and backwards", "S02"),
    "templates": Claim("an image along row k of W scores highest for class k, whose test images are more like it than "
                       "the others", "H03"),
    "original": Claim("MNIST or Fashion-MNIST from the original IDX files, by their checksums", "S03",
                      needs="files:mnist", flags=MNIST),
}  # fmt: skip
SMALL = {"seeds": 1}  # where the tests check the claims


def softmax_twice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log softmax(softmax(z))_y [B]: what a net trains whose last layer is a softmax and whose loss has one too.

    Probabilities differ by at most 1, so the loss stays above log(1 + (N - 1) / e); its gradient passes through the
    Jacobian diag(p) - p p^T, which vanishes for confidently wrong examples as well as for right ones.
    """
    return losses.softmax_cross_entropy(nn.softmax(logits), labels)


Net = tuple[tuple[int, ...], Callable[[Any, Any], Any]]  # hidden units; loss of logits [B, N] and labels
NETS: dict[str, Net] = {
    "linear": ((), losses.softmax_cross_entropy),
    "mlp": ((128,), losses.softmax_cross_entropy),
    "double_softmax": ((128,), softmax_twice),
}


class Config(run.RunConfig):
    """Flags of this experiment: the notes' settings, more epochs on digits; from 200 on softmax twice catches up."""

    recipes = {"dataset": {name: {"epochs": 150 if name == "digits" else 5} for name in IMAGE_SETS}}
    dataset: str = flag("digits", "images; all but digits and glyphs are files in --data_dir", choices=IMAGE_SETS)
    net: str | None = flag(None, "train this one alone", choices=NETS, shown="all three")
    batch_size: int = 64
    seeds: int = 3
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    log_every: int = 1
    tensorboard: bool = False


def data(config: Config) -> Data:
    """The images that the flags name; digits and glyphs are split by seed 0, so that every run has the same tests."""
    return load_images(config.dataset, config.data_dir, valid=config.valid_fraction).data(config.batch_size)


def inputs(batch: Any) -> tuple[Any]:
    """What a model sees: 0..1 brought to -1..1, the notes' Normalize((0.5,), (0.5,))."""
    return (pixels11(batch["x"]),)


def build(config: Config, data: Data) -> Experiment:
    """The net of `--net`, or the MLP, x [B, ...] -> logits [B, N], from the initial weights of PyTorch's layers."""
    hidden, loss = NETS[config.net or "mlp"]
    scores: dict[str, Any] = {"accuracy": metrics.accuracy, "cross_entropy": losses.softmax_cross_entropy}
    return supervised(
        MLP((*hidden, len(data.facts["names"])), **INITIALIZERS["torch_linear"]),
        config.make_optimizer(data),
        example=data.example,
        inputs=inputs,
        loss=lambda logits, batch: loss(logits, batch["y"]),
        metrics=lambda logits, batch: {name: score(logits, batch["y"]) for name, score in scores.items()},
        predict=nn.softmax,
    )


inference = run.of_images


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """The three nets, and what there is to say of them; or one, and its accuracy."""
    nets = [config.net] if config.net else list(NETS)
    built = {name: build(config.replace(net=name), data) for name in nets}
    fits = {name: run.fit(built[name], data, config, net=name, name=name) for name in nets}
    names, test = data.facts["names"], data.test.arrays
    least = LEAST.get(config.dataset, 2 / len(names))
    for net in (name for name in nets if name in CLAIMS):
        peers = baselines.classifiers(data.train.arrays, test) if net == "linear" else {}
        reference = REFERENCES.get((config.dataset, net), {}) | peers
        yield run.measured(net, Quantity("accuracy", fits[net].values("accuracy"), ">=", least), reference=reference)
    if config.net:
        return
    shapes = jax.eval_shape(MLP((128, 10)).init, jax.random.key(0), np.zeros((1, 28, 28, 1)))
    count = sum(x.size for x in jax.tree.leaves(shapes))
    yield run.measured("size", Quantity("weights", count, "==", 785 * 128 + 129 * 10))
    yield from of_the_loss(config, fits["mlp"], fits["double_softmax"], len(names))
    yield from beside_torch(config, fits["double_softmax"], data)
    yield order(config, data.train)
    yield templates(config, data, fits["linear"].state)
    if config.dataset in ("mnist", "fashion_mnist"):
        yield run.measured("original", Quantity("sets of original files", data.facts["original"], "==", 1))


def of_the_loss(config: Config, once: run.Result, twice: run.Result, classes: int) -> Iterator[run.Finding]:
    """That the net learns, and what a second softmax does to its loss and its accuracy."""
    histories = {"softmax once": once.histories(), "softmax twice": twice.histories()}
    run.save_figure(config, "losses", lambda: plots.curves(histories))
    (_, loss), (_, right) = once.curve("train/loss"), once.curve("valid/accuracy")
    if len(loss) < 100 or len(right) < 2:
        return
    falls = Quantity("loss, last ten steps - first", float(np.mean(loss[-10:])) - loss[0], "<", 0.0)
    yield run.measured("learns", falls, Quantity("accuracy, last - first", right[-1] - right[0], ">", 0.0))
    least = [min(one.curve("train/loss")[1]) for one in twice.runs]
    yield run.measured("floor", Quantity("least loss", least, ">=", np.log(1 + (classes - 1) / np.e), enough=-1))
    gains = 100 * np.subtract(once.values("accuracy"), twice.values("accuracy"))
    told = [
        Quantity(f"cross-entropy {n}", fit.values("cross_entropy")) for n, fit in (("once", once), ("twice", twice))
    ]
    yield run.measured("better", Quantity("accuracy gained", gains, ">", 0.0, "points", -1), *told)


def beside_torch(config: Config, result: run.Result, data: Data) -> Iterator[run.Finding]:
    """The notes' script, softmax and then CrossEntropyLoss, beside PyTorch for a hundred steps."""
    steps, history = (column[:100] for column in result.runs[0].curve("train/loss"))
    if config.optimizer != "sgd" or steps != list(range(1, 101)):
        return
    params = result.experiment.init(jax.random.key(config.seed)).learner.params
    start = [params[f"Dense_{i}"][name] for i in (0, 1) for name in ("kernel", "bias")]
    batches = (data.train.batch(config.seed, t) for t in range(100))
    pairs = [(inputs(batch)[0].reshape(len(batch["y"]), -1), batch["y"]) for batch in batches]

    def loss(torch: Any, parameters: Any, x: Any, y: Any) -> Any:
        w, b, v, c = parameters
        return torch.nn.CrossEntropyLoss()(torch.softmax(torch.relu(x @ w + b) @ v + c, dim=1), y)

    try:
        peer = torch_losses(start, loss, pairs, config.learning_rate)
    except ImportError:
        return
    apart = Quantity("losses apart", np.abs(np.subtract(history, peer)).max(), "<", 1e-4)
    yield run.measured("script", Quantity("last loss", history[-1]), apart, reference={"PyTorch": peer[-1]})


def order(config: Config, train: Batches) -> run.Finding:
    """One epoch's batches drawn forwards, and backwards by another object."""
    batches, again = range(-(-train.length // train.batch_size)), Batches(train.arrays, train.batch_size)
    forwards = np.stack([train.order(config.seed, t) for t in batches])
    backwards = np.stack([again.order(config.seed, t) for t in reversed(batches)])[::-1]
    rows = len(np.unique(forwards.ravel()[: train.length]))
    differ = Quantity("batches that differ", np.sum((forwards != backwards).any(-1)), "==", 0)
    return run.measured("order", differ, Quantity("rows seen", rows, "==", train.length))


def templates(config: Config, data: Data, state: Any) -> run.Finding:
    """Rows of W, drawn and matched: of all x of length 1 the score w_k.x is greatest along w_k."""
    test, names = data.test.arrays, data.facts["names"]
    w, y = np.asarray(state.learner.params["Dense_0"]["kernel"]).T, test["y"]
    rows = w.reshape(-1, *test["x"].shape[1:]).mean(-1, keepdims=True)
    picture = lambda: pictures.image_grid(rows, names, columns=10, diverging=True, title="rows of W")
    run.save_figure(config, "weights", picture)
    along = w / np.linalg.norm(w, axis=1, keepdims=True)
    scores = w @ along.T  # of class i along row k
    lead = np.diag(scores) - np.where(np.eye(len(w)), -np.inf, scores).max(0)
    likeness = inputs(test)[0].reshape(len(y), -1) @ along.T
    closer = [likeness[y == k, k].mean() - likeness[y != k, k].mean() for k in range(len(w))]
    least = Quantity("least likeness of a class over the others", min(closer), ">", 0.0)
    return run.measured("templates", Quantity("least lead of a class along its row", lead.min(), ">", 0.0), least)


if __name__ == "__main__":
    run.main()
