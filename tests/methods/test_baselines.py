"""The baselines have the scores that scikit-learn computes."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.svm import SVC

from jaxdl.methods import baselines

RNG = np.random.default_rng(0)
W = RNG.normal(size=(35, 3))


def part(n):
    x = RNG.integers(0, 256, (n, 7, 5, 1)).astype(np.uint8)
    return {"x": x, "y": (x.reshape(n, -1) / 255 @ W).argmax(-1)}


def test_classifiers_scale_pixels_and_accept_both_kinds_of_labels():
    train, test = part(97), part(53)
    flat = lambda one: one["x"].reshape(len(one["x"]), -1) / np.float32(255)
    expected = SVC(C=10.0).fit(flat(train), train["y"]).score(flat(test), test["y"])
    found = baselines.classifiers(train, test, ("SVC", "logistic regression", "boosted trees"))
    assert found["scikit-learn's SVC, same rows"] == expected
    assert list(found) == [
        f"scikit-learn's {name}, same rows" for name in ("SVC", "logistic regression", "boosted trees")
    ]
    one_hot = [one | {"y": np.eye(3)[one["y"]]} for one in (train, test)]
    assert baselines.classifiers(*one_hot, ("SVC",)) == {"scikit-learn's SVC, same rows": expected}
    assert baselines.classifiers(train, test, most=97 * 35 - 1) == {}


@pytest.mark.claims
def test_regressors_against_scikit_learns_scores():
    x, test_x = RNG.normal(size=(97, 5)), RNG.normal(size=(53, 5))
    y, test_y = (np.sin(a[:, :1]) + a[:, 1:2] + 11 for a in (x, test_x))
    found = baselines.regressors(
        {"x": x, "y": y}, {"x": test_x, "y": test_y}, ("least squares", "boosted trees"), seed=3
    )
    for scores, model in zip(
        found.values(), (LinearRegression(), HistGradientBoostingRegressor(random_state=3)), strict=True
    ):
        predictions = model.fit(x, y[:, 0]).predict(test_x)
        assert scores == pytest.approx((root_mean_squared_error(test_y, predictions), r2_score(test_y, predictions)))


def test_least_squares_with_dependent_columns():
    """One-hot columns sum to 1 up to float32 rounding; the fit equals that without one of them."""
    rng = np.random.default_rng(0)
    kinds = rng.geometric(0.3, (997, 23)).clip(max=11) - 1
    one_hot = np.eye(11)[kinds]  # [997, 23, 11]
    x = one_hot.reshape(997, -1)
    scaled = ((x - x[:499].mean(0)) / np.maximum(x[:499].std(0), 1e-2)).astype(np.float32)
    y = (kinds[:, :1] + rng.normal(size=(997, 1))).astype(np.float32)
    train, test = ({"x": scaled[rows], "y": y[rows]} for rows in (slice(499), slice(499, None)))
    ((rmse, r2),) = baselines.regressors(train, test).values()
    independent = one_hot[:, :, 1:].reshape(997, -1)
    predictions = LinearRegression().fit(independent[:499], y[:499, 0].astype(float)).predict(independent[499:])
    assert rmse == pytest.approx(root_mean_squared_error(y[499:], predictions), rel=1e-5)
    assert r2 == pytest.approx(r2_score(y[499:], predictions), rel=1e-4)


def test_least_squares_with_independent_columns_is_scikit_learns():
    x = RNG.normal(size=(97, 11)) * np.logspace(-1, 2, 11) + 7
    x[:, 4] += 100 * x[:, 3]
    y = RNG.normal(size=97)
    ours = baselines.REGRESSORS["least squares"](0).fit(x, y).predict(x)
    np.testing.assert_allclose(ours, LinearRegression().fit(x, y).predict(x), rtol=0, atol=1e-6)


def test_scores_in_other_units():
    x, y = RNG.normal(size=(97, 3)), RNG.normal(size=(97, 1))
    ((rmse, r2),) = baselines.regressors({"x": x, "y": y}, {"x": x, "y": y}, units=np.exp).values()
    predictions = np.exp(LinearRegression().fit(x, y[:, 0]).predict(x))
    assert (rmse, r2) == pytest.approx(
        (root_mean_squared_error(np.exp(y), predictions), r2_score(np.exp(y), predictions))
    )
