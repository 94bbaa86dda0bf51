"""Other people's models on the rows that ours are trained and scored on: scikit-learn's, by name."""

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

    # The columns that a text becomes add up to 1. In float32 that is seen as a direction of its own, but for rounding,
    # and a line as steep there as it likes misses new rows by any amount.
    return make_pipeline(FunctionTransformer(np.float64), LinearRegression())


def _regression_trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(random_state=seed)


CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "logistic regression": _linear, "SVC": _svc, "boosted trees": _trees,
}  # fmt: skip
REGRESSORS: dict[str, Callable[[int], Any]] = {
    "least squares": _least_squares,
    "boosted trees": _regression_trees,
}
Part = Mapping[str, np.ndarray]


def classifiers(
    train: Part, test: Part, models: Sequence[str] = ("logistic regression",), *, seed: int = 0, most: float = 2e6
) -> dict[str, float]:
    """Test accuracy in 0..1 of classifiers of x [N, ...], pixels or numbers, and y, int [N] or one-hot [N, K].

    Args:
      train: x and y to fit.
      test: x and y to score.
      models: names among CLASSIFIERS.
      seed: of those that draw.
      most: numbers in the training part's x above which nothing is fitted: an SVC on 10,000 CIFAR images takes minutes.

    Returns:
      {"scikit-learn's NAME, same rows": accuracy}.
    """
    if train["x"].size > most:
        return {}
    x, test_x = (pixels01(part["x"]).reshape(len(part["x"]), -1) for part in (train, test))
    y, test_y = (part["y"].argmax(-1) if part["y"].ndim > 1 else part["y"] for part in (train, test))
    return {_told(name): float(CLASSIFIERS[name](seed).fit(x, y).score(test_x, test_y)) for name in models}


def regressors(
    train: Part,
    test: Part,
    models: Sequence[str] = ("least squares",),
    *,
    seed: int = 0,
    units: Callable[[np.ndarray], np.ndarray] = lambda y: y,
) -> dict[str, tuple[float, float]]:
    """(root of the mean squared error, R^2) on the test rows of regressions of y [N, 1] on x [N, D].

    Args:
      train: x and y to fit.
      test: x and y to score.
      models: names among REGRESSORS.
      seed: of those that draw.
      units: y -> the numbers in which is scored.

    Returns:
      {"scikit-learn's NAME, same rows": (rmse, R^2)}.
    """
    truth, scores = units(test["y"][:, 0].astype(np.float64)), {}
    for name in models:
        model = REGRESSORS[name](seed).fit(train["x"], train["y"][:, 0])
        error = float(np.sum((units(model.predict(test["x"])) - truth) ** 2))
        r2 = r_squared(error, float(truth.sum()), float((truth**2).sum()), len(truth))
        scores[_told(name)] = (error / len(truth)) ** 0.5, r2
    return scores


def _told(name: str) -> str:
    return f"scikit-learn's {name}, same rows"
