"""Function fit: ReLU networks as piecewise linear functions, by width and by depth.

A network with one hidden layer of n ReLUs is a piecewise linear function with n bends, so it approximates any curve as
n grows. The experiment writes such sums down for given knots, where the error is known, and trains networks of 1 to 64
units on a sine, a step and a random curve.

Depth multiplies: two units in each of d layers make 2^d pieces, if the weights are chosen. The experiment compares
trained networks of equal size and different depth.

    f(x) = v + sum_k a_k relu(w_k x + b_k)    on equal pieces of length h:  max |f - g| <= h^2 / 8 max |g''|

All networks of a family (seven widths, three curves and several initial weights) are trained at once, by full-batch
Adam. The step is not continuous, so every continuous function is wrong by half its height somewhere near it: errors on
it are measured outside of a gap around it.

    python -m experiments.function_fit
    python -m experiments.function_fit --steps=20000        # longer training: the wide networks gain most

Cybenko 1989 and Leshno et al. 1993 (universal approximation); Telgarsky 2016 (depth), arXiv:1602.04485.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import losses, run
from jaxdl.core import Experiment, Learner
from jaxdl.data import Batches, Data
from jaxdl.methods.piecewise import fold, relu_sum
from jaxdl.nn import MLP
from jaxdl.nn.family import Family
from jaxdl.run import Claim, Quantity, flag, plots
from jaxdl.supervision import Supervised, supervised

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAMILY = "foundations"
FIGURE = "fits"  # shown on the page of results
WIDTHS = (1, 2, 4, 8, 16, 32, 64)
CURVES = ("sine", "step", "random")
FAILED = 0.1  # mean squared error; a constant has 0.5 on the fast sine
GAP = 0.05  # half of the gap around the step
DEPTHS = {1: (102,), 2: (16,) * 2, 3: (11,) * 3, 4: (9,) * 4, 6: (7,) * 6, 8: (6,) * 8}  # of 298 to 321 parameters
FAMILIES: dict[str, tuple[tuple[int, ...], ...]] = {
    "widths": tuple((n, 1) for n in WIDTHS),
    "depths": tuple((*features, 1) for features in DEPTHS.values()),
}
CLAIMS = {
    "sum": Claim("A sum of ReLUs with chosen weights is the piecewise linear function through given points", "E11"),
    "order": Claim("The error of such a sum on a sine falls with the square of its number of pieces, within its bound",
                   "E11"),
    "width": Claim("The largest error of a trained network falls with its width, on a sine, a step and a random curve",
                   "E11", headline=True),
    "layers": Claim("At equal size, the better half of the networks of six layers fits better than that of one layer",
                    "H09"),
    "cost": Claim("With eight layers more of the trainings fail than with one", "H09"),
    "test": Claim("At equal size, this half of the networks of six layers also has a lower test error", "H09"),
    "pieces": Claim("With chosen weights, each further layer of two ReLUs doubles the number of linear pieces", "H09",
                    headline=True),
}  # fmt: skip
SMALL: dict[str, Any] = {"copies": 5}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    family: str | None = flag(None, "train only this family of networks", choices=FAMILIES, shown="both")
    copies: int = flag(6, "networks of each width and curve, with other initial weights; twice as many of each depth",
                       minimum=1)  # fmt: skip
    noise: float = flag(0.1, "standard deviation of the noise in the targets of the family of depths", minimum=0)
    valid_fraction: float = run.no_validation("nothing is chosen, and the test points lie between the training points")
    steps: int | None = 2000
    batch_size: int = 128
    learning_rate: float = 0.01
    schedule: str = "cosine"
    log_every: int = 20
    tensorboard: bool = False
    devices: int = 1


def curves(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns sine, step and random curve at x in [-1, 1]: [n] -> [n, 3]; each within about -1 to 1."""
    random = np.random.default_rng((seed, 1))
    k = np.arange(1, 6)
    a, phase = random.normal(size=5) / k**0.5, random.uniform(0, 2 * np.pi, 5)
    shape = lambda x: np.cos(np.pi * x[:, None] * k / 2 + phase) @ a
    scale = np.abs(shape(np.linspace(-1, 1, 1001))).max()
    return np.stack([np.sin(np.pi * x), np.sign(x), shape(x) / scale], -1)


def data(config: Config) -> Data:
    """Returns the points of the family: for widths a dense grid, for depths noisy points of a fast sine.

    counted [n, 3]: 0 in the gap around the step.
    """
    rows = {"x": np.linspace(-1, 1, config.batch_size)}
    tests = {"x": np.linspace(-1, 1, 2001)}
    random = np.random.default_rng((config.seed, 2))
    for part in (rows, tests):
        if config.family == "depths":
            part["y"] = np.sin(4 * np.pi * part["x"])[:, None]
            part["counted"] = np.ones((len(part["x"]), 1))
        else:
            part["y"] = curves(part["x"])
            part["counted"] = 1.0 - (np.abs(part["x"][:, None]) < GAP) * (np.arange(3) == 1)
        part["x"] = part["x"][:, None]
    if config.family == "depths":
        rows["y"] = rows["y"] + config.noise * random.normal(size=rows["y"].shape)
    return Data(Batches(rows, config.batch_size), test=Batches(tests, 2001))


def build(config: Config, data: Data) -> Experiment:
    """Builds the networks of `--family`, by default widths: A architectures, and copies for each curve."""
    deep, count = config.family == "depths", data.example["y"].shape[-1]
    architectures, names = FAMILIES[config.family or "widths"], list(DEPTHS) if deep else WIDTHS
    copies = config.copies * (2 if deep else 1)

    def errors(outputs: jax.Array, batch: Any) -> jax.Array:
        """[B, A, curves, copies]; 0 in the gap."""
        found = outputs[..., 0].reshape(len(outputs), len(architectures), count, copies)
        y = jnp.broadcast_to(batch["y"][:, None, :, None], found.shape)
        return losses.squared_error(found, y) * batch["counted"][:, None, :, None]

    def each(outputs: jax.Array, batch: Any) -> dict[str, jax.Array]:
        means = errors(outputs, batch).mean((2, 3))
        return {f"mse_{n}": means[:, i] for i, n in enumerate(names)}

    example = {name: data.example[name] for name in ("x", "y")}
    tx = config.make_optimizer(data)
    base = supervised(
        Family(architectures, count * copies),
        tx,
        example=example,
        loss=lambda outputs, batch: errors(outputs, batch).sum((1, 2, 3)),
        metrics=each,
        predict=lambda outputs: outputs[..., 0].reshape(len(outputs), len(architectures), count, copies),
    )
    shapes = jax.eval_shape(base.init, jax.random.key(0)).learner.params

    def init(key: jax.Array) -> Any:
        return Supervised.create(key, learner=Learner.create(drawn(key, shapes), tx), stats={})

    return base._replace(init=init)


def drawn(key: jax.Array, shapes: Any) -> Any:
    """Returns initial weights: kernels He-uniform, biases U(-1, 1) / sqrt(fan_in), which spreads the bends.

    They are slices of one draw, because each of a hundred draws would be compiled for itself, for half a minute.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
    fans = {jax.tree_util.keystr(path[:-1]): leaf.shape[-2] for path, leaf in leaves if path[-1].key == "kernel"}
    sizes = [leaf.size for _, leaf in leaves]
    uniform = jax.random.uniform(key, (sum(sizes),), minval=-1)
    found = []
    for (path, leaf), part in zip(leaves, jnp.split(uniform, np.cumsum(sizes)[:-1]), strict=True):
        gain = 6**0.5 if path[-1].key == "kernel" else 1.0
        found.append(part.reshape(leaf.shape) * gain / fans[jax.tree_util.keystr(path[:-1])] ** 0.5)
    return jax.tree.unflatten(tree, found)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Builds sums of ReLUs, trains networks of seven widths, then networks of equal size and six depths."""
    yield from constructed()
    if config.family != "depths":
        widths = run.fit(build(config, data), data, config, name="widths")
        yield of_widths(config, data, widths)
    if config.family != "widths":
        own = config.replace(family="depths")
        yield from of_depths(own, *trained(own))


def trained(config: Config) -> tuple[Data, run.Result]:
    """Trains the family of depths on its own data."""
    points = data(config)
    return points, run.fit(build(config, points), points, config, name="depths")


def constructed() -> Iterator[run.Finding]:
    """Compares sums of ReLUs with interpolation, and counts the pieces of networks that fold."""
    x = np.linspace(-1, 1, 4001)

    def relu(p: Any, x: np.ndarray) -> np.ndarray:
        hidden = np.maximum(x[:, None] @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"], 0)
        return np.asarray(hidden @ p["Dense_1"]["kernel"][:, 0] + p["Dense_1"]["bias"])

    random = np.random.default_rng(0)
    knots = np.sort(random.uniform(-1, 1, 30))
    knots[[0, -1]] = -1, 1
    values = random.normal(size=30)
    params = relu_sum(knots, values)
    network = np.asarray(MLP((29, 1)).apply({"params": jax.tree.map(jnp.float32, params)}, jnp.float32(x[:, None])))
    line = np.interp(x, knots, values)
    yield run.measured(
        "sum",
        Quantity("largest difference from interpolation", np.abs(relu(params, x) - line).max(), "<", 1e-9),
        Quantity("largest difference of the network in float32", np.abs(network[:, 0] - line).max(), "<", 1e-3),
    )
    counts = 2 ** np.arange(2, 8)
    sine = lambda x: np.sin(np.pi * x)
    even = [np.linspace(-1, 1, n + 1) for n in counts]
    errors = np.array([np.abs(relu(relu_sum(knots, sine(knots)), x) - sine(x)).max() for knots in even])
    bounds = (2 / counts) ** 2 / 8 * np.pi**2
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    yield run.measured(
        "order",
        Quantity("largest error / bound", np.max(errors / bounds), "<=", 1.0),
        Quantity("slope of log error over log pieces", slope, "<", -1.8),
        Quantity("largest error with 4 pieces", errors[0]),
        Quantity("largest error with 128 pieces", errors[-1]),
    )
    found = [pieces(depth) for depth in range(1, 9)]
    yield run.measured(
        "pieces",
        Quantity("largest |pieces - 2^depth|, depths 1 to 8", np.abs(found - 2 ** np.arange(1, 9)).max(), "==", 0),
        Quantity("pieces of 8 layers of two units", found[-1]),
        Quantity("pieces of one layer of 16 units, at most", 17),
    )


def pieces(depth: int) -> int:
    """Counts the linear pieces of the sawtooth of `fold` on 0..1: one more than its slope changes sign."""
    y = (np.arange(2**12)[:, None] + 0.3) / 2**12  # no two points are symmetric to a bend
    for i, layer in enumerate(fold(depth).values()):
        y = (np.maximum(y, 0) if i else y) @ layer["kernel"] + layer["bias"]
    rises = np.diff(y[:, 0]) > 0
    return 1 + int(np.sum(rises[1:] != rises[:-1]))


def of_widths(config: Config, data: Data, result: run.Result) -> run.Finding:
    """Measures the largest error on a dense grid, by width and curve, as the geometric mean over the copies."""
    test = data.test.arrays
    gaps = [np.abs(one.predict(data.test) - test["y"][:, None, :, None]) for one in result.runs]
    worst = np.array([(gap * test["counted"][:, None, :, None]).max(0) for gap in gaps])  # [seeds, A, 3, copies]
    typical = np.exp(np.log(worst).mean(-1))  # [seeds, A, 3]
    best = squares(result.runs[0], data.train).mean(0).argmin(-1)
    run.save_figure(config, "fits", lambda: picture(data, result.predict(data.test), best, typical[0]))
    falls = typical[:, 3::3] / typical[:, :-3:3]  # 8 / 1, 64 / 8 units
    quantities = [
        Quantity(
            f"{curve}: larger ratio of the errors, 8 / 1 and 64 / 8 units", falls[:, :, i].max(1), "<", 1.0, "times"
        )
        for i, curve in enumerate(CURVES)
    ]
    quantities += [
        Quantity(f"{curve}: error with {n} units", typical[:, WIDTHS.index(n), i])
        for i, curve in enumerate(CURVES) for n in (1, 8, 64)
    ]  # fmt: skip
    return run.measured("width", *quantities)


def squares(result: run.Result, part: Batches) -> np.ndarray:
    """Returns squared errors [n, A, curves, copies], 0 in the gap."""
    arrays = part.arrays
    return (result.predict(part) - arrays["y"][:, None, :, None]) ** 2 * arrays["counted"][:, None, :, None]


def of_depths(config: Config, data: Data, result: run.Result) -> Iterator[run.Finding]:
    """Measures by depth the errors of the half with the lower training losses, failed trainings, and steps.

    About a third of the trainings of six layers fail: the better half is what they reach if not.
    """
    runs = result.runs
    train, test = (
        np.array([squares(one, part).mean(0)[:, 0] for one in result.runs]) for part in (data.train, data.test)
    )
    named = {d: f"{d} layer{'s' * (d > 1)}" for d in DEPTHS}
    for claim, kind, values in (("layers", "training", train), ("test", "test", test)):
        by = dict(zip(DEPTHS, better_half(values, train).T, strict=True))
        ratio = Quantity(f"{kind} MSE, 6 layers / 1 layer", by[6] / by[1], "<", 1.0, "times")
        yield run.measured(claim, ratio, *(Quantity(f"{kind} MSE, {named[d]}", by[d]) for d in DEPTHS))
    failed = dict(zip(DEPTHS, (train > FAILED).mean(-1).T, strict=True))
    yield run.measured(
        "cost",
        Quantity("share of failed trainings, 8 layers - 1 layer", failed[8] - failed[1], ">", 0.0),
        *(Quantity(f"share of failed trainings, {named[d]}", failed[d]) for d in DEPTHS),
        *(Quantity(f"steps to a mean MSE of {FAILED}, {named[d]}", [steps_to(one, d, config.steps) for one in runs])
          for d in DEPTHS),
    )  # fmt: skip
    run.save_figure(config, "depths", lambda: by_depth(data, result, train[0]))


def better_half(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Returns the geometric mean of values [..., copies] over the half of the copies with the lower training losses."""
    order = train.argsort(-1)[..., : max(1, train.shape[-1] // 2)]
    return np.asarray(np.exp(np.log(np.take_along_axis(values, order, -1)).mean(-1)))


def steps_to(result: run.Result, depth: int, most: int | None) -> int:
    """Returns the first logged step at which the mean training loss of a depth is below FAILED; `most` if never."""
    steps, values = result.curve(f"train/mse_{depth}")
    return next((step for step, value in zip(steps, values, strict=True) if value < FAILED), most or 0)


def by_depth(data: Data, result: run.Result, train: np.ndarray) -> "Figure":
    """Draws fits of one, four and eight layers, and the training losses of all copies by depth."""
    figure, axes = plots.new_figure(12, 3.4, 1, 4)
    x, fitted = data.test.arrays["x"][:, 0], result.predict(data.test)[:, :, 0]
    for axis, d in zip(axes, (1, 6, 8), strict=False):
        a = list(DEPTHS).index(d)
        axis.plot(*(data.train.arrays[name][:, 0] for name in "xy"), ".", color="C1", markersize=3, label="data")
        for i in np.argsort(train[a]):
            axis.plot(x, fitted[:, a, i], color="C0", linewidth=0.9, alpha=0.6)
        axis.set(title=f"{d} layer{'s' * (d > 1)} of {DEPTHS[d][0]} units", xlabel="x", ylim=(-1.6, 1.6))
    axes[0].legend(fontsize=8, loc="upper left")
    for i, each in enumerate(train):
        axes[3].plot(np.full(len(each), i), each, "o", color="C0", markersize=4, alpha=0.5)
    axes[3].plot(range(len(train)), better_half(train, train), "k_", markersize=16, label="better half")
    axes[3].set(yscale="log", title="training loss, equal size", xlabel="hidden layers")
    axes[3].set_xticks(range(len(DEPTHS)), list(map(str, DEPTHS)))
    axes[3].axhline(FAILED, color="0.6", linestyle="--", linewidth=1)
    axes[3].legend(fontsize=8)
    axes[3].grid(alpha=0.25)
    return figure


def picture(data: Data, fitted: np.ndarray, chosen: np.ndarray, errors: np.ndarray) -> "Figure":
    """Draws the curves with fits of four widths, and the largest error over the width."""
    figure, axes = plots.new_figure(12, 3.6, 1, 4)
    test = data.test.arrays
    x, y = test["x"][:, 0], test["y"]
    for i, (axis, curve) in enumerate(zip(axes, CURVES, strict=False)):
        axis.plot(x, y[:, i], color="C1", linewidth=4, alpha=0.5, label="curve")
        for n, colour in {1: "#9ecae1", 4: "#6baed6", 16: "#2171b5", 64: "#08306b"}.items():
            a = WIDTHS.index(n)
            axis.plot(x, fitted[:, a, i, chosen[a, i]], color=colour, linewidth=1.2, label=f"{n} unit{'s' * (n > 1)}")
        axis.set(title=curve, xlabel="x", ylim=(-1.5, 1.5))
        if curve == "step":
            axis.axvspan(-GAP, GAP, color="0.9", zorder=0)
    axes[0].legend(fontsize=7, loc="upper left")
    for i, curve in enumerate(CURVES):
        axes[3].plot(WIDTHS, errors[:, i], marker="o", markersize=4, label=curve)
    axes[3].set(title="largest error", xlabel="units", xscale="log", yscale="log")
    axes[3].set_xticks(WIDTHS, list(map(str, WIDTHS)))
    axes[3].minorticks_off()
    axes[3].legend(fontsize=8)
    axes[3].grid(alpha=0.25)
    return figure


if __name__ == "__main__":
    run.main()
