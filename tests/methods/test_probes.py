"""The probes find what was put into small networks and rows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import lax

from jaxdl import losses, metrics, optim
from jaxdl.data import Batches
from jaxdl.methods import probes
from jaxdl.nn import MLP
from jaxdl.supervision import supervised


def rows(n=53, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 7)).astype(np.float32)
    return {"x": x, "y": (x[:, 0] + x[:, 1] > 0).astype(np.int32)}


def experiment(model, tx=None):
    return supervised(
        model,
        tx or optim.optimizer("sgd", 1.0, peak=0.1),
        example=rows(),
        loss=lambda logits, batch: losses.softmax_cross_entropy(logits, batch["y"]),
        metrics=lambda logits, batch: {"accuracy": metrics.accuracy(logits, batch["y"])},
    )


def looked(model, steps=3, tx=None):
    made = experiment(model, tx)
    start = made.init(jax.random.key(0))
    end, step = start, jax.jit(made.step)
    for _ in range(steps):
        end, _ = step(end, rows())
    return probes.structure(probes.looker(made, jax.jit), start, end, rows()), made, start, end


@pytest.mark.claims
def test_a_look_equals_evaluation_and_its_gradient_a_finite_difference():
    made = experiment(MLP((5, 2)))
    state, part = made.init(jax.random.key(1)), rows()
    found = probes.looker(made)(state, part)
    logits = made.model.apply(state.variables, part["x"])
    loss = lambda w: float(np.mean(losses.softmax_cross_entropy(made.model.apply({"params": w}, part["x"]), part["y"])))
    assert found.metrics["accuracy"] == pytest.approx(np.mean(np.argmax(logits, -1) == part["y"]))
    assert found.metrics["loss"] == pytest.approx(loss(state.learner.params), rel=1e-5)
    moved = jax.tree.map(lambda w, g: w + 1e-2 * g, state.learner.params, found.gradient)
    back = jax.tree.map(lambda w, g: w - 1e-2 * g, state.learner.params, found.gradient)
    slope = (loss(moved) - loss(back)) / 2e-2
    assert slope == pytest.approx(sum(float(np.sum(g**2)) for g in jax.tree.leaves(found.gradient)), rel=1e-2)


def test_padding_changes_no_metric_and_no_gradient():
    made = experiment(MLP((5, 2)))
    state, look = made.init(jax.random.key(1)), probes.looker(made)
    part = rows()
    half = look(state, {name: x[:29] for name, x in part.items()})
    repeated = look(state, {name: np.concatenate([x[:29]] * 2) for name, x in part.items()})
    assert half.metrics == pytest.approx(repeated.metrics, rel=1e-5)
    for one, other in zip(jax.tree.leaves(half.gradient), jax.tree.leaves(repeated.gradient), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert probes.padded(part, 101)["mask"].sum() == 53


def test_a_sound_network_has_no_fault():
    found, *_ = looked(MLP((11, 2), activation=nn.tanh))
    assert (found.equal, found.dead, found.missing) == (0, 0, 0)
    assert 0.05 < found.vanishing <= 1


@pytest.mark.claims
@pytest.mark.parametrize("dead", [3, 7])
def test_the_share_of_dead_units(dead):
    bias = lambda key, shape, dtype=jnp.float32: jnp.where(jnp.arange(shape[0]) < dead, -30.0, 3.0) * (shape[0] == 11)
    found, *_ = looked(MLP((11, 2), bias_init=bias))
    assert found.dead == pytest.approx(dead / 11)
    assert found.missing == 0
    assert found.names["dead"] == ["Dense_0/kernel"] * (dead == 7)


@pytest.mark.claims
def test_a_gradient_that_is_stopped_or_frozen_is_missing():
    stopped = MLP((11, 2), activation=lambda x: lax.stop_gradient(nn.tanh(x)))
    frozen = optim.optimizer("sgd", 1.0, peak=0.1, freeze="Dense_0")
    for found in (looked(stopped)[0], looked(MLP((11, 2), activation=nn.tanh), tx=frozen)[0]):
        assert found.missing == pytest.approx(88 / (88 + 24))
        assert found.names["missing"] == ["Dense_0/bias", "Dense_0/kernel"]
        assert found.dead == 0


@pytest.mark.claims
def test_without_a_step_nothing_is_known_about_missing_gradients():
    found, *_ = looked(MLP((11, 2)), steps=0)
    assert np.isnan(found.missing)
    assert found.names["missing"] == []


@pytest.mark.claims
def test_equal_units_stay_equal():
    found, *_ = looked(MLP((11, 2), kernel_init=nn.initializers.constant(0.1)))
    assert found.names["equal"] == ["Dense_0/kernel"]
    assert found.equal == 0.5


@pytest.mark.claims
def test_sigmoids_make_gradients_vanish():
    found, *_ = looked(MLP((11,) * 6 + (2,), activation=nn.sigmoid))
    assert found.vanishing < 1e-3
    assert found.names["vanishing"] == ["Dense_0/kernel"]


@pytest.mark.claims
def test_a_trial_equals_the_same_steps_by_hand():
    made = experiment(MLP((2,)))
    start, step, part = made.init(jax.random.key(0)), jax.jit(made.step), rows(n=16)
    loss = lambda state: probes.looker(made)(state, part).metrics["loss"]
    slow, fast, wild = probes.trials(step, loss, start, part, [0.1, 1.0, np.inf], steps=5, batch_size=16)
    params = start.learner.params
    grad = jax.jit(
        jax.grad(
            lambda w: jnp.mean(losses.softmax_cross_entropy(made.model.apply({"params": w}, part["x"]), part["y"]))
        )
    )
    for _ in range(5):
        params = optax.apply_updates(params, jax.tree.map(lambda g: -0.1 * g, grad(params)))
    by_hand = losses.softmax_cross_entropy(made.model.apply({"params": params}, part["x"]), part["y"]).mean()
    assert slow == pytest.approx(float(by_hand), rel=1e-5)
    assert fast < slow < loss(start)
    assert wild == np.inf
    at = [probes.trials(step, loss, start, part, [1.0], steps=n, batch_size=16)[0] for n in (7, 9, 10)]
    median = probes.trials(step, loss, start, part, [1.0], steps=10, checks=3, batch_size=16)
    assert median == [pytest.approx(np.median(at))]


def test_labels_equal_scikit_learn_and_shuffled_ones_are_noise():
    part = rows(n=211)
    found = probes.labels(part["x"], part["y"])
    share = part["y"].mean()
    assert found.kind == "classes"
    assert found.chance == pytest.approx(max(share, 1 - share))
    assert found.constant == pytest.approx(-share * np.log(share) - (1 - share) * np.log(1 - share))
    assert found.score > 0.9
    assert found.beyond > 0.8
    random = np.random.default_rng(0)
    kappas = [probes.labels(part["x"], random.permutation(part["y"])) for _ in range(7)]
    assert all(one.beyond < one.noise for one in kappas)
    hot = np.eye(2, dtype=np.float32)[part["y"]]
    assert probes.labels(part["x"], hot) == found


def test_numbers_have_an_r2_and_other_labels_are_none():
    part = rows(n=97)
    y = part["x"] @ np.arange(7.0)
    found = probes.labels(part["x"], y[:, None])
    assert (found.kind, found.chance) == ("numbers", 0)
    assert found.score > 0.9
    assert found.constant == pytest.approx(np.var(y), rel=1e-5)
    assert probes.labels(part["x"], np.zeros((97, 5), np.int32)).kind == ""
    assert probes.labels(part["x"], None).kind == ""
    assert probes.labels(part["x"], np.arange(97)).kind == ""  # names of rows
    assert probes.labels(part["x"], np.where(np.arange(97) == 5, np.nan, y)).kind == ""


def test_scales_and_domains():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(301, 5))
    assert probes.input_scale(x * [1, 1, 1, 1, 40])[0] == pytest.approx(40, rel=0.1)
    assert probes.domain_auc(x[:150], x[150:]) == pytest.approx(0.5, abs=0.12)
    assert probes.domain_auc(x[:150], x[150:] + 2) > 0.9
    assert probes.domain_auc(x[:150], 3 * x[150:]) > 0.85  # equal means
    assert np.isnan(probes.domain_auc(x[:9], x[150:]))  # too few for five folds
    assert np.isnan(probes.labels(x[:9], np.arange(9) % 2).score)
    np.testing.assert_allclose(probes.standardised(x).std(0), 1)
    assert not probes.standardised(np.full((5, 2), 0.1)).any()


def test_rows_of_a_part():
    part = Batches(rows(), 8)
    assert len(probes.first_rows(part, 17)["x"]) == 17
    np.testing.assert_array_equal(probes.first_rows(part)["x"], rows()["x"])
    assert probes.first_rows(None) is None
    assert len(probes.first_rows({"a": part, "b": part}, 5)["y"]) == 5
