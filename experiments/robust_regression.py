"""Outliers: what squared error, absolute error and Huber's loss make of them, on a constant and on a line.

    L2 = mean r^2,  L1 = mean |r|,  Huber = mean of r^2 / 2 up to |r| = 1 and of |r| - 1/2 beyond;  r = w x + b - y

The models of one picture are trained side by side, each on its own loss, by full-batch Nesterov steps whose rate falls
to 0, because L1's gradient does not.

    python -m experiments.robust_regression

Huber 1964, Robust estimation of a location parameter.
"""

from collections.abc import Iterator

import numpy as np

from experiments import linear_regression
from jaxdl import run
from jaxdl.core import Experiment
from jaxdl.data import Batches, Data, noisy_line
from jaxdl.run import Claim, Quantity, flag, pictures

FAMILY = "foundations"
FIGURE = "outliers"  # the one that the results page shows
CLAIMS = {
    "constant": Claim("least L2 makes a constant the mean, least L1 the median, which an outlier moves less", "D03"),
    "line": Claim("a few points far too low turn L2's line further away than L1's and Huber's; L2's and L1's slopes "
                  "are scikit-learn's", "D04", headline=True),
}  # fmt: skip
LOSSES, CONSTANTS = ("L2", "L1", "Huber"), ("L2", "L2", "L1", "L1")
SMALL: dict[str, object] = {}  # where the tests check the claims: the defaults take a second


class Config(run.RunConfig):
    """Flags of this experiment."""

    valid_fraction: float = flag(
        0.0, "nothing is chosen here, so nothing is held out", group="data", minimum=0, maximum=0
    )
    steps: int | None = 2000
    batch_size: int = 100
    optimizer: str = "nesterov"
    learning_rate: float = 0.1
    schedule: str = "cosine"
    log_every: int = 20
    devices: int = 1


def points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The notes' x and y [100, 1], the five y of largest x 20 too low, and which these are."""
    x, y = noisy_line()
    wrong = x >= np.sort(x, axis=0)[-5]
    return x, np.where(wrong, y - 20, y), wrong


def data(config: Config) -> Data:
    """The points, once for each loss."""
    x, y, _ = points()
    return Data(Batches({"x": x, "y": np.tile(y, len(LOSSES))}, config.batch_size))


def build(config: Config, data: Data) -> Experiment:
    """Lines side by side, y [B, K] on x [B, 1], one for each loss."""
    return linear_regression.build(config, data, names_of(data))


def names_of(data: Data) -> tuple[str, ...]:
    """The losses of the lines, or of the constants with and without an outlier."""
    return LOSSES if data.example["y"].shape[-1] == len(LOSSES) else CONSTANTS


def inference(config: Config, data: Data) -> run.Inference:
    """y for numbers x, by each loss."""
    return run.of_numbers(data, [f"{name} {i + 1}" for i, name in enumerate(names_of(data))])


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Constants, which are lines over inputs that are all 0, and lines."""
    yield constants(config)
    yield lines(config, data)


def weights(result: run.Result) -> np.ndarray:
    """Slopes and intercepts [2, K] of the lines of a fit."""
    layer = result.state.learner.params["Dense_0"]
    return np.vstack([layer["kernel"], layer["bias"]])


def constants(config: Config) -> run.Finding:
    """L2 and L1 on 25 values, and on the same with an outlier."""
    values = np.random.RandomState(config.seed).exponential(size=25)
    wrong = np.append(values[:-1], 100.0)
    columns = Data(Batches({"x": np.zeros((25, 1)), "y": np.stack([values, wrong, values, wrong], -1)}, 25))
    experiment = build(config, columns)
    found = weights(run.fit(experiment, columns, config, name="constants"))[1]
    known = np.array([np.mean(values), np.mean(wrong), np.median(values), np.median(wrong)])
    return run.measured(
        "constant",
        Quantity("distance from mean and median", np.abs(found - known).max(), "<", 1e-3),
        Quantity("L1's shift over L2's", abs(found[3] - found[2]) / abs(found[1] - found[0]), "<", 1.0),
        *(
            Quantity(name, value)
            for name, value in zip(("L2", "with outlier", "L1", "with outlier"), found, strict=True)
        ),
        reference={"np.mean": known[0], "np.median": known[2]},
    )


def lines(config: Config, data: Data) -> run.Finding:
    """L2, L1 and Huber on the notes' points, five of them wrong."""
    from sklearn.linear_model import HuberRegressor, LinearRegression, QuantileRegressor

    (x, y), (_, spoilt, wrong) = noisy_line(), points()
    found = weights(run.fit(build(config, data), data, config, name="lines"))
    labelled = {f"{name}: {b:.2f} {w:+.2f}x": (w, b) for name, (w, b) in zip(LOSSES, found.T, strict=True)}
    title = "y = 4 + 3x + noise, 5% outliers"
    labelled["truth: 4.00 +3.00x"] = (3.0, 4.0)
    run.save_figure(config, "outliers", lambda: pictures.lines(x, spoilt, wrong, labelled, title))

    peers = LinearRegression(), QuantileRegressor(alpha=0), HuberRegressor(alpha=0)  # the last with a delta of its own
    slope = lambda peer, rows: float(peer.fit(x, np.where(rows, y - 20, y)[:, 0]).coef_[0])
    known = {f"scikit-learn's {type(peer).__name__}": slope(peer, wrong) for peer in peers}
    draws = [np.random.RandomState(seed).permutation(100)[:, None] < 5 for seed in range(100)]
    further = sum(abs(slope(peers[0], rows) - 3) > abs(slope(peers[1], rows) - 3) for rows in draws)
    off = np.abs(found[0] - 3)
    return run.measured(
        "line",
        *(Quantity(f"{name}'s slope", value) for name, value in zip(LOSSES, found[0], strict=True)),
        Quantity("L2 further from 3 than L1 by", off[0] - off[1], ">", 0.0),
        Quantity("than Huber by", off[0] - off[2], ">", 0.0),
        Quantity("from scikit-learn's", np.abs(found[0] - [*known.values()])[:2].max(), "<", 0.01),
        Quantity("draws of 100 of five other points in which scikit-learn's L2 is further than its L1", further),
        reference=known,
    )


if __name__ == "__main__":
    run.main()
