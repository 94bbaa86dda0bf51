"""scikit-learn's models on the same rows: the scores that scikit-learn itself gives."""

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


def test_classifiers_see_pixels_in_0_to_1_and_take_either_kind_of_label():
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


def test_regressors_beside_scikit_learns_own_scores():
    x, test_x = RNG.normal(size=(97, 5)), RNG.normal(size=(53, 5))
    y, test_y = (np.sin(a[:, :1]) + a[:, 1:2] + 11 for a in (x, test_x))
    found = baselines.regressors(
        {"x": x, "y": y}, {"x": test_x, "y": test_y}, ("least squares", "boosted trees"), seed=3
    )
    for told, model in zip(
        found.values(), (LinearRegression(), HistGradientBoostingRegressor(random_state=3)), strict=True
    ):
        says = model.fit(x, y[:, 0]).predict(test_x)
        assert told == pytest.approx((root_mean_squared_error(test_y, says), r2_score(test_y, says)))
