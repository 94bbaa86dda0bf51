"""Softmax regression and a two-layer network on images, with the softmax applied once and twice.

The first classifiers of a course, and a common mistake: a softmax layer followed by a loss that contains a softmax
itself. The mistaken network still learns, but its loss cannot fall below a floor and its accuracy is lower. All losses
are checked against the notes' PyTorch script.

    p = softmax(z),  L = -log p_y,  dL/dz = p - onehot(y);  linear: z = W x + b;  mlp: z = V relu(W x + b) + c
    double_softmax: mlp with the loss -log softmax(p)_y >= log(1 + (N - 1) / e), 1.4612 for 10 classes

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
FIGURE = "losses"  # shown on the page of results
REFERENCES = {  # (data set, network) -> {source: accuracy}
    ("mnist", "linear"): {"LeCun 1998, linear classifier": 0.880, "LeCun 1998, linear classifier, deskewed": 0.916},
    ("mnist", "mlp"): {"LeCun 1998, 300 hidden units": 0.953},
    ("fashion_mnist", "mlp"): {"fashion-mnist README, MLP 256-128-64": 0.900},
}
LEAST = {"digits": 0.93, "mnist": 0.88}  # least accuracy of the linear model
MNIST = "--dataset=mnist --data_dir=DATA"
CLAIMS = {
    "linear": Claim("Softmax regression reaches the expected test accuracy", "H04 B27", headline=True),
    "mlp": Claim("One command leads from raw files to the test accuracy of a two-layer network", "B07 B27"),
    "size": Claim("The notes' network for MNIST has the number of weights that they state", "H05"),
    "learns": Claim("The two-layer network's training loss falls and its validation accuracy rises", "A05"),
    "floor": Claim("With softmax applied twice the training loss stays above its theoretical floor", "H05"),
    "better": Claim("Applying softmax once instead of twice improves test accuracy for every seed", "H05",
                    headline=True),
    "script": Claim("With equal weights and batches the losses equal those of the notes' PyTorch script", "S01 H05",
                    needs="extra:peers"),
    "order": Claim("The batch of a step depends only on the seed and the step", "S02"),
    "templates": Claim("Each row of W is a template: it resembles images of its own class more than others", "H03"),
    "original": Claim("MNIST or Fashion-MNIST is read from the original IDX files, verified by checksum", "S03",
                      needs="files:mnist", flags=MNIST),
}  # fmt: skip
SMALL = {"seeds": 1}  # the flags at which the tests check the claims


def softmax_twice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns -log softmax(softmax(z))_y [B], the loss of a network whose last layer and loss both apply a softmax.

    Probabilities differ by at most 1, so the loss is at least log(1 + (N - 1) / e). Its gradient contains the
    Jacobian diag(p) - p p^T, which vanishes for confident predictions, wrong or correct.
    """
    return losses.softmax_cross_entropy(nn.softmax(logits), labels)


Net = tuple[tuple[int, ...], Callable[[Any, Any], Any]]  # hidden units; loss of logits [B, N] and labels
NETS: dict[str, Net] = {
    "linear": ((), losses.softmax_cross_entropy),
    "mlp": ((128,), losses.softmax_cross_entropy),
    "double_softmax": ((128,), softmax_twice),
}


class Config(run.RunConfig):
    """Flags of this experiment: the notes' settings, more epochs on digits.

    On digits softmax twice catches up from 200 epochs on.
    """

    recipes = {"dataset": {name: {"epochs": 150 if name == "digits" else 5} for name in IMAGE_SETS}}
    dataset: str = flag("digits", "images; all but digits and glyphs are read from --data_dir", choices=IMAGE_SETS)
    net: str | None = flag(None, "train only this network", choices=NETS, shown="all three")
    batch_size: int = 64
    seeds: int = 3
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    log_every: int = 1
    tensorboard: bool = False


def data(config: Config) -> Data:
    """Loads the data set; digits and glyphs are split by seed 0, so that every run has the same test images."""
    return load_images(config.dataset, config.data_dir, valid=config.valid_fraction).data(config.batch_size)


def inputs(batch: Any) -> tuple[Any]:
    """Scales pixels to -1..1, as the notes' Normalize((0.5,), (0.5,))."""
    return (pixels11(batch["x"]),)


def build(config: Config, data: Data) -> Experiment:
    """Builds the network of `--net`, by default the MLP, initialised as PyTorch's layers."""
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
    """Trains the three networks and measures all claims, or one network and its accuracy."""
    nets = [config.net] if config.net else list(NETS)
    built = {name: build(config.replace(net=name), data) for name in nets}
    fits = {name: run.fit(built[name], data, config, net=name, name=name) for name in nets}
    names, test = data.facts["names"], data.test.arrays
    least = LEAST.get(config.dataset, 2 / len(names))
    for net in (name for name in nets if name in CLAIMS):
        peers = baselines.classifiers(data.train.arrays, test) if net == "linear" else {}
        reference = REFERENCES.get((config.dataset, net), {}) | peers
        yield run.measured(
            net, Quantity("test accuracy", fits[net].values("accuracy"), ">=", least), reference=reference
        )
    if config.net:
        return
    shapes = jax.eval_shape(MLP((128, 10)).init, jax.random.key(0), np.zeros((1, 28, 28, 1)))
    count = sum(x.size for x in jax.tree.leaves(shapes))
    yield run.measured("size", Quantity("weights", count, "==", 785 * 128 + 129 * 10))
    yield from of_the_loss(config, fits["mlp"], fits["double_softmax"], len(names))
    yield from beside_torch(config, fits["double_softmax"], data)
    yield order(config, data.train)
    yield templates(config, data, fits["linear"])
    if config.dataset in ("mnist", "fashion_mnist"):
        yield run.measured("original", Quantity("checksums match (1: yes)", data.facts["original"], "==", 1))


def of_the_loss(config: Config, once: run.Result, twice: run.Result, classes: int) -> Iterator[run.Finding]:
    """Measures that the network learns, and what a second softmax does to loss and accuracy."""
    histories = {"softmax once": once.histories(), "softmax twice": twice.histories()}
    run.save_figure(config, "losses", lambda: plots.curves(histories))
    loss, accuracy = ([one.curve(key)[1] for one in once.runs] for key in ("train/loss", "valid/accuracy"))
    if min(map(len, loss)) < 100 or min(map(len, accuracy)) < 2:
        return
    falls, rises = [np.mean(one[-10:]) - one[0] for one in loss], [one[-1] - one[0] for one in accuracy]
    yield run.measured(
        "learns",
        Quantity("change of the training loss", falls, "<", 0.0),
        Quantity("change of the validation accuracy", rises, ">", 0.0),
    )
    least, floor = [min(one.curve("train/loss")[1]) for one in twice.runs], np.log(1 + (classes - 1) / np.e)
    yield run.measured("floor", Quantity("minimum training loss", least, ">=", floor, enough=-1))
    gains = 100 * np.subtract(once.values("accuracy"), twice.values("accuracy"))
    named = (("once", once), ("twice", twice))
    entropies = [Quantity(f"test cross-entropy, softmax {n}", fit.values("cross_entropy")) for n, fit in named]
    yield run.measured("better", Quantity("gain in test accuracy", gains, ">", 0.0, "points", -1), *entropies)


def beside_torch(config: Config, result: run.Result, data: Data) -> Iterator[run.Finding]:
    """Compares a hundred steps with the notes' script in PyTorch: a softmax, then CrossEntropyLoss."""
    curves = [one.curve("train/loss") for one in result.runs]
    if config.optimizer != "sgd" or any(steps[:100] != list(range(1, 101)) for steps, _ in curves):
        return

    def loss(torch: Any, parameters: Any, x: Any, y: Any) -> Any:
        w, b, v, c = parameters
        return torch.nn.CrossEntropyLoss()(torch.softmax(torch.relu(x @ w + b) @ v + c, dim=1), y)

    def peer(seed: int) -> np.ndarray:
        params = result.experiment.init(jax.random.key(seed)).learner.params
        start = [params[f"Dense_{i}"][name] for i in (0, 1) for name in ("kernel", "bias")]
        batches = (data.train.batch(seed, t) for t in range(100))
        pairs = [(inputs(batch)[0].reshape(len(batch["y"]), -1), batch["y"]) for batch in batches]
        return torch_losses(start, loss, pairs, config.learning_rate)

    try:
        peers = np.array([peer(config.seed + i) for i in range(len(curves))])  # [seeds, 100]
    except ImportError:
        return
    ours, name = np.array([history[:100] for _, history in curves]), "training loss at step 100"
    difference = Quantity("largest difference of the losses", np.abs(ours - peers).max(1), "<", 1e-4)
    yield run.measured("script", Quantity(name, ours[:, -1]), difference, reference={f"{name}, PyTorch": peers[:, -1]})


def order(config: Config, train: Batches) -> run.Finding:
    """Draws one epoch's batches in order, and in reverse from another object."""
    batches, again = range(-(-train.length // train.batch_size)), Batches(train.arrays, train.batch_size)
    forwards = np.stack([train.order(config.seed, t) for t in batches])
    backwards = np.stack([again.order(config.seed, t) for t in reversed(batches)])[::-1]
    rows = len(np.unique(forwards.ravel()[: train.length]))
    differ = Quantity("differing batches", np.sum((forwards != backwards).any(-1)), "==", 0)
    return run.measured("order", differ, Quantity("rows in an epoch", rows, "==", train.length))


def templates(config: Config, data: Data, result: run.Result) -> run.Finding:
    """Plots the rows of W and compares them with the test images.

    Among all x of length 1 the score w_k.x is greatest along w_k.
    """
    test, names = data.test.arrays, data.facts["names"]
    y, x = test["y"], np.asarray(inputs(test)[0]).reshape(len(test["y"]), -1)
    kernels = [np.asarray(one.state.learner.params["Dense_0"]["kernel"]).T for one in result.runs]
    rows = kernels[0].reshape(-1, *test["x"].shape[1:]).mean(-1, keepdims=True)
    picture = lambda: pictures.image_grid(rows, names, columns=10, diverging=True, title="Rows of W, one per class")
    run.save_figure(config, "weights", picture)
    leads, gaps = [], []
    for w in kernels:
        along = w / np.linalg.norm(w, axis=1, keepdims=True)
        scores, likeness = w @ along.T, x @ along.T  # of class i, or of an image, along row k
        leads.append((np.diag(scores) - np.where(np.eye(len(w)), -np.inf, scores).max(0)).min())
        gaps.append(min(likeness[y == k, k].mean() - likeness[y != k, k].mean() for k in range(len(w))))
    lead = Quantity("smallest lead of a class's score along its own row", leads, ">", 0.0)
    return run.measured("templates", lead, Quantity("smallest gap in similarity, own - other classes", gaps, ">", 0.0))


if __name__ == "__main__":
    run.main()
