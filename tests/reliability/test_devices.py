"""R6: a state saved on some devices is restored on others bit for bit; the ways of splitting agree up to rounding."""

import dataclasses
import itertools
from dataclasses import fields
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.data import Batches
from jaxdl.losses import softmax_cross_entropy
from jaxdl.nn import CNN, GPT, MLP, RecurrentLM
from jaxdl.run import RunConfig, fit
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.supervision import supervised
from tests.reliability import program
from tests.reliability.conftest import digests

DEVICES = (1, 2, 4, 8)
WAYS = next(f.metadata["rule"].choices for f in fields(RunConfig) if f.name == "parallel")
ACROSS = "fsdp" if "fsdp" in WAYS else "jit"  # the state itself is split: the most error-prone way


@pytest.mark.claims
@pytest.mark.parametrize(
    ("way", "numbers"),
    [
        (ACROSS, (1, 8)),
        (ACROSS, DEVICES),
        *(pytest.param(w, DEVICES, marks=pytest.mark.full) for w in WAYS if w != ACROSS),
    ],
)
def test_saved_on_some_devices_restored_on_others(way, numbers, tmp_path, promise):
    """The state that a fit restores on resume, for every pair of device counts."""
    base = program.Config(steps=3, parallel=way, width=16, checkpoint_every=3, eval_every=3)
    train = program.data(base)
    experiment = program.build(base, train)
    train = train.train
    saved = {}
    for a in numbers:
        config = dataclasses.replace(base, devices=a, workdir=str(tmp_path / str(a)))
        saved[a] = digests(fit(experiment, train, config).state)
    passed = 0
    for a, b in itertools.product(numbers, numbers):
        config = dataclasses.replace(base, devices=b, workdir=str(tmp_path / str(a)))
        with mock.patch("jaxdl.run.engine.fit.Training", side_effect=AssertionError("it is trained again")):
            loaded = fit(experiment, train, config).state
        places = {len(x.sharding.device_set) for x in jax.tree.leaves(loaded)}
        passed += digests(loaded) == saved[a] and places == {b}
    promise("R6", passed, len(numbers) ** 2, f"pairs of device counts under {way}, seed 0")


def images(config):
    rng = np.random.default_rng(0)
    x, y = rng.random((48, 12, 12, 1), np.float32), rng.integers(10, size=48)
    return Batches({"x": x, "y": y}, config.batch_size)


def text(config):
    tokens = np.random.default_rng(0).integers(11, size=(48, 14), dtype=np.int32)
    return Batches({"x": tokens[:, :-1], "y": tokens[:, 1:]}, config.batch_size)


MODELS = {
    "MLP": (lambda: MLP((32, 10)), images, lambda out, b: softmax_cross_entropy(out, b["y"])),
    "CNN": (lambda: CNN((8, 16)), images, lambda out, b: softmax_cross_entropy(out, b["y"])),
    "GPT": (lambda: GPT(11, 13, layers=2, heads=2, features=16), text,
            lambda out, b: softmax_cross_entropy(out, b["y"]).mean(-1)),
    "LSTM": (lambda: RecurrentLM(11, features=16, layers=1), text,
             lambda out, b: softmax_cross_entropy(out[0], b["y"]).mean(-1)),
}  # fmt: skip


@pytest.mark.claims
@pytest.mark.parametrize("name", ["MLP", *(pytest.param(n, marks=pytest.mark.full) for n in MODELS if n != "MLP")])
def test_the_ways_of_splitting_agree(name, promise):
    """Losses of 4 steps and the parameters after them, compared with one device; under SGD with momentum."""
    make, data, loss = MODELS[name]
    base = RunConfig(steps=4, batch_size=16, optimizer="sgd", learning_rate=0.1, log_every=1, progress=False,
                     tensorboard=False, devices=1)  # fmt: skip
    train = data(base)
    experiment = supervised(make(), base.make_optimizer(), example=train.example, loss=loss)
    one = fit(experiment, train, base)
    passed = tried = 0
    for way, devices in itertools.product(WAYS, (8,) if name == "MLP" else (2, 4, 8)):
        many = fit(experiment, train, dataclasses.replace(base, parallel=way, devices=devices))
        np.testing.assert_allclose(many.curve("train/loss")[1], one.curve("train/loss")[1], rtol=1e-5)
        for a, b in zip(jax.tree.leaves(many.state.learner), jax.tree.leaves(one.state.learner), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6)
        passed, tried = passed + 1, tried + 1
    promise("R6", passed, tried, f"ways of training a {name}, seed 0")


def test_checkpoints_of_a_split_state_hold_all_of_it(tmp_path, promise):
    """Directly with checkpoints: leaves split over 8 devices, and read back on one."""
    mesh = jax.make_mesh((8,), ("devices",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices"))
    state = {"w": jax.device_put(jax.random.normal(jax.random.key(0), (16, 3)), split), "n": jnp.int32(4)}
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(4, state)
    checkpoints.wait()
    _, found = checkpoints.restore({"w": jax.numpy.zeros((16, 3)), "n": jax.numpy.int32(0)})
    checkpoints.close()
    promise("R6", digests(found) == digests(state), 1, "split over 8 devices, restored on 1, seed 0")
