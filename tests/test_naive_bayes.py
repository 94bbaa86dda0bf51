"""The fit counts every row once; its decisions are scikit-learn's; MNIST's published count."""

from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.naive_bayes import CLAIMS, MODELS, Config, build, data, features, rain
from jaxdl import run
from jaxdl.data import pixels01

QUIET = {"progress": False, "devices": 1}


def test_every_row_is_counted_once_however_many_steps():
    """1,437 rows in batches of 200: the eighth is partly empty, the ninth wholly."""
    config = Config(**QUIET, steps=9)
    parts = data(config)
    experiment, state = build(config, parts), None
    state, step = jax.jit(experiment.init)(jax.random.key(0)), jax.jit(experiment.step)
    for t in range(9):
        state, _ = step(state, parts.train.batch(0, t))
    x, y = (parts.train.arrays[name] for name in "xy")
    np.testing.assert_array_equal(state.statistics.rows, np.bincount(y))
    ones = [(x[y == k].reshape(-1, 64) > 0.5).sum(0) for k in range(10)]
    np.testing.assert_array_equal(state.statistics.ones, ones)
    assert parts.train.order(0, 10**9).max() == 1437


def test_the_threshold_is_that_of_the_publication():
    every = np.arange(256, dtype=np.uint8)[:, None]
    np.testing.assert_array_equal(features("bernoulli", every)[:, 0], np.floor(every[:, 0] / 128))
    np.testing.assert_array_equal(features("gaussian", every), pixels01(every))


def test_the_year():
    found, evidence = rain()
    assert found.holds
    assert evidence.holds
    # 55 of the 128 cloudy days are rainy
    assert {q.name: q.value for q in found.quantities}["posterior, rain if there are clouds"] == 55 / 128


@pytest.mark.claims
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("devices", [1, 8])
def test_the_fit_on_devices(model, devices):
    config = Config(progress=False, model=model)
    result = run.fit(build(config, data(config)), data(config), config, devices=devices, parallel="pmap")
    assert result.metrics["accuracy"] == pytest.approx({"bernoulli": 319 / 360, "gaussian": 296 / 360}[model])


@pytest.mark.claims
def test_mnist_from_its_files(data_dir: Path):
    config = Config(dataset="mnist", data_dir=str(data_dir), model="bernoulli", **QUIET)
    parts = data(config)
    result = run.fit(build(config, parts), parts, config)
    assert (parts.train.length, parts.test.length, parts.valid) == (60_000, 10_000, None)
    assert round(10_000 * result.metrics["accuracy"]) == 8427
    assert CLAIMS["published"].needs == "files:mnist"
