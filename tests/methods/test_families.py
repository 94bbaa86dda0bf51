"""A family against its members trained alone, against scikit-learn, and its invalid arguments."""

import jax
import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression

from jaxdl.methods import family

rng = np.random.default_rng(0)
X = rng.normal(size=(53, 7)).astype(np.float32)
Y = rng.integers(3, size=(53, 2)).astype(np.int32)
MASK = (rng.random((53, 4)) < 0.6).astype(np.float32)
TX = optax.sgd(0.3, momentum=0.9, nesterov=True)
RATES, PENALTIES = [1.0, 0.5], [0.1, 0.01]


def trained(experiment, batch, steps=11):
    state = jax.jit(experiment.init)(jax.random.key(0))
    step = jax.jit(experiment.step)
    for _ in range(steps):
        state, metrics = step(state, batch)
    return state, metrics


def test_members_are_those_trained_alone():
    whole = {"x": X, "y": Y, "mask": MASK}
    state, _ = trained(family(TX, whole, 3, RATES, PENALTIES), whole)
    kernel = np.asarray(state.learner.params["kernel"]).reshape(7, 4, 3)
    for f in range(4):
        rows = MASK[:, f] > 0
        one = {"x": X[rows], "y": Y[rows, f // 2, None], "mask": np.ones((rows.sum(), 1), np.float32)}
        alone, _ = trained(family(TX, one, 3, [RATES[f % 2]], [PENALTIES[f % 2]]), one)
        np.testing.assert_allclose(kernel[:, f], alone.learner.params["kernel"], rtol=1e-4, atol=1e-6)


def test_a_rate_is_a_factor_of_the_learning_rate():
    batch = {"x": X, "y": Y[:, :1], "mask": MASK[:, :1]}
    half, _ = trained(family(TX, batch, 3, [0.5], [0.1]), batch)
    other, _ = trained(family(optax.sgd(0.15, momentum=0.9, nesterov=True), batch, 3, [1.0], [0.1]), batch)
    np.testing.assert_allclose(half.learner.params["kernel"], other.learner.params["kernel"], rtol=1e-4, atol=1e-6)


def test_the_minimum_and_its_scores_are_scikit_learns():
    batch = {"x": X, "y": Y[:, :1], "mask": MASK[:, :2]}
    experiment = family(TX, batch, 3, [1.0], [0.05])
    state, metrics = trained(experiment, batch, 300)
    kernels, found = state.learner.params["kernel"].reshape(7, 2, 3), experiment.predict(state, batch)
    sums = experiment.evaluate(state, batch)
    right = 0
    for f in range(2):
        rows = MASK[:, f] > 0
        peer = LogisticRegression(C=1 / (0.05 * rows.sum()), tol=1e-8, max_iter=1000).fit(X[rows], Y[rows, 0])
        np.testing.assert_allclose(kernels[:, f], peer.coef_.T, atol=2e-3)
        np.testing.assert_array_equal(found[:, f], peer.predict(X))
        right += peer.score(X[rows], Y[rows, 0]) * rows.sum()
    assert float(sums["accuracy"].sum) == pytest.approx(right)
    assert float(sums["accuracy"].weight) == MASK[:, :2].sum()
    assert float(metrics["loss"]) == pytest.approx(float(sums["loss"].sum / sums["loss"].weight), rel=0.1)


def test_rows_of_weight_0_and_members_without_rows_change_nothing():
    mask = np.stack([np.ones(53), np.arange(53) < 31, np.zeros(53)], 1).astype(np.float32)
    batch = {"x": X, "y": Y[:, :1], "mask": mask}
    other = batch | {"x": np.where(np.arange(53)[:, None] < 31, X, X + 1)}
    experiment = family(TX, batch, 3, [1.0], [0.0])
    one, two = (np.asarray(trained(experiment, b)[0].learner.params["kernel"]).reshape(7, 3, 3) for b in (batch, other))
    np.testing.assert_array_equal(one[:, 1], two[:, 1])
    assert (one[:, 0] != two[:, 0]).any()
    assert not one[:, 2].any()


@pytest.mark.parametrize(("rates", "penalties"), [([1.0] * 3, [0.0] * 3), ([1.0, 1.0], [0.0])])
def test_numbers_that_do_not_fit(rates, penalties):
    with pytest.raises(ValueError, match=r"^family: 4 members, 2 columns"):
        family(TX, {"x": X, "y": Y, "mask": MASK}, 3, rates, penalties)


def test_labels_that_do_not_fit():
    with pytest.raises(ValueError, match=r"3 columns"):
        family(TX, {"x": X, "y": np.repeat(Y, 3, 1)[:, :3], "mask": MASK}, 3, [1.0], [0.0])
