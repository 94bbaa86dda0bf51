"""The errors of one held-out part and of K-fold cross-validation, as estimates of the accuracy on all other rows."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.cross_validation.samples import SIZES, build, drawn, samples
from jaxdl import run
from jaxdl.data import Batches, Data
from jaxdl.run import Quantity


class Estimates(NamedTuple):
    """Accuracies by sample size and split: in each fold [sizes, splits, folds], and of the same models on the rest."""

    folds: np.ndarray
    rest: np.ndarray

    def errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns estimates minus the truth of each split: of single folds, and of the mean over folds."""
        return self.folds - self.rest, (self.folds - self.rest).mean(-1)


def estimates(config: Any, x: np.ndarray, y: np.ndarray, fit: run.Result) -> Estimates:
    """Scores each member on its fold and on the rows outside of its sample."""
    rows = samples(config, y)
    part = {"x": x, "y": y[:, None], "mask": np.ones((len(x), rows.train[0].size), np.float32)}
    right = (fit.predict(Batches(part, 1797)) == y[:, None]).reshape(rows.test.shape)
    share = lambda where: (right & where).sum(0) / where.sum(0)
    return Estimates(share(rows.test), share(rows.rest[..., :1].repeat(config.folds, -1)))


def root_mean_square(x: np.ndarray, axis: Any = None) -> Any:
    """Returns sqrt(mean x^2)."""
    return np.sqrt(np.mean(np.square(x), axis))


def variance(config: Any, found: Sequence[Estimates], data: Data) -> run.Finding:
    """Compares the spread and the error of both estimates at --sample rows, and times the family."""
    i = SIZES.index(1)
    single, both = [e.folds[i].std(0, ddof=1) for e in found], [e.folds[i].mean(-1).std(ddof=1) for e in found]
    errors = [[root_mean_square(one[i]) for one in e.errors()] for e in found]
    truth, held_out = np.mean([e.rest[i].mean() for e in found]), config.sample // config.folds
    alone, together = step_times(config, data)
    return run.measured(
        "variance",
        Quantity("spread of the K-fold estimate / of one part", [b / root_mean_square(s) for s, b in
                 zip(single, both, strict=True)], "<", 0.8, "times"),
        Quantity("error of the K-fold estimate / of one part", [k / s for s, k in errors], "<", 0.8, "times"),
        Quantity("error of one part", [100 * s for s, _ in errors], unit="points"),
        Quantity("error of the K-fold estimate", [100 * k for _, k in errors], unit="points"),
        Quantity("time of a step of all models one after another / at once", alone / together, unit="times"),
        reference={f"points, standard error of {held_out} rows": 100 * np.sqrt(truth * (1 - truth) / held_out)},
    )  # fmt: skip


def step_times(config: Any, data: Data) -> tuple[float, float]:
    """Returns the seconds of one step of all models, one after another on their own rows alone, and at once."""
    batch = data.example

    def seconds(rows: Any) -> float:
        experiment = build(config, Data(example=rows, facts=data.facts))
        return run.benchmark(
            lambda s, b: experiment.step(s, b), experiment.init(jax.random.key(0)), rows, repeats=3
        ).seconds

    def alone(size: float) -> float:
        n = int(size * config.sample * (1 - 1 / config.folds))
        return seconds({"x": batch["x"][:n], "y": batch["y"][:n], "mask": batch["mask"][:n, :1]})

    return config.splits * config.folds * sum(map(alone, SIZES)), seconds(batch)


def large(config: Any, found: Sequence[Estimates]) -> run.Finding:
    """Measures the error of one held-out part for each size, and extends it to the notes' ten thousand rows."""
    errors = np.array([root_mean_square(e.errors()[0], (1, 2)) for e in found])  # [seeds, sizes]
    sizes = np.array([int(size * config.sample) for size in SIZES])
    slopes, starts = np.polynomial.polynomial.polyfit(np.log(sizes), np.log(errors).T, 1)[::-1]
    named = [Quantity(f"error from {n} rows", 100 * e, unit="points") for n, e in zip(sizes, errors.T, strict=True)]
    return run.measured(
        "large",
        *named,
        Quantity(f"error from {sizes[-1]} / from {sizes[0]} rows", errors[:, -1] / errors[:, 0], "<", 0.7, "times"),
        Quantity("exponent of n in the error", slopes),
        Quantity("extended to 10,000 rows", 100 * np.exp(starts + slopes * np.log(1e4)), unit="points"),
        reference={"exponent for independent rows": -0.5},
    )


def peer(config: Any, x: np.ndarray, y: np.ndarray, found: Estimates) -> run.Finding:
    """Fits scikit-learn's models to the first sample of --sample rows, on the same folds and with the same penalty."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    i = SIZES.index(1)
    rows = drawn(config, len(y))[: config.sample]
    same = StratifiedKFold(config.folds, shuffle=True, random_state=0)
    n = config.sample * (1 - 1 / config.folds)  # its objective is a sum over rows
    linear = LogisticRegression(C=1 / (max(config.penalty, 1e-9) * n), max_iter=500)
    network = MLPClassifier((32,), learning_rate_init=0.01, max_iter=40, tol=0.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = [cross_val_score(model, x[rows], y[rows], cv=same) for model in (linear, network)]
    ours = found.folds[i, 0]
    return run.measured(
        "peer",
        Quantity("mean accuracy on the folds", ours.mean()),
        Quantity("mean difference on a fold", 100 * np.abs(ours - scores[0]).mean(), "<", 2.0, "points"),
        Quantity("standard deviation over the folds", ours.std(ddof=1)),
        reference={"LogisticRegression": scores[0].mean(), "MLPClassifier, 32 units": scores[1].mean()},
    )
