"""Robust regression: squared error, absolute error and Huber's loss in the presence of outliers.

The loss decides what a model estimates: squared error the mean, absolute error the median. The experiment fits a
constant and a line to data with outliers, shows how far each loss is pulled away from the truth, and compares the
results with scikit-learn's.

    L2 = mean r^2,  L1 = mean |r|,  Huber = mean of r^2 / 2 for |r| <= 1 and |r| - 1/2 above;  r = w x + b - y

All models of one plot are trained at once, each on its own loss, by full-batch Nesterov steps. The learning rate
falls to 0, since the gradient of L1 does not vanish at the minimum.

    python -m experiments.robust_regression
    python -m experiments.robust_regression --seeds=1 --workdir=RUN

Huber 1964, Robust estimation of a location parameter.
"""

from collections.abc import Iterator

import numpy as np

from experiments import linear_regression
from jaxdl import run
from jaxdl.core import Experiment
from jaxdl.data import Batches, Data, noisy_line
from jaxdl.run import Claim, Quantity, pictures

FAMILY = "foundations"
FIGURE = "outliers"  # shown on the page of results
CLAIMS = {
    "constant": Claim("L2 estimates the mean, L1 the median, which an outlier moves less", "D03"),
    "line": Claim("Outliers distort a line fitted with L2 more than lines fitted with L1 or Huber's loss", "D04",
                  headline=True),
}  # fmt: skip
LOSSES, CONSTANTS = ("L2", "L1", "Huber"), ("L2", "L2", "L1", "L1")
SMALL: dict[str, object] = {"seeds": 1}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    valid_fraction: float = run.no_validation("no choice depends on validation data here")
    seeds: int = 3
    steps: int | None = 2000
    batch_size: int = 100
    optimizer: str = "nesterov"
    learning_rate: float = 0.1
    schedule: str = "cosine"
    log_every: int = 20
    devices: int = 1


def points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the notes' x and y [100, 1], with 20 subtracted from y at the five largest x, and a mask of these."""
    x, y = noisy_line()
    wrong = x >= np.sort(x, axis=0)[-5]
    return x, np.where(wrong, y - 20, y), wrong


def data(config: Config) -> Data:
    """Returns the points, with one column of y per loss."""
    x, y, _ = points()
    return Data(Batches({"x": x, "y": np.tile(y, len(LOSSES))}, config.batch_size))


def build(config: Config, data: Data) -> Experiment:
    """Builds one line per loss, y [B, K] on x [B, 1]."""
    return linear_regression.build(config, data, names_of(data))


def names_of(data: Data) -> tuple[str, ...]:
    """Returns the losses of the lines, or of the constants with and without an outlier."""
    return LOSSES if data.example["y"].shape[-1] == len(LOSSES) else CONSTANTS


def inference(config: Config, data: Data) -> run.Inference:
    """Predicts y for numbers x, once per loss."""
    return run.of_numbers(data, [f"{name} {i + 1}" for i, name in enumerate(names_of(data))])


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Fits constants, as lines over inputs that are all 0, and lines."""
    yield constants(config)
    yield lines(config, data)


def weights(result: run.Result) -> np.ndarray:
    """Returns slopes and intercepts [2, seeds, K] of the lines of a fit."""
    layers = [one.state.learner.params["Dense_0"] for one in result.runs]
    return np.stack([np.vstack([layer["kernel"], layer["bias"]]) for layer in layers], 1)


def constants(config: Config) -> run.Finding:
    """Fits L2 and L1 to 25 values, and to the same values with one outlier."""
    values = np.random.RandomState(config.seed).exponential(size=25)
    wrong = np.append(values[:-1], 100.0)
    columns = Data(Batches({"x": np.zeros((25, 1)), "y": np.stack([values, wrong, values, wrong], -1)}, 25))
    experiment = build(config, columns)
    found = weights(run.fit(experiment, columns, config, name="constants"))[1]
    known = np.array([np.mean(values), np.mean(wrong), np.median(values), np.median(wrong)])
    names = "L2 estimate", "L2 estimate with outlier", "L1 estimate", "L1 estimate with outlier"
    return run.measured(
        "constant",
        Quantity("distance from mean and median", np.abs(found - known).max(1), "<", 1e-3),
        Quantity(
            "shift by the outlier, L1 / L2",
            np.abs(found[:, 3] - found[:, 2]) / np.abs(found[:, 1] - found[:, 0]), "<", 1.0,
        ),
        *(Quantity(name, value) for name, value in zip(names, found.T, strict=True)),
        reference={"np.mean": known[0], "np.median": known[2]},
    )  # fmt: skip


def lines(config: Config, data: Data) -> run.Finding:
    """Fits L2, L1 and Huber to the notes' points, of which five are outliers."""
    from sklearn.linear_model import HuberRegressor, LinearRegression, QuantileRegressor

    (x, y), (_, spoilt, wrong) = noisy_line(), points()
    found = weights(run.fit(build(config, data), data, config, name="lines"))
    labelled = {f"{name}: {b:.2f} {w:+.2f}x": (w, b) for name, (w, b) in zip(LOSSES, found[:, 0].T, strict=True)}
    title = "Lines fitted to data with 5% outliers"
    labelled["truth: 4.00 +3.00x"] = (3.0, 4.0)
    run.save_figure(config, "outliers", lambda: pictures.lines(x, spoilt, wrong, labelled, title))

    peers = LinearRegression(), QuantileRegressor(alpha=0), HuberRegressor(alpha=0)  # the last estimates its own delta
    slope = lambda peer, rows: float(peer.fit(x, np.where(rows, y - 20, y)[:, 0]).coef_[0])
    known = {f"slope, scikit-learn's {type(peer).__name__}": slope(peer, wrong) for peer in peers}
    slopes = np.array([*known.values()])
    draws = [np.random.RandomState(seed).permutation(100)[:, None] < 5 for seed in range(100)]
    further = sum(abs(slope(peers[0], rows) - 3) > abs(slope(peers[1], rows) - 3) for rows in draws)
    off = np.abs(found[0] - 3)  # [seeds, 3]
    return run.measured(
        "line",
        *(Quantity(f"slope, {name}", value) for name, value in zip(LOSSES, found[0].T, strict=True)),
        Quantity("error of the slope, L2 - L1", off[:, 0] - off[:, 1], ">", 0.0),
        Quantity("error of the slope, L2 - Huber", off[:, 0] - off[:, 2], ">", 0.0),
        Quantity("L1 and L2, difference from scikit-learn", np.abs(found[0] - slopes)[:, :2].max(1), "<", 0.01),
        Quantity("L2 worse than L1, of 100 other draws of outliers (scikit-learn)", further),
        reference=known,
    )


if __name__ == "__main__":
    run.main()
