"""Linear regression by gradient descent: the notes' line y = 4 + 3x + noise and a real table, beside least squares.

    L = mean (w.x + b - y)^2;  w <- w - rate dL/dw
    H = 2 [mean x^2, mean x; mean x, 1], L's Hessian on a line: t steps leave (I - rate H)^t of the error

`--steps` and the optimiser's flags are those of the notes' fit; the other fits are brought to their minimum.

    python -m experiments.linear_regression                                        # no files needed
    python -m experiments.linear_regression --dataset=california_housing --data_dir=DATA

Legendre 1805 (least squares).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxdl import losses, metrics, run
from jaxdl.core import Experiment
from jaxdl.data import Batches, Data, column_scales, load_table, noisy_line, split, standardize
from jaxdl.methods import baselines, torch_losses
from jaxdl.nn import INITIALIZERS, MLP
from jaxdl.run import Claim, Quantity, flag, pictures
from jaxdl.run.command.flags import flags_of
from jaxdl.supervision import supervised

FAMILY = "foundations"
FIGURE = "fit"  # the one that the results page shows
LOSSES = {"L2": losses.squared_error, "L1": losses.absolute_error, "Huber": losses.huber}
REGRESSION_TABLES = ("diabetes", "california_housing", "bike_sharing")
EPOCHS = 1000  # of the notes
CLAIMS = {
    "by_hand": Claim("the parameters are those of a training loop written out in NumPy, float64, step by step", "B08"),
    "hessian": Claim("the distance to the least-squares line falls as the loss's Hessian says", "H01 D02"),
    "script": Claim("from the same weights the losses are those of the notes' PyTorch script, all epochs", "H01 S01",
                    headline=True, needs="extra:peers"),
    "all_rows": Claim("on all rows of a table gradient descent explains as much as least squares do", "A02"),
    "held_out": Claim("on rows held out its error is that of least squares", "A02", headline=True),
}  # fmt: skip
SMALL = {"steps": 2500}  # where the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment; the defaults are the notes' settings, but for the number of steps."""

    dataset: str = flag("diabetes", "real table; the others are files in --data_dir", choices=REGRESSION_TABLES)
    valid_fraction: float = flag(
        0.0, "nothing is chosen here, so nothing is held out", group="data", minimum=0, maximum=0
    )
    steps: int | None = 3000
    batch_size: int = 100
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    log_every: int = 1
    tensorboard: bool = False
    devices: int = 1  # eight do not divide 100 points, and two parameters gain nothing


def data(config: Config) -> Data:
    """The notes' points, all 100 a batch unless --batch_size says otherwise; none of them are held out."""
    x, y = noisy_line()
    return Data(Batches({"x": x, "y": y}, config.batch_size))


def build(config: run.RunConfig, data: Data, names: Sequence[str] = ("L2",)) -> Experiment:
    """Linear regression of y [B, K] on x [B, D]: K models side by side, the k-th trained on the loss names[k]."""
    model = MLP((len(names),), **INITIALIZERS["torch_linear"])  # of one input: U(-1, 1), as nn.Linear(1, 1)

    def loss(outputs: jax.Array, batch: Any) -> Any:
        return sum(LOSSES[name](outputs[:, k], batch["y"][:, k]) for k, name in enumerate(names))

    return supervised(model, config.make_optimizer(data), example=data.example, loss=loss)


def inference(config: run.RunConfig, data: Data) -> run.Inference:
    """y for numbers x; the columns of a table in its own units."""
    return run.of_numbers(data, ("y",), data.facts.get("scales"))


def weights(state: Any) -> Any:
    """[D + 1, K]: the rows are w_1 ... w_D and b."""
    layer = state.learner.params["Dense_0"]
    return jax.numpy.vstack([layer["kernel"], layer["bias"][None]])


def by_hand(x: np.ndarray, y: np.ndarray, start: np.ndarray, rate: float, steps: int) -> np.ndarray:
    """The training loop written out in NumPy, float64: slope and intercept after each step, [steps, 2]."""
    (w, b), path = start, []
    for _ in range(steps):
        error = w * x + b - y  # forward; the loss is mean(error^2)
        dw, db = np.mean(2 * error * x), np.mean(2 * error)  # backward: the chain rule
        w, b = w - rate * dw, b - rate * db  # update
        path.append((w, b))
    return np.array(path)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """The notes' line, then a real table."""
    yield from on_a_line(config, data)
    yield from on_a_table(config)


def on_a_line(config: Config, data: Data) -> Iterator[run.Finding]:
    """The notes' fit beside NumPy's, the normal equations and PyTorch."""
    (x, y), experiment, rate = noisy_line(), build(config, data), config.learning_rate

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        state, scalars = experiment.step(state, batch)
        (slope,), (intercept,) = weights(state)
        return state, scalars | {"slope": slope, "intercept": intercept}

    result = run.fit(experiment._replace(step=step), data, config, name="line")
    path = np.stack([result.curve("train/slope")[1], result.curve("train/intercept")[1]], -1)
    solution = np.linalg.lstsq(np.hstack([x, np.ones_like(x)]), y)[0][:, 0]
    lines = {f"after {t:,} epochs": path[t - 1] for t in (10, 100, EPOCHS) if t <= len(path)}
    lines |= {"least squares": solution}
    none, title = np.zeros_like(x, bool), "y = 4 + 3x + noise"
    run.save_figure(config, "fit", lambda: pictures.lines(x, y, none, lines, title))
    if len(path) < EPOCHS or config.log_every > 1:
        return

    start = np.asarray(weights(experiment.init(jax.random.key(config.seed))), np.float64)[:, 0]
    hand = by_hand(x, y, start, rate, len(path))
    gap = np.maximum.accumulate(np.abs(path - hand).max(-1) / np.abs(hand).max(-1))
    within = Quantity("relative distance within 100 steps", gap[99], "<", 1e-6)
    yield run.measured("by_hand", Quantity("within 1 step", gap[0]), within, Quantity("at the end", gap[-1]))

    hessian = 2 * np.array([[np.mean(x**2), np.mean(x)], [np.mean(x), 1]])
    values, vectors = np.linalg.eigh(hessian)
    powers = (1 - rate * values) ** np.arange(1, len(path) + 1)[:, None]
    distance = np.abs(path - solution).max(-1)
    said = np.abs(powers * ((start - solution) @ vectors) @ vectors.T).max(-1)
    reached = lambda d: 1 + int(np.argmax(d < 1e-3)) if d.min() < 1e-3 else len(path)
    yield run.measured(
        "hessian",
        Quantity("distance after 1,000 epochs", distance[EPOCHS - 1]),
        Quantity("from what H says", abs(distance - said)[EPOCHS - 1], "<", 1e-4),
        Quantity("epochs to 1e-3", reached(distance)),
        Quantity("from what H says", abs(reached(distance) - reached(said)), "<=", 20, "epochs"),
        reference={"H's larger eigenvalue": values[1], "H's smaller one": values[0]},
    )
    try:
        squared = lambda torch, parameters, x, y: torch.nn.MSELoss()(parameters[0] * x + parameters[1], y)
        peer = torch_losses(start, squared, [(x, y)] * EPOCHS, rate)
    except ImportError:
        return
    history = np.array(result.curve("train/loss")[1][:EPOCHS])
    apart = Quantity("losses apart", np.abs(history - peer).max(), "<", 1e-4)
    yield run.measured("script", Quantity("last loss", history[-1]), apart, reference={"PyTorch": peer[-1]})


def on_a_table(config: Config) -> Iterator[run.Finding]:
    """A real table, once all rows and once with a fifth held out, beside scikit-learn on the same rows."""
    table = load_table(config.dataset, config.data_dir)
    run.log(table.note)
    every = {"x": table.x.astype(np.float64), "y": table.y[:, None]}
    # brought to the minimum: all rows a batch, a rate that falls to 0 because L1's gradient does not
    optimiser = {f.name: f.default for f in flags_of(Config) if f.rule.group == "optimiser"}
    optimiser |= {"optimizer": "nesterov", "learning_rate": 0.1, "schedule": "cosine"}
    own = config.replace(steps=2000, epochs=None, log_every=20, init=None, init_skip=None, **optimiser)
    for name, (train, test) in {"all_rows": (every, every), "held_out": split(every, 0.2, config.seed)}.items():
        (x, test_x), (y, test_y) = (standardize(train[key], test[key]) for key in ("x", "y"))
        scales = {f"{key}_{kind}": values.tolist() for key in ("x", "y")
                  for kind, values in zip(("mean", "deviation"), column_scales(train[key]), strict=True)}  # fmt: skip
        rows, test_rows = Batches({"x": x, "y": y}, len(x)), Batches({"x": test_x, "y": test_y}, len(x))
        parts = Data(rows, test=test_rows, facts={"scales": scales})
        mse = run.fit(build(own, parts), parts, own, name=f"table_{name}").metrics["loss"]
        r2 = metrics.r_squared(len(test_y) * mse, test_y.sum(), (test_y**2).sum(), len(test_y))
        ((source, (known, known_r2)),) = baselines.regressors({"x": x, "y": y}, {"x": test_x, "y": test_y}).items()
        kept = {
            "all_rows": Quantity("R^2 apart", abs(r2 - known_r2), "<", 1e-4),
            "held_out": Quantity("RMSE beside scikit-learn's", mse**0.5 / known, "<=", 1.001, "times"),
        }[name]
        rmse = Quantity("RMSE", mse**0.5 * float(train["y"].std()))
        yield run.measured(name, Quantity("R^2", r2), rmse, kept, reference={f"R^2, {source}": known_r2})


if __name__ == "__main__":
    run.main()
