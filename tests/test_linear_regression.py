"""Compares the fit of the notes' line with their PyTorch script, NumPy and scikit-learn."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.linear_regression import CLAIMS, Config, build, by_hand, data, on_a_line, on_a_table, weights
from jaxdl import run
from jaxdl.data import Data, load_table, noisy_line


def test_points_are_those_of_the_notes():
    np.random.seed(0)
    x = 2 * np.random.rand(100, 1)
    y = 4 + 3 * x + np.random.randn(100, 1)
    np.testing.assert_array_equal(noisy_line()[0], x)
    np.testing.assert_array_equal(noisy_line()[1], y)


@pytest.mark.claims
def test_losses_of_the_notes_script():
    torch = pytest.importorskip("torch")

    class LinearRegressionModel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(1, 1)

        def forward(self, x):
            return self.linear(x)

    config = Config(steps=1000, seeds=1, progress=False)
    parts = data(config)
    experiment = build(config, parts)
    (slope,), (intercept,) = np.asarray(weights(experiment.init(jax.random.key(config.seed))))
    assert abs(slope) <= 1
    assert abs(intercept) <= 1

    x, y = noisy_line()
    x_tensor, y_tensor = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    model = LinearRegressionModel()
    with torch.no_grad():
        model.linear.weight.fill_(float(slope))
        model.linear.bias.fill_(float(intercept))
    criterion = torch.nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    expected = []
    for _ in range(1000):
        model.train()
        loss = criterion(model(x_tensor), y_tensor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())

    result = run.fit(experiment, parts, config)
    assert result.curve("train/loss")[0] == list(range(1, 1001))
    np.testing.assert_allclose(result.curve("train/loss")[1], expected, atol=1e-4, rtol=0)
    final = [model.linear.weight.item(), model.linear.bias.item()]
    np.testing.assert_allclose(np.asarray(weights(result.state))[:, 0], final, atol=1e-5)


def test_step_by_hand():
    # errors -1 and -3: dw = (2 (-1) 1 + 2 (-3) 2) / 2 = -7, db = (-2 - 6) / 2 = -4
    path = by_hand(np.array([1.0, 2.0]), np.array([1.0, 3.0]), np.zeros(2), 0.01, 2)
    np.testing.assert_allclose(path[0], [0.07, 0.04])
    # errors 0.07 + 0.04 - 1 = -0.89 and 0.14 + 0.04 - 3 = -2.82: dw = -6.53, db = -3.71
    np.testing.assert_allclose(path[1], [0.07 + 0.0653, 0.04 + 0.0371])


def test_steps_of_numpy_and_of_the_framework():
    config = Config()
    parts = data(config)
    experiment = build(config, parts)
    state = jax.jit(experiment.init)(jax.random.key(3))
    start = np.asarray(weights(state), np.float64)[:, 0]
    step, path = jax.jit(experiment.step), []
    for t in range(100):
        state, _ = step(state, parts.train.batch(3, t))
        path.append(np.asarray(weights(state))[:, 0])
    expected = by_hand(*noisy_line(), start, 0.01, 100)
    assert np.max(np.abs(path - expected) / np.abs(expected).max(-1, keepdims=True)) < 1e-6


@pytest.mark.claims
def test_models_trained_together_are_independent():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(11, 3)).astype(np.float32), rng.normal(size=(11, 2)).astype(np.float32)
    config = Config(learning_rate=0.1)

    def after(names, start, y):
        experiment = build(config, Data(example={"x": x, "y": y}), names)
        state = jax.jit(experiment.init)(jax.random.key(0))
        params = {"Dense_0": {"kernel": start[:-1], "bias": start[-1]}}
        state = state.replace(learner=state.learner.replace(params=params))
        for _ in range(5):
            state, _ = experiment.step(state, {"x": x, "y": y})
        return np.asarray(weights(state))

    start = rng.normal(size=(4, 2)).astype(np.float32)
    both = after(("L1", "Huber"), start, y)
    np.testing.assert_allclose(both[:, :1], after(("L1",), start[:, :1], y[:, :1]), rtol=1e-6)
    np.testing.assert_allclose(both[:, 1:], after(("Huber",), start[:, 1:], y[:, 1:]), rtol=1e-6)


@pytest.mark.claims
def test_without_pytorch_the_claim_is_not_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    config = Config(steps=1000, seeds=1, progress=False)
    assert {one.name for one in on_a_line(config, data(config))} == {"by_hand", "hessian"}
    assert CLAIMS["script"].needs == "extra:peers"


@pytest.mark.claims
def test_rows_of_the_california_file(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    rows = load_table("california_housing", data_dir)
    assert rows.x.shape == (20640, 13)
    few = rows._replace(x=rows.x[::41], y=rows.y[::41])
    monkeypatch.setattr("experiments.linear_regression.load_table", lambda *_: few)
    found = list(on_a_table(Config(dataset="california_housing", seeds=1, progress=False)))
    assert [one.name for one in found] == ["all_rows", "held_out"]
    assert [one.holds for one in found] == [True, True]
