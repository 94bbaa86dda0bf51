"""A judge has the probabilities and the last hidden features of its classifier."""

import jax
import numpy as np
import optax
import pytest

from jaxdl.core import Experiment
from jaxdl.losses import softmax_cross_entropy
from jaxdl.methods import frechet_of, judge
from jaxdl.nn import MLP
from jaxdl.supervision import supervised


def test_probabilities_and_features_are_the_classifiers():
    x = np.random.default_rng(0).uniform(size=(11, 5, 3, 1)).astype(np.float32)
    batch = {"x": x, "y": np.zeros(11, np.int32)}
    experiment = supervised(
        MLP((7, 2)), optax.sgd(0.1), example=batch, inputs=lambda batch: (2 * batch["x"] - 1,), predict=jax.nn.softmax,
        loss=lambda logits, batch: softmax_cross_entropy(logits, batch["y"]),
    )  # fmt: skip
    state = experiment.init(jax.random.key(0))
    ours, p = judge(experiment, state, 0.9), jax.device_get(state.learner.params)
    hidden = np.maximum((2 * x - 1).reshape(11, -1) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"], 0)
    np.testing.assert_allclose(jax.jit(ours.features)(x), hidden, atol=1e-6)
    logits = hidden @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]
    np.testing.assert_allclose(jax.jit(ours.probabilities)(x), jax.nn.softmax(logits), atol=1e-6)
    assert ours.accuracy == 0.9
    with pytest.raises(ValueError, match=r"experiment\.predict"):
        judge(Experiment(experiment.init, experiment.step), state, 0.9)


def test_frechet_distance_of_features_by_hand():
    """In one dimension: (m1 - m2)^2 + (s1 - s2)^2."""
    a, b = np.array([[0.0], [2.0]]), np.array([[5.0], [9.0]])
    assert frechet_of(a, b) == pytest.approx((1 - 7) ** 2 + (np.sqrt(2) - np.sqrt(8)) ** 2, rel=1e-5)
    assert frechet_of(a, a) == pytest.approx(0, abs=1e-6)
