"""What tabular shows beside its net: scikit-learn's models on the same rows, and where the predictions are."""

from typing import Any

import numpy as np

from jaxdl import metrics, run
from jaxdl.data import Table
from jaxdl.run import plots


def baselines(train: dict[str, np.ndarray], test: dict[str, np.ndarray], scale: float, seed: int) -> dict[str, str]:
    """Scores of a linear model and of boosted trees on the rows that the net was trained and scored on.

    Args:
      train: x [N, D], y [N, K] one-hot or [N, 1] in units of `scale`.
      test: the same.
      scale: one unit of y, in the target's units.
      seed: of the trees.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LinearRegression, LogisticRegression

    models: dict[str, Any]
    if train["y"].shape[1] > 1:
        y, test_y = (part["y"].argmax(1) for part in (train, test))
        models = {
            "logistic regression": LogisticRegression(max_iter=1000),
            "boosted trees": HistGradientBoostingClassifier(random_state=seed),
        }
        return {name: f"{model.fit(train['x'], y).score(test['x'], test_y):.4f}" for name, model in models.items()}
    models = {"least squares": LinearRegression(), "boosted trees": HistGradientBoostingRegressor(random_state=seed)}
    scores, truth = {}, test["y"][:, 0].astype(np.float64)
    for name, model in models.items():
        error = float(np.sum((model.fit(train["x"], train["y"][:, 0]).predict(test["x"]) - truth) ** 2))
        r2 = metrics.r_squared(error, truth.sum(), (truth**2).sum(), len(truth))
        scores[name] = f"RMSE {scale * (error / len(truth)) ** 0.5:.4g} R^2 {r2:.4g}"
    return scores


def draw(config: run.RunConfig, table: Table, y: np.ndarray, outputs: dict[str, np.ndarray], scales: Any) -> None:
    """The confusion matrix, or the predicted numbers over the true ones and their errors."""
    if table.names:
        matrix = metrics.confusion_matrix(y.argmax(-1), outputs["p"].argmax(-1), len(table.names))
        run.save_figure(config, "confusion", lambda: plots.confusion(matrix, table.names))
        return
    truth = y[:, 0] * scales["y_deviation"][0] + scales["y_mean"][0]
    run.save_figure(config, "predictions", lambda: errors_of(truth, outputs["value"], plots.literal(table.target)))


def errors_of(truth: np.ndarray, values: np.ndarray, target: str) -> Any:
    """The predicted numbers over the true ones, and their errors."""
    from matplotlib.ticker import MaxNLocator

    errors = values - truth
    figure, (left, right) = plots.new_figure(9.5, 4.2, 1, 2)
    few = len(truth) < 1000
    left.scatter(truth, values, s=14 if few else 4, alpha=0.7 if few else 0.25, linewidths=0)
    ends = [min(truth.min(), values.min()), max(truth.max(), values.max())]
    left.plot(ends, ends, color="k", linestyle="--", linewidth=1, label="predicted = true")
    left.set(xlabel=f"true {target}", ylabel=f"predicted {target}", title=f"{len(truth):,} test rows")
    left.legend(fontsize=8)
    right.hist(errors, bins=40 if few else 80)
    right.axvline(0, color="k", linestyle="--", linewidth=1)
    title = f"RMSE {np.sqrt(np.mean(errors**2)):,.5g}, median error {np.median(np.abs(errors)):,.5g}"
    for axis in (left.xaxis, right.xaxis):
        axis.set_major_locator(MaxNLocator(5))
    right.set(xlabel=f"predicted - true {target}", ylabel="test rows", title=title)
    return figure
