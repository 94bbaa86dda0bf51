"""The curves, the gap around the step, the initial weights, the loss of the family and its predictions."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.function_fit import FAMILIES, GAP, WIDTHS, Config, better_half, build, curves, data, pieces, steps_to
from jaxdl.nn import MLP


def config(**flags):
    return Config(**{"copies": 2, "batch_size": 31, "progress": False, **flags})


def test_curves():
    x = np.linspace(-1, 1, 401)
    y = curves(x, seed=3)
    np.testing.assert_allclose(y[:, 0], np.sin(np.pi * x))
    assert set(y[x != 0, 1]) == {-1.0, 1.0}
    assert 0.9 < np.abs(y[:, 2]).max() <= 1.01
    assert not np.allclose(y[:, 2], curves(x, seed=4)[:, 2])


def test_only_the_step_has_a_gap():
    counted, x = (data(config()).test.arrays[name] for name in ("counted", "x"))
    assert counted[:, [0, 2]].all()
    distance = np.abs(x[:, 0]) - GAP
    clear = np.abs(distance) > 1e-5  # rounding decides about its ends
    np.testing.assert_array_equal(counted[clear, 1] == 0, distance[clear] < 0)


def test_noise_is_in_the_training_targets_alone():
    one, other = data(config(family="depths", seed=1)), data(config(family="depths", seed=2))
    exact = lambda part: np.sin(4 * np.pi * part.arrays["x"])
    noise = one.train.arrays["y"] - exact(one.train)
    assert 0.05 < noise.std() < 0.15
    assert not np.allclose(noise, other.train.arrays["y"] - exact(other.train))
    np.testing.assert_allclose(one.test.arrays["y"], exact(one.test), atol=1e-5)


@pytest.mark.claims
def test_the_loss_of_a_family_is_that_of_its_members():
    """A loop over the members, each an MLP of its own; their initial weights are He-uniform, and differ."""
    points = data(config())
    experiment = build(config(), points)
    state, batch = experiment.init(jax.random.key(0)), points.train.batch(0, 0)
    params, total, means = state.learner.params, 0.0, []
    names = sorted(params, key=lambda name: int(name.rpartition("_")[2]))
    for name, features in zip(names, FAMILIES["widths"], strict=True):
        kernel = np.asarray(params[name]["Dense_0"]["kernel"])
        assert np.abs(kernel).max() <= 6**0.5  # fan-in 1
        assert len(np.unique(kernel)) == kernel.size
        errors = []
        for i in range(3 * 2):
            own = jax.tree.map(lambda leaf, i=i: leaf[i], params[name])
            fitted = MLP(features).apply({"params": own}, batch["x"])[:, 0]
            errors.append((fitted - batch["y"][:, i // 2]) ** 2 * batch["counted"][:, i // 2])
        total += np.sum(np.mean(errors, 1))
        means.append(np.mean(errors))
    _, metrics = jax.jit(experiment.step)(state, batch)
    assert float(metrics["loss"]) == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose([metrics[f"mse_{n}"] for n in WIDTHS], means, rtol=1e-5)


def test_the_better_half_is_chosen_by_training_losses():
    train, test = np.array([[4.0, 1.0, 3.0, 2.0, 9.0]]), np.array([[5.0, 2.0, 7.0, 8.0, 6.0]])
    assert better_half(test, train) == pytest.approx([4.0])  # sqrt(2 * 8)
    assert better_half(test[:, :1], train[:, :1]) == pytest.approx([5.0])


def test_pieces_and_steps():
    assert [pieces(depth) for depth in (1, 3)] == [2, 8]
    curve = lambda name: ([20, 40, 60], {"train/mse_3": [0.5, 0.1, 0.09], "train/mse_8": [0.5, 0.5, 0.4]}[name])
    result = SimpleNamespace(curve=curve)
    assert steps_to(result, 3, 60) == 60
    assert steps_to(result, 8, 77) == 77
