"""Linear regression by gradient descent on the line y = 4 + 3x + noise and on a real table.

The smallest training loop, checked from four sides: against the same loop in NumPy, against PyTorch, against the rate
of convergence that the Hessian predicts, and against least squares. On a real table the same code reaches the solution
of scikit-learn, on all rows and on held-out rows.

    L = mean (w.x + b - y)^2        w <- w - rate dL/dw
    H = 2 [mean x^2, mean x; mean x, 1], the Hessian of L on a line: after t steps the error is (I - rate H)^t times
    the initial one.

--steps and the optimiser's flags apply to the fit of the line; the fits of the table run until they converge.

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
FIGURE = "fit"  # shown on the page of results
LOSSES = {"L2": losses.squared_error, "L1": losses.absolute_error, "Huber": losses.huber}
REGRESSION_TABLES = ("diabetes", "california_housing", "bike_sharing")
EPOCHS = 1000  # as in the notes
CLAIMS = {
    "by_hand": Claim("Every step agrees with a training loop written out in NumPy, float64", "B08"),
    "hessian": Claim("Gradient descent converges at the rate that the Hessian predicts", "H01 D02"),
    "script": Claim("From equal initial weights the losses equal those of the notes' PyTorch script", "H01 S01",
                    headline=True, needs="extra:peers"),
    "all_rows": Claim("Gradient descent reaches the R^2 of least squares on all rows of a table", "A02"),
    "held_out": Claim("Gradient descent has the test error of least squares on held-out rows", "A02", headline=True),
}  # fmt: skip
SMALL = {"steps": 2500, "seeds": 1}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment; the defaults are the notes' settings, except for the number of steps."""

    dataset: str = flag("diabetes", "real table; all but diabetes are read from --data_dir", choices=REGRESSION_TABLES)
    valid_fraction: float = run.no_validation("no choice depends on validation data here")
    seeds: int = 3
    steps: int | None = 3000
    batch_size: int = 100
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    log_every: int = 1
    tensorboard: bool = False
    devices: int = 1  # 100 points are not divisible by eight, and two parameters gain nothing


def data(config: Config) -> Data:
    """Returns the notes' 100 points, by default in one batch; none are held out."""
    x, y = noisy_line()
    return Data(Batches({"x": x, "y": y}, config.batch_size))


def build(config: run.RunConfig, data: Data, names: Sequence[str] = ("L2",)) -> Experiment:
    """Builds K independent linear regressions of y [B, K] on x [B, D], the k-th trained on the loss names[k]."""
    model = MLP((len(names),), **INITIALIZERS["torch_linear"])  # for one input U(-1, 1), as nn.Linear(1, 1)

    def loss(outputs: jax.Array, batch: Any) -> Any:
        return sum(LOSSES[name](outputs[:, k], batch["y"][:, k]) for k, name in enumerate(names))

    return supervised(model, config.make_optimizer(data), example=data.example, loss=loss)


def inference(config: run.RunConfig, data: Data) -> run.Inference:
    """Predicts y for numbers x; columns of a table are in their own units."""
    return run.of_numbers(data, ("y",), data.facts.get("scales"))


def weights(state: Any) -> Any:
    """Returns the parameters [D + 1, K]: rows w_1 ... w_D and b."""
    layer = state.learner.params["Dense_0"]
    return jax.numpy.vstack([layer["kernel"], layer["bias"][None]])


def by_hand(x: np.ndarray, y: np.ndarray, start: np.ndarray, rate: float, steps: int) -> np.ndarray:
    """Runs the training loop in NumPy, float64; returns slope and intercept after each step [steps, 2]."""
    (w, b), path = start, []
    for _ in range(steps):
        error = w * x + b - y  # forward; the loss is mean(error^2)
        dw, db = np.mean(2 * error * x), np.mean(2 * error)  # backward: the chain rule
        w, b = w - rate * dw, b - rate * db  # update
        path.append((w, b))
    return np.array(path)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Fits the notes' line, then a real table."""
    yield from on_a_line(config, data)
    yield from on_a_table(config)


def on_a_line(config: Config, data: Data) -> Iterator[run.Finding]:
    """Compares the fit of the line with NumPy's, with the normal equations and with PyTorch."""
    (x, y), experiment, rate = noisy_line(), build(config, data), config.learning_rate

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        state, scalars = experiment.step(state, batch)
        (slope,), (intercept,) = weights(state)
        return state, scalars | {"slope": slope, "intercept": intercept}

    result = run.fit(experiment._replace(step=step), data, config, name="line")
    paths = [np.stack([one.curve(f"train/{name}")[1] for name in ("slope", "intercept")], -1) for one in result.runs]
    path = paths[0]
    solution = np.linalg.lstsq(np.hstack([x, np.ones_like(x)]), y)[0][:, 0]
    lines = {f"after {t:,} epochs": path[t - 1] for t in (10, 100, EPOCHS) if t <= len(path)}
    lines |= {"least squares": solution}
    none, title = np.zeros_like(x, bool), "Gradient descent on y = 4 + 3x + noise"
    run.save_figure(config, "fit", lambda: pictures.lines(x, y, none, lines, title))
    if len(path) < EPOCHS or config.log_every > 1:
        return

    keys = [jax.random.key(config.seed + i) for i in range(len(paths))]
    starts = [np.asarray(weights(experiment.init(key)), np.float64)[:, 0] for key in keys]
    hands = [by_hand(x, y, start, rate, len(path)) for start in starts]
    gaps = np.array([np.abs(p - h).max(-1) / np.abs(h).max(-1) for p, h in zip(paths, hands, strict=True)])
    gap = np.maximum.accumulate(gaps, 1)  # [seeds, steps]
    yield run.measured(
        "by_hand",
        Quantity("relative difference after 1 step", gap[:, 0]),
        Quantity("within 100 steps", gap[:, 99], "<", 1e-6),
        Quantity("within all steps", gap[:, -1]),
    )

    hessian = 2 * np.array([[np.mean(x**2), np.mean(x)], [np.mean(x), 1]])
    values, vectors = np.linalg.eigh(hessian)
    powers = (1 - rate * values) ** np.arange(1, len(path) + 1)[:, None]
    distance = np.array([np.abs(p - solution).max(-1) for p in paths])  # [seeds, steps]
    predicted = np.array([np.abs(powers * ((s - solution) @ vectors) @ vectors.T).max(-1) for s in starts])
    reached = lambda ds: np.array([1 + int(np.argmax(d < 1e-3)) if d.min() < 1e-3 else len(path) for d in ds])
    yield run.measured(
        "hessian",
        Quantity("distance to the solution after 1,000 epochs", distance[:, EPOCHS - 1]),
        Quantity("difference from the prediction", abs(distance - predicted)[:, EPOCHS - 1], "<", 1e-4),
        Quantity("epochs to a distance of 1e-3", reached(distance)),
        Quantity("difference from the prediction", abs(reached(distance) - reached(predicted)), "<=", 20, "epochs"),
        reference={"larger eigenvalue of H": values[1], "smaller eigenvalue of H": values[0]},
    )
    try:
        squared = lambda torch, parameters, x, y: torch.nn.MSELoss()(parameters[0] * x + parameters[1], y)
        peer = np.array([torch_losses(start, squared, [(x, y)] * EPOCHS, rate) for start in starts])
    except ImportError:
        return
    history = np.array([one.curve("train/loss")[1][:EPOCHS] for one in result.runs])
    difference = Quantity("largest difference of the losses", np.abs(history - peer).max(1), "<", 1e-4)
    last = Quantity("last training loss", history[:, -1])
    yield run.measured("script", last, difference, reference={"last training loss, PyTorch": peer[:, -1]})


def on_a_table(config: Config) -> Iterator[run.Finding]:
    """Fits a real table, once on all rows and once with a fifth held out, and compares with scikit-learn."""
    table = load_table(config.dataset, config.data_dir)
    run.log(table.note)
    every = {"x": table.x.astype(np.float64), "y": table.y[:, None]}
    # converges to the minimum: full batches, and a learning rate that falls to 0
    optimiser = {f.name: f.default for f in flags_of(Config) if f.rule.group == "optimiser"}
    optimiser |= {"optimizer": "nesterov", "learning_rate": 0.1, "schedule": "cosine"}
    own = config.replace(steps=2000, epochs=None, log_every=20, init=None, init_skip=None, **optimiser)
    for name, (train, test) in {"all_rows": (every, every), "held_out": split(every, 0.2, config.seed)}.items():
        (x, test_x), (y, test_y) = (standardize(train[key], test[key]) for key in ("x", "y"))
        scales = {f"{key}_{kind}": values.tolist() for key in ("x", "y")
                  for kind, values in zip(("mean", "deviation"), column_scales(train[key]), strict=True)}  # fmt: skip
        rows, test_rows = Batches({"x": x, "y": y}, len(x)), Batches({"x": test_x, "y": test_y}, len(x))
        parts = Data(rows, test=test_rows, facts={"scales": scales})
        mse = np.array(run.fit(build(own, parts), parts, own, name=f"table_{name}").values("loss"))
        r2 = [metrics.r_squared(len(test_y) * one, test_y.sum(), (test_y**2).sum(), len(test_y)) for one in mse]
        ((source, (known, known_r2)),) = baselines.regressors({"x": x, "y": y}, {"x": test_x, "y": test_y}).items()
        kept = {
            "all_rows": Quantity("difference from least squares' R^2", np.abs(np.subtract(r2, known_r2)), "<", 1e-4),
            "held_out": Quantity("RMSE / least squares' RMSE", mse**0.5 / known, "<=", 1.001, "times"),
        }[name]
        rmse = Quantity("RMSE", mse**0.5 * float(train["y"].std()))
        yield run.measured(name, Quantity("R^2", r2), rmse, kept, reference={f"R^2, {source}": known_r2})


if __name__ == "__main__":
    run.main()
