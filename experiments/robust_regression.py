"""Outliers: what squared error, absolute error and Huber's loss make of them, on a constant and on a line.

    L2 = mean r^2,  L1 = mean |r|,  Huber = mean of r^2 / 2 up to |r| = 1 and of |r| - 1/2 beyond;  r = w x + b - y

The models of one picture are trained side by side, each on its own loss, by full-batch Nesterov steps whose rate falls
to 0, because L1's gradient does not.

    python -m experiments.robust_regression

Mission rows D03 and D04. Huber 1964, Robust estimation of a location parameter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import linear_regression
from experiments.linear_regression import LOSSES, draw, line, weights
from jaxdl import run
from jaxdl.core import Experiment
from jaxdl.data import Batches
from jaxdl.run import Bound, Claim, flag

SMALL: dict[str, Any] = {}  # where the tests check the claims: the defaults take a second


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment."""

    valid_fraction: float = flag(0.0, "nothing is chosen here, so nothing is held out", group="data", low=0, high=0)
    steps: int | None = 2000
    batch_size: int = 100
    optimizer: str = "nesterov"
    learning_rate: float = 0.1
    schedule: str = "cosine"
    log_every: int = 20
    devices: int = 1


def points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The notes' x and y [100, 1], the five y of largest x 20 too low, and which these are."""
    x, y = line()
    wrong = x >= np.sort(x, axis=0)[-5]
    return x, np.where(wrong, y - 20, y), wrong


def data(config: Config) -> tuple[Batches, None, None]:
    """The points, once for each loss."""
    x, y, _ = points()
    return Batches({"x": x, "y": np.tile(y, len(LOSSES))}, config.batch_size), None, None


def build(config: Config, example: dict[str, Any], names: Sequence[str] = tuple(LOSSES)) -> Experiment:
    """Lines side by side, y [B, K] on x [B, 1], the k-th trained on the loss names[k]."""
    return linear_regression.build(config, example, names)


def main(config: Config) -> list[Claim]:
    """Trains, draws and reports."""
    config = config.resolve(data(config)[0])
    return [constants(config), lines(config)]


def constants(config: Config) -> Claim:
    """Fits of a constant, which is a line over inputs that are all 0, without and with an outlier."""
    values = np.random.RandomState(config.seed).exponential(size=25)
    wrong = np.append(values[:-1], 100.0)
    train = Batches({"x": np.zeros((25, 1)), "y": np.stack([values, wrong, values, wrong], -1)}, 25)
    fit = run.fit(build(config, train.example, ("L2", "L2", "L1", "L1")), train, None, config, name="constants")
    found = np.asarray(weights(fit.state))[1]
    known = np.array([np.mean(values), np.mean(wrong), np.median(values), np.median(wrong)])
    text = "the constant of least L2 is the mean, of least L1 the median, to 1e-3; one outlier in 25 moves that less"
    show = "L2 {:.4f}, with outlier {:.4f}; L1 {:.4f}, with outlier {:.4f}".format
    bounds = (
        Bound(np.abs(found - known).max(), "<", 1e-3, "distance from mean and median"),
        Bound(abs(found[3] - found[2]) - abs(found[1] - found[0]), "<", 0.0, "median moved less than the mean"),
    )
    holds = all(bound.holds for bound in bounds)
    return Claim("D03", text, show(*found), show(*known), "np.mean, np.median", holds, bounds=bounds)


def lines(config: Config) -> Claim:
    """L2, L1 and Huber on the notes' points, five of them wrong."""
    from sklearn.linear_model import HuberRegressor, LinearRegression, QuantileRegressor

    (x, y), (_, spoilt, wrong), (train, *_) = line(), points(), data(config)
    fit = run.fit(build(config, train.example), train, None, config, name="lines")
    found = np.asarray(weights(fit.state))
    labelled = {f"{name}: {b:.2f} {w:+.2f}x": (w, b) for name, (w, b) in zip(LOSSES, found.T, strict=True)}
    labelled["truth: 4.00 +3.00x"] = (3.0, 4.0)
    run.save_figure(config, "outliers", lambda: draw(spoilt, wrong, labelled))

    peers = LinearRegression(), QuantileRegressor(alpha=0), HuberRegressor(alpha=0)
    slope = lambda peer, rows: float(peer.fit(x, np.where(rows, y - 20, y)[:, 0]).coef_[0])
    known = np.array([slope(peer, wrong) for peer in peers])
    draws = [np.random.RandomState(seed).permutation(100)[:, None] < 5 for seed in range(100)]
    further = sum(abs(slope(peers[0], rows) - 3) > abs(slope(peers[1], rows) - 3) for rows in draws)
    text = (
        "5 of the 100 points, those of largest x, 20 too low: L2's slope is further from 3 than L1's and Huber's; "
        "L2's and L1's are scikit-learn's to 0.01"
    )
    show = "L2 {:.3f}, L1 {:.3f}, Huber {:.3f}".format
    measured = f"{show(*found[0])}; further than L1's in {further} of 100 draws of 5 other points (scikit-learn)"
    source = "scikit-learn's LinearRegression, QuantileRegressor, HuberRegressor (with a delta of its own)"
    off = np.abs(found[0] - 3)
    bounds = (
        Bound(off[0] - off[1], ">", 0.0, "L2 further than L1"),
        Bound(off[0] - off[2], ">", 0.0, "L2 further than Huber"),
        Bound(np.abs(found[0] - known)[:2].max(), "<", 0.01, "distance from scikit-learn"),
    )
    return Claim("D04", text, measured, show(*known), source, all(bound.holds for bound in bounds), bounds=bounds)


if __name__ == "__main__":
    run.main(Config, main)
