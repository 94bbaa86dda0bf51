"""Five experiments of unusual shape have the same results on 1 and 8 devices, under jit and pmap."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxdl.run.engine.feed import Feed
from jaxdl.run.engine.parallel import compile_steps, make_mesh, place_state
from tests.budget import first
from tests.shapes import CASES


def leaves(tree):
    """Returns {path: array} of a state; PRNG keys are replaced by their data."""
    plain = lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return {jax.tree_util.keystr(path): np.asarray(plain(x)) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def train(case, parallel, devices, steps=3, **options):
    """Returns the initial state, the states after each step, and the losses."""
    experiment, data = CASES[case](**options)
    mesh = make_mesh(devices)
    feed = Feed(data, mesh)
    state = place_state(jax.jit(experiment.init)(jax.random.key(0)), mesh)
    traced = []
    step = lambda state, batch: (traced.append(0), experiment.step(state, batch))[1]
    call = compile_steps(step, state, mesh, parallel=parallel, take=feed.take)
    states, losses, at_first = [leaves(state)], [], 0
    for t in range(steps):
        state, metrics = call(feed.arrays, state, feed.rows(0, t, 1))
        states.append(leaves(state))
        losses.append(float(metrics["loss"][0]))
        at_first = at_first or len(traced)
    assert len(traced) == at_first, "a later step was traced again: a leaf of the state changed its type"
    return states, losses


def assert_equal_training(one, other):
    """Compares the gradients of step 1 in the optimiser's state, all leaves after 3 steps, and the losses."""
    for t, part in ((1, "opt_state"), (3, "")):
        for path, value in one[0][t].items():
            if part in path:
                scale = np.abs(value).max() + 1e-9
                np.testing.assert_allclose(other[0][t][path] / scale, value / scale, atol=1e-5, err_msg=path)
    assert any("opt_state" in path for path in one[0][1])
    np.testing.assert_allclose(other[1], one[1], rtol=1e-5)


@pytest.fixture(scope="module")
def reference():
    found = {}
    return lambda case: found.setdefault(case, train(case, "jit", 1))


@pytest.mark.parametrize(
    ("parallel", "devices"),
    [
        *first([("pmap", 2), ("pmap", 8)]),
        *(pytest.param(*way, marks=pytest.mark.full) for way in (("jit", 8), ("pmap", 1))),
    ],
)
@pytest.mark.parametrize("case", first(CASES))
def test_same_results_on_any_devices(case, parallel, devices, reference):
    assert_equal_training(reference(case), train(case, parallel, devices))


@pytest.mark.parametrize("case", first(CASES))
def test_training_changes_parameters(case, reference):
    states, losses = reference(case)
    assert np.isfinite(losses).all()
    changed = [path for path in states[0] if "params" in path and not np.array_equal(states[0][path], states[1][path])]
    assert len(changed) > len([path for path in states[0] if "params" in path]) / 2


@pytest.mark.claims
@pytest.mark.parametrize("case", CASES)
def test_every_device_has_the_same_copy(case):
    experiment, data = CASES[case]()
    mesh = make_mesh(8)
    feed = Feed(data, mesh)
    state = place_state(jax.jit(experiment.init)(jax.random.key(0)), mesh)
    call = compile_steps(experiment.step, state, mesh, parallel="pmap", take=feed.take, replicas=True)
    copies, _ = call(feed.arrays, state, feed.rows(0, 0, 1))
    for field in dataclasses.fields(copies):
        if not field.metadata.get("per_example"):
            for path, value in leaves(getattr(copies, field.name)).items():
                assert len(value) == 8
                assert (value == value[:1]).all(), f"{field.name}{path} differs between devices"


@pytest.mark.claims
def test_dropout_draws_the_same_on_any_number_of_devices_under_jit():
    assert_equal_training(train("batch_norm", "jit", 1, dropout=0.5), train("batch_norm", "jit", 8, dropout=0.5))


@pytest.mark.claims
def test_uneven_masks_are_weighted_over_all_devices():
    """Without the device mean of the weights, the loss under pmap would be the mean of local means."""
    masked, plain = train("batch_norm", "pmap", 8, steps=1), train("batch_norm", "pmap", 8, steps=1, uneven=False)
    assert abs(masked[1][0] - plain[1][0]) > 1e-3
