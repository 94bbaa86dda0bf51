"""Linear regression by gradient descent: the notes' line y = 4 + 3x + noise and a real table, beside least squares.

    L = mean (w.x + b - y)^2;  w <- w - rate dL/dw
    H = 2 [mean x^2, mean x; mean x, 1], L's Hessian on a line: t steps leave (I - rate H)^t of the error

`--steps` and the optimiser's flags are those of the notes' fit; the other fits are brought to their minimum.

    python -m experiments.linear_regression                                        # no files needed
    python -m experiments.linear_regression --table=california_housing --data_dir=DATA

Mission rows A02, B08, D02, H01, S01. Legendre 1805 (least squares).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from experiments._notes_in_torch import line_losses
from jaxdl import losses, metrics, run
from jaxdl.core import Experiment, supervised
from jaxdl.data import Batches, Table, load_table, split, standardize
from jaxdl.nn import INITIALIZERS, MLP
from jaxdl.run import Bound, Claim, flag, plots
from jaxdl.run.flags import flags_of

LOSSES = {"L2": losses.squared_error, "L1": losses.absolute_error, "Huber": losses.huber}
REGRESSION_TABLES = ("diabetes", "california_housing", "bike_sharing")
EPOCHS = 1000  # of the notes
COMMAND = "python -m experiments.linear_regression"
SMALL = {"steps": 2500}  # where the tests check the claims


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment; the defaults are the notes' settings, but for the number of steps."""

    table: str = flag("diabetes", "real table; the others are files in --data_dir", choices=REGRESSION_TABLES)
    valid_fraction: float = flag(0.0, "nothing is chosen here, so nothing is held out", group="data", low=0, high=0)
    steps: int | None = 3000
    batch_size: int = 100
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    log_every: int = 1
    tensorboard: bool = False
    devices: int = 1  # eight do not divide 100 points, and two parameters gain nothing


def line() -> tuple[np.ndarray, np.ndarray]:
    """The notes' points, x and y float64 [100, 1]."""
    random = np.random.RandomState(0)
    x = 2 * random.rand(100, 1)
    return x, 4 + 3 * x + random.randn(100, 1)


def data(config: Config) -> tuple[Batches, None, None]:
    """The notes' points, all 100 a batch unless --batch_size says otherwise; none of them are held out."""
    x, y = line()
    return Batches({"x": x, "y": y}, config.batch_size), None, None


def build(config: run.RunConfig, example: dict[str, Any], names: Sequence[str] = ("L2",)) -> Experiment:
    """Linear regression of y [B, K] on x [B, D]: K models side by side, the k-th trained on the loss names[k]."""
    model = MLP((len(names),), **INITIALIZERS["torch_linear"])  # of one input: U(-1, 1), as nn.Linear(1, 1)

    def loss(outputs: jax.Array, batch: Any) -> Any:
        return sum(LOSSES[name](outputs[:, k], batch["y"][:, k]) for k, name in enumerate(names))

    return supervised(model, config.make_optimizer(), example=example, loss=loss)


def weights(state: Any) -> Any:
    """[D + 1, K]: the rows are w_1 ... w_D and b."""
    layer = state.learner.params["Dense_0"]
    return jax.numpy.vstack([layer["kernel"], layer["bias"][None]])


def solve(config: Config, name: str, arrays: dict[str, Any], names: Sequence[str], test: Any = None) -> run.Result:
    """A fit to the minimum: all rows a batch, a rate that falls to 0 because L1's gradient does not."""
    flags: dict[str, Any] = {f.name: f.default for f in flags_of(Config) if f.rule.group == "optimiser"}
    flags |= {"optimizer": "nesterov", "learning_rate": 0.1, "schedule": "cosine"}
    config = replace(config, steps=2000, epochs=None, log_every=20, **flags)
    train = Batches(arrays, len(arrays["x"]))
    return run.fit(build(config, train.example, names), train, None, config, test=test, name=name)


def by_hand(x: np.ndarray, y: np.ndarray, start: np.ndarray, rate: float, steps: int) -> np.ndarray:
    """The training loop written out in NumPy, float64: slope and intercept after each step, [steps, 2]."""
    (w, b), path = start, []
    for _ in range(steps):
        error = w * x + b - y  # forward; the loss is mean(error^2)
        dw, db = np.mean(2 * error * x), np.mean(2 * error)  # backward: the chain rule
        w, b = w - rate * dw, b - rate * db  # update
        path.append((w, b))
    return np.array(path)


def main(config: Config) -> list[Claim]:
    """Trains, draws and reports."""
    rows = load_table(config.table, config.data_dir)
    run.say(rows.note)
    return [*notes(config), *tables(config, rows)]


def notes(config: Config) -> list[Claim]:
    """The notes' fit beside NumPy's, the normal equations and PyTorch."""
    (x, y), (train, *_) = line(), data(config)
    config = config.resolve(train)
    experiment = build(config, train.example)

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        state, scalars = experiment.step(state, batch)
        (slope,), (intercept,) = weights(state)
        return state, scalars | {"slope": slope, "intercept": intercept}

    result = run.fit(experiment._replace(step=step), train, None, config, name="line")
    path = np.stack([result.curve("train/slope")[1], result.curve("train/intercept")[1]], -1)
    solution = np.linalg.lstsq(np.hstack([x, np.ones_like(x)]), y)[0][:, 0]
    lines = {f"after {t:,} epochs": path[t - 1] for t in (10, 100, EPOCHS) if t <= len(path)}
    lines |= {"least squares": solution}
    run.save_figure(config, "fit", lambda: draw(y, np.zeros_like(x, bool), lines))
    texts = {
        "B08": "steps written out in NumPy, float64, and the framework's: parameters alike to 1e-6 for 100 steps",
        "H01 D02": "1,000 epochs leave to the least-squares line what H says, to 1e-4; 1e-3 takes as many as H says, "
        "to 20",
        "H01 S01": "from the same weights the losses of the notes' PyTorch script, all 1,000 epochs, to 1e-4",
    }
    if len(path) < EPOCHS or config.log_every > 1:
        return [Claim(row, text, "not measured", command=COMMAND) for row, text in texts.items()]

    start = np.asarray(weights(experiment.init(jax.random.key(config.seed))), np.float64)[:, 0]
    hand = by_hand(x, y, start, config.learning_rate, len(path))
    gap = np.maximum.accumulate(np.abs(path - hand).max(-1) / np.abs(hand).max(-1))
    alike = f"relative {gap[0]:.0e} after 1 step, {gap[99]:.0e} after 100, {gap[-1]:.0e} after {len(path):,}"
    hessian = 2 * np.array([[np.mean(x**2), np.mean(x)], [np.mean(x), 1]])
    values, vectors = np.linalg.eigh(hessian)
    powers = (1 - config.learning_rate * values) ** np.arange(1, len(path) + 1)[:, None]
    distance = np.abs(path - solution).max(-1)
    left = np.abs(powers * ((start - solution) @ vectors) @ vectors.T).max(-1)
    within = lambda d: 1 + int(np.argmax(d < 1e-3)) if d.min() < 1e-3 else len(path)
    epochs = lambda d: f"below 1e-3 from epoch {within(d):,}" if d.min() < 1e-3 else "1e-3 not reached"
    tell = lambda d: f"{d[EPOCHS - 1]:.4f}; {epochs(d)}"
    near = Bound(gap[99], "<", 1e-6)
    as_said = (
        Bound(abs(distance[EPOCHS - 1] - left[EPOCHS - 1]), "<", 1e-4, "distance after 1,000 epochs"),
        Bound(abs(within(distance) - within(left)), "<=", 20, "epochs to 1e-3"),
    )
    found, good = f"{tell(distance)}; eigenvalues of H {values.round(3)}", all(bound.holds for bound in as_said)
    known = tell(left), "(I - rate H)^t (start - np.linalg.lstsq)"
    claims = [
        Claim("B08", texts["B08"], alike, holds=near.holds, bounds=(near,)),
        Claim("H01 D02", texts["H01 D02"], found, *known, good, bounds=as_said),
    ]
    try:
        peer = line_losses(x, y, start, config.learning_rate, EPOCHS)
    except ImportError:
        command = f"pip install jaxdl[peers] && {COMMAND}"
        return [*claims, Claim("H01 S01", texts["H01 S01"], "not measured", command=command)]
    history = np.array(result.curve("train/loss")[1][:EPOCHS])
    apart, ends = np.abs(history - peer).max(), "{:.4f} at first, {:.4f} at last".format
    found, known = f"{ends(*history[[0, -1]])}; at most {apart:.0e} apart", (ends(*peer[[0, -1]]), "PyTorch")
    bound = Bound(apart, "<", 1e-4)
    return [*claims, Claim("H01 S01", texts["H01 S01"], found, *known, bound.holds, bounds=(bound,))]


def tables(config: Config, rows: Table) -> list[Claim]:
    """A real table, once all rows and once with a fifth held out, beside scikit-learn on the same rows."""
    from sklearn.linear_model import LinearRegression

    every, claims = {"x": rows.x.astype(np.float64), "y": rows.y[:, None]}, []
    for name, (train, test) in {"all": (every, every), "held_out": split(every, 0.2, config.seed)}.items():
        (x, test_x), (y, test_y) = (standardize(train[key], test[key]) for key in ("x", "y"))
        n, held_out = len(test_y), Batches({"x": test_x, "y": test_y}, len(test_y))
        mse = solve(config, f"table_{name}", {"x": x, "y": y}, ("L2",), held_out).metrics["loss"]
        r2, rmse = metrics.r_squared(n * mse, test_y.sum(), (test_y**2).sum(), n), mse**0.5 * float(train["y"].std())
        peer = LinearRegression().fit(train["x"], train["y"])
        known_r2, error = float(peer.score(test["x"], test["y"])), peer.predict(test["x"]) - test["y"]
        known = float(np.sqrt(np.mean(error**2)))
        text, bound = {
            "all": (f"all {n:,} rows: R^2 is scikit-learn's to 1e-4", Bound(abs(r2 - known_r2), "<", 1e-4)),
            "held_out": (
                f"{n:,} rows held out: RMSE at most 0.1% above scikit-learn's", Bound(rmse / known, "<=", 1.001)
            ),
        }[name]  # fmt: skip
        found, reference = (f"R^2 {a:.5f}, RMSE {b:.6g}" for a, b in ((r2, rmse), (known_r2, known)))
        text = f"{rows.target} in {config.table}, {text}"
        source = "scikit-learn's LinearRegression"
        claims.append(Claim("A02", text, found, reference, source, bound.holds, bounds=(bound,)))
    return claims


def draw(y: np.ndarray, wrong: np.ndarray, lines: dict[str, Any]) -> Any:
    """The notes' x with y, the wrong points marked, and lines {label: (slope, intercept)}, the last one dashed."""
    figure, axis = plots.new_figure(6, 4.2)
    x, ends = line()[0], np.array([0.0, 2.0])
    axis.scatter(x[~wrong], y[~wrong], s=12, color="0.6", label="data")
    if wrong.any():
        axis.scatter(x[wrong], y[wrong], s=40, marker="x", color="k", label="outliers")
    for i, (label, (slope, intercept)) in enumerate(lines.items()):
        style = {"color": "k", "linestyle": "--"} if i == len(lines) - 1 else {}
        axis.plot(ends, slope * ends + intercept, label=label, **style)
    axis.set(xlabel="x", ylabel="y", title="y = 4 + 3x + noise" + ", 5% outliers" * bool(wrong.any()))
    axis.legend()
    return figure


if __name__ == "__main__":
    run.main(Config, main)
