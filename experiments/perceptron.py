"""The perceptron: a bound on its mistakes, XOR, and the hidden layer that it lacks.

Rosenblatt's perceptron changes its weights at mistakes only. If a hyperplane separates the classes, the number of its
mistakes is bounded, whatever the number and order of the rows; the experiment counts them over margins and seeds. No
line separates XOR: there the perceptron is right on three of four points at most, and a multilayer perceptron on all.

    mistake: y w.x <= 0,  then w <- w + y x        mistakes <= (R / g)^2,  R = max |x|,  g = max_w min y w.x / |w|
    MLP: V relu(W x + b) + c

What makes a network an MLP, a hidden layer and full connections, is read from the programs of five networks. Flags of
training apply to the networks on XOR; all of them are trained at once.

    python -m experiments.perceptron
    python -m experiments.perceptron --hidden=2 --workdir=RUN   # too narrow: some networks stay below 100%

Rosenblatt 1958, The perceptron; Novikoff 1962, On convergence proofs on perceptrons; Minsky and Papert 1969.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxdl import losses, run
from jaxdl.core import Experiment
from jaxdl.data import Batches, Data
from jaxdl.methods.perceptron import best_margin, perceptron
from jaxdl.nn import CNN, INITIALIZERS, MLP
from jaxdl.nn.connections import connections
from jaxdl.nn.family import Family
from jaxdl.run import Claim, Quantity, flag, plots
from jaxdl.supervision import supervised

FAMILY = "foundations"
FIGURE = "perceptron"  # shown on the page of results
POINTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
XOR = np.array([0, 1, 1, 0])
NETWORKS, ENOUGH = 20, 19
MARGINS, DRAWS, ROWS, PASSES = (0.4, 0.2, 0.1, 0.05, 0.025), 20, 100, 200
CLAIMS = {
    "bound": Claim("On separable classes the perceptron makes at most as many mistakes as the margin allows", "H02"),
    "converges": Claim("On separable classes the perceptron ends with a pass without mistakes", "H02"),
    "tight": Claim("Orthonormal rows force the perceptron to make as many mistakes as the bound allows", "H02"),
    "peer": Claim("The perceptron's weights are those of scikit-learn, bit for bit", "H02"),
    "xor": Claim("A perceptron is right on at most three of the four points of XOR, after every pass", "H02",
                 headline=True),
    "boolean": Claim("The perceptron learns every Boolean function of two inputs but XOR and its negation", "H02"),
    "mlp": Claim("Multilayer perceptrons fit XOR", "H02", headline=True),
    "size": Claim("The notes' network with one hidden layer has the number of weights that it should have", "H06"),
    "adam": Claim("One step of Adam lowers the loss of the notes' network", "H06"),
    "graph": Claim("An MLP has a hidden layer and is fully connected; a perceptron, a CNN and an RNN are not MLPs",
                   "H07"),
}  # fmt: skip
SMALL: dict[str, Any] = {}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    hidden: int = flag(16, "hidden units of the networks on XOR", minimum=1)
    valid_fraction: float = run.no_validation("XOR has four points, and all of them are fitted")
    steps: int | None = 400
    batch_size: int = 4
    learning_rate: float = 0.03
    tensorboard: bool = False
    devices: int = 1  # four points


def data(config: Config) -> Data:
    """Returns the four points of XOR."""
    return Data(Batches({"x": POINTS, "y": XOR}, config.batch_size), test=Batches({"x": POINTS, "y": XOR}, 4))


def build(config: Config, data: Data) -> Experiment:
    """Builds twenty MLPs with one hidden layer, each with its own initial weights; they predict P(1) [B, 20]."""
    logits = lambda outputs: outputs[:, 0, :, 0]
    targets = lambda outputs, batch: jnp.broadcast_to(batch["y"][:, None], logits(outputs).shape)

    def loss(outputs: jax.Array, batch: Any) -> jax.Array:
        return losses.sigmoid_cross_entropy(logits(outputs), targets(outputs, batch)).sum(-1)

    def right(outputs: jax.Array, batch: Any) -> dict[str, jax.Array]:
        return {"accuracy": (logits(outputs) > 0) == (targets(outputs, batch) > 0)}

    return supervised(
        Family(((config.hidden, 1),), NETWORKS, **INITIALIZERS["he_normal"]),
        config.make_optimizer(data),
        example=data.example,
        loss=loss,
        metrics=right,
        predict=lambda outputs: nn.sigmoid(logits(outputs)),
    )


def inference(config: Config, data: Data) -> run.Inference:
    """Predicts P(1) for pairs of numbers, by each network."""
    return run.of_numbers(data, [f"network {i + 1}" for i in range(NETWORKS)])


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Counts mistakes on separable classes, trains on XOR, and examines the notes' network."""
    found, mistakes, bounds = separable(config)
    yield from found
    found, weights = boolean(config)
    yield from found
    result = run.fit(build(config, data), data, config, name="xor")
    run.save_figure(config, "perceptron", lambda: drawn(mistakes, bounds, weights, result))
    fitted = [np.sum(((one.predict(data.test) > 0.5) == XOR[:, None]).all(0)) for one in result.runs]
    yield run.measured("mlp", Quantity(f"networks of {NETWORKS} that fit all points", fitted, ">=", ENOUGH))
    yield from of_the_notes(config)


def with_ones(x: np.ndarray) -> np.ndarray:
    """Returns x [..., D + 1] with a column of ones, whose weight is the bias."""
    return np.concatenate([x, np.ones_like(x[..., :1])], -1)


def problems(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns separable classes: x [M, 100, 3] in a square, and y [M, 100]; M: every margin, 20 draws of each.

    No point is closer to a random line than the margin.
    """
    random, found = np.random.default_rng(seed), []
    for margin, _ in itertools.product(MARGINS, range(DRAWS)):
        angle, offset = random.uniform(0, 2 * np.pi), random.uniform(-0.3, 0.3)
        x = random.uniform(-1, 1, (10 * ROWS, 2))
        height = x @ [np.cos(angle), np.sin(angle)] + offset
        kept = np.flatnonzero(np.abs(height) >= margin)[:ROWS]
        found.append((with_ones(x[kept]), np.sign(height[kept])))
    x, y = zip(*found, strict=True)
    return np.stack(x), np.stack(y)


def separable(config: Config) -> tuple[list[run.Finding], np.ndarray, np.ndarray]:
    """Compares mistakes with Novikoff's bound -> findings, and mistakes and bounds [M]."""
    from sklearn.linear_model import Perceptron

    x, y = problems(config.seed)
    with jax.enable_x64(True):
        w, wrong = map(np.asarray, jax.vmap(lambda x, y: perceptron(x, y, PASSES))(jnp.asarray(x), jnp.asarray(y)))
        basis = np.asarray(perceptron(jnp.eye(ROWS), jnp.asarray(y[0]), 2)[1])
    square = lambda x, y: np.sum(x**2, -1).max() / best_margin(x, y)[0] ** 2  # (R / g)^2
    mistakes, bounds = wrong.sum(1), np.array([square(*one) for one in zip(x, y, strict=True)])
    peers = [Perceptron(shuffle=False, tol=None, max_iter=3).fit(a[:, :2], b) for a, b in zip(x, y, strict=True)]
    known = np.array([[*peer.coef_[0], *peer.intercept_] for peer in peers])
    return [
        run.measured(
            "bound",
            Quantity("largest ratio of mistakes to the bound", np.max(mistakes / bounds), "<=", 1.0),
            Quantity("most mistakes", mistakes.max()),
            Quantity("problems", len(x)),
        ),
        run.measured(
            "converges",
            Quantity("problems with mistakes in the last pass", np.sum(wrong[:, -1] > 0), "==", 0),
            Quantity("most passes with mistakes", np.sum(wrong > 0, 1).max(), "<", PASSES),
        ),
        run.measured("tight", Quantity("mistakes - bound", basis.sum() - square(np.eye(ROWS), y[0]), ">", -1e-6),
                     Quantity("mistakes", basis.sum())),
        run.measured("peer", Quantity("largest difference after three passes", np.abs(w[:, 2] - known).max(), "==", 0)),
    ], mistakes, bounds  # fmt: skip


def boolean(config: Config) -> tuple[list[run.Finding], np.ndarray]:
    """Trains perceptrons on XOR, and on all Boolean functions -> findings, and the last weights on XOR [100, 3]."""
    random, x = np.random.default_rng(config.seed), jnp.asarray(with_ones(POINTS))
    order = random.permuted(np.broadcast_to(np.arange(4), (100, 100, 4)), axis=2)  # [starts, passes, 4]
    start = random.normal(size=(100, 3)).astype(np.float32)
    one = lambda order, start: perceptron(x, jnp.asarray(2.0 * XOR - 1), order=order, start=start)
    weights = np.asarray(jax.vmap(one)(jnp.asarray(order), jnp.asarray(start))[0])
    right = np.mean((weights @ with_ones(POINTS).T > 0) == (XOR == 1), -1)
    tables = np.array([*itertools.product((0, 1), repeat=4)])
    wrong = np.asarray(jax.vmap(lambda y: perceptron(x, y, 100)[1])(jnp.asarray(2.0 * tables - 1)))
    learned = wrong[:, -1] == 0
    parity = (tables == XOR).all(1) | (tables == 1 - XOR).all(1)
    return [
        run.measured("xor", Quantity("largest accuracy after any pass, 100 starts", right.max(), "<=", 0.75)),
        run.measured("boolean", Quantity("functions learned, of the other 14", learned[~parity].sum(), "==", 14),
                     Quantity("functions learned, XOR and its negation", learned[parity].sum(), "==", 0)),
    ], weights[:, -1]  # fmt: skip


def of_the_notes(config: Config) -> Iterator[run.Finding]:
    """Counts the weights of the notes' network 10-20-3, takes a step of Adam, and compares its graph with others'."""
    model, tx, random = MLP((20, 3)), optax.adam(1e-3), np.random.default_rng(config.seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((5, 10)))
    # PyTorch's initial weights, random inputs and labels, as in the notes
    bound = lambda path: {"Dense_0": 10**-0.5, "Dense_1": 20**-0.5}[path[1].key]
    draw = lambda path, leaf: random.uniform(-bound(path), bound(path), (100, *leaf.shape)).astype(np.float32)
    leaves, structure = jax.tree.flatten(jax.tree_util.tree_map_with_path(draw, shapes))
    draws = {"x": random.normal(size=(100, 5, 10)), "y": random.integers(0, 3, (100, 5))}
    draws |= {f"parameter {i}": leaf for i, leaf in enumerate(leaves)}

    def step(draw: Any) -> jax.Array:
        """Returns the loss before and after a step of Adam."""
        loss = lambda params: losses.softmax_cross_entropy(
            jnp.asarray(model.apply(params, draw["x"])), draw["y"]
        ).mean()
        params = jax.tree.unflatten(structure, [draw[f"parameter {i}"] for i in range(len(leaves))])
        before, slope = jax.value_and_grad(loss)(params)
        updates, _ = tx.update(slope, tx.init(params))
        return jnp.stack([before, loss(optax.apply_updates(params, updates))])

    before, after = run.map_batches(lambda _, batch: jax.vmap(step)(batch), (), draws, devices=1).T
    size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    yield run.measured("size", Quantity("weights", size, "==", 283))
    yield run.measured(
        "adam",
        Quantity("largest change of the loss, 100 draws", np.max(after - before), "<", 0.0),
        Quantity("mean change of the loss", np.mean(after - before)),
    )
    recurrent = nn.Sequential([nn.RNN(nn.SimpleCell(5)), lambda x: x[:, -1], nn.Dense(3)])
    networks: dict[str, tuple[Any, tuple[int, ...]]] = {
        "MLP": (model, (10,)), "perceptron": (MLP((1,)), (10,)), "CNN": (CNN((4,), 8, 3), (8, 8, 1)),
        "RNN": (recurrent, (5, 2)),
    }  # fmt: skip
    graphs = {}
    for name, (network, shape) in networks.items():
        row = jax.ShapeDtypeStruct((1, *shape), np.float32)
        shapes = jax.eval_shape(network.init, jax.random.key(0), row)
        variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)  # no connection is 0
        graphs[name] = connections(lambda x: network.apply(variables, x), row)
    yield run.measured(
        "graph",
        Quantity("MLP: hidden layers", graphs["MLP"].hidden, ">=", 1),
        Quantity("MLP: share of connections", graphs["MLP"].share, "==", 1),
        Quantity("perceptron: hidden layers", graphs["perceptron"].hidden, "==", 0),
        Quantity("CNN: share of connections in its sparsest layer", graphs["CNN"].share, "<", 1),
        Quantity("feed-forward: MLP, perceptron and CNN", sum(graph.feedforward for graph in graphs.values()), "==", 3),
        Quantity("MLPs among the four networks", sum(graph.is_mlp for graph in graphs.values()), "==", 1),
    )


def drawn(mistakes: np.ndarray, bounds: np.ndarray, weights: np.ndarray, result: run.Result) -> Any:
    """Draws mistakes against their bound, the lines of perceptrons on XOR, and the regions of an MLP."""
    figure, (left, middle, right) = plots.new_figure(11.5, 3.9, 1, 3)
    for i, margin in enumerate(MARGINS):
        own = slice(i * DRAWS, (i + 1) * DRAWS)
        left.scatter(bounds[own], np.maximum(mistakes[own], 1), s=14, label=f"{margin:g}")
    ends = np.array([bounds.min() / 2, bounds.max() * 2])
    left.plot(ends, ends, color="k", linestyle="--", linewidth=1)
    left.annotate("the bound", (ends[1], ends[1]), (-12, -4), textcoords="offset points", ha="right", fontsize=9)
    left.set(xscale="log", yscale="log", xlabel="bound (R / margin)²", ylabel="mistakes until all rows are right",
             title="Separable classes")  # fmt: skip
    left.legend(title="least distance", fontsize=8, title_fontsize=8)
    grid = np.linspace(-0.5, 1.5, 200, dtype=np.float32)
    cells = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    for w in weights[:30]:
        middle.plot(
            grid, -(w[0] * grid + w[2]) / w[1] if w[1] else np.full_like(grid, np.nan), color="0.6", linewidth=0.8
        )
    middle.set_title("XOR: lines of 30 perceptrons")
    p = result.predict({"x": cells})[:, 0].reshape(200, 200)
    right.contourf(grid, grid, p, [0, 0.5, 1], colors=["C0", "C1"], alpha=0.25)
    right.set_title("XOR: regions of an MLP")
    for axis in (middle, right):
        for k in (0, 1):
            axis.scatter(*POINTS[k == XOR].T, s=60, color=f"C{k}", edgecolor="k", zorder=3, label=f"class {k}")
        axis.set(xlabel="x₁", ylabel="x₂", xlim=(-0.5, 1.5), ylim=(-0.5, 1.5), aspect="equal")
    right.legend(fontsize=8, loc="upper right")
    return figure


if __name__ == "__main__":
    run.main()
