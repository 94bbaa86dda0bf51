"""Baselines: scikit-learn models fitted and scored on the rows of an experiment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl.data import pixels01
from jaxdl.metrics import r_squared


def _linear(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _svc(seed: int) -> Any:
    from sklearn.svm import SVC

    return SVC(C=10.0)


def _trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed)


def _least_squares(seed: int) -> Any:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    # One-hot columns sum to 1. In float32 rounding makes them look independent, and least squares finds an arbitrarily
    # large slope in this direction, with arbitrarily large errors on new rows.
    return make_pipeline(FunctionTransformer(np.float64), LinearRegression())


def _regression_trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(random_state=seed)


CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "logistic regression": _linear, "SVC": _svc, "boosted trees": _trees,
}  # fmt: skip
"""Classifiers by name, seed -> scikit-learn model."""
REGRESSORS: dict[str, Callable[[int], Any]] = {
    "least squares": _least_squares,
    "boosted trees": _regression_trees,
}
"""Regressors by name, seed -> scikit-learn model."""
Part = Mapping[str, np.ndarray]


def classifiers(
    train: Part, test: Part, models: Sequence[str] = ("logistic regression",), *, seed: int = 0, most: float = 2e6
) -> dict[str, float]:
    """Fits scikit-learn classifiers and returns their test accuracies.

    Args:
      train: {"x", "y"} to fit: x [N, ...], pixels (scaled to [0, 1]) or numbers; y integers [N] or one-hot [N, K].
      test: {"x", "y"} to score.
      models: names in CLASSIFIERS.
      seed: random seed of the models that use one.
      most: largest number of entries of train["x"] for which models are fitted; an SVC on 10,000 CIFAR images takes
        minutes.

    Returns:
      {"scikit-learn's NAME, same rows": accuracy in [0, 1]}; {} if train["x"] has more than `most` entries.

    Raises:
      KeyError: if a name is not in CLASSIFIERS.
    """
    if train["x"].size > most:
        return {}
    x, test_x = (pixels01(part["x"]).reshape(len(part["x"]), -1) for part in (train, test))
    y, test_y = (part["y"].argmax(-1) if part["y"].ndim > 1 else part["y"] for part in (train, test))
    return {_label(name): float(CLASSIFIERS[name](seed).fit(x, y).score(test_x, test_y)) for name in models}


def regressors(
    train: Part,
    test: Part,
    models: Sequence[str] = ("least squares",),
    *,
    seed: int = 0,
    units: Callable[[np.ndarray], np.ndarray] = lambda y: y,
) -> dict[str, tuple[float, float]]:
    """Fits scikit-learn regressors and returns their root mean squared errors and R^2 on the test rows.

    Args:
      train: {"x", "y"} to fit: x [N, D], y [N, 1], float.
      test: {"x", "y"} to score.
      models: names in REGRESSORS.
      seed: random seed of the models that use one.
      units: maps targets and predictions to the units in which they are scored.

    Returns:
      {"scikit-learn's NAME, same rows": (rmse in these units, R^2)}.

    Raises:
      KeyError: if a name is not in REGRESSORS.
    """
    truth, scores = units(test["y"][:, 0].astype(np.float64)), {}
    for name in models:
        model = REGRESSORS[name](seed).fit(train["x"], train["y"][:, 0])
        error = float(np.sum((units(model.predict(test["x"])) - truth) ** 2))
        r2 = r_squared(error, float(truth.sum()), float((truth**2).sum()), len(truth))
        scores[_label(name)] = (error / len(truth)) ** 0.5, r2
    return scores


def _label(name: str) -> str:
    return f"scikit-learn's {name}, same rows"
