"""The `inference` of the experiments on new data, with untrained networks."""

import jax
import numpy as np
import pytest

import experiments.classification
import experiments.data_parallel
import experiments.gan
import experiments.linear_regression
import experiments.robust_regression
import experiments.softmax_regression
import experiments.vae
from jaxdl import run
from jaxdl.data import Batches, DataError, load_images
from jaxdl.run.command.use import Loaded, inference_of
from jaxdl.run.store.about import facts_of, recalled
from tests.budget import first

QUIET = {"progress": False, "tensorboard": False, "seeds": 1, "steps": 3}


def loaded(module, **flags):
    """Makes a run as `load` opens it, with random weights."""
    config = module.Config(**QUIET | flags)
    data = recalled(facts_of(module.data(config)))
    experiment = module.build(config, data)
    state = jax.jit(experiment.init)(jax.random.key(0))
    return Loaded(config, experiment, data, inference_of(module, config, data), (state,), ({},), module)


@pytest.mark.claims
def test_a_classifier_of_several_labels():
    found = loaded(experiments.classification)
    x = load_images("digits").test["x"][:11]
    p = found.predict(x)
    assert p.shape == (11, 4)
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-np.asarray(found.apply(x)))), atol=1e-5)
    assert list(found.table(x)) == ["even", "prime", "at least five", "closed loop"]


@pytest.mark.parametrize("module", first([experiments.softmax_regression, experiments.data_parallel]))
def test_images_in_and_probabilities_out(module):
    found = loaded(module)
    shape = found.data.example["x"].shape[1:]
    x = np.random.default_rng(0).integers(0, 256, (5, *shape)).astype(np.uint8)
    p, logits = found.predict(x), np.asarray(found.apply(x))
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(p.argmax(-1), logits.argmax(-1))
    np.testing.assert_allclose(found.predict(x / np.float32(255)), p, atol=1e-5)


@pytest.mark.claims
def test_codes_images_and_draws_of_a_vae():
    found = loaded(experiments.vae, latents=3, width=17)
    x = load_images("digits").test["x"][:5]
    coded = found.predict(x)
    assert {name: value.shape for name, value in coded.items()} == {
        "mean": (5, 3), "deviation": (5, 3), "images": (5, 8, 8, 1),
    }  # fmt: skip
    np.testing.assert_allclose(found.predict(coded["mean"])["images"], coded["images"], atol=1e-5)
    assert list(found.table(x)) == ["z1", "z2", "z3"]
    one, same, other = (found.predict(7, draw_seed=seed)["images"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (7, 8, 8, 1)
    assert (one != other).any()
    with pytest.raises(run.FlagError, match=r"^predict: .*\[n, 3\]"):
        found.predict(np.zeros((2, 5)))


@pytest.mark.claims
@pytest.mark.parametrize(("dataset", "shape"), [("ring", (2,)), ("digits", (8, 8, 1))])
def test_samples_of_a_gan(dataset, shape):
    found = loaded(experiments.gan, dataset=dataset, latent=5, width=4)
    z = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    expected = found.experiment.predict(found.state, {"z": z})
    np.testing.assert_allclose(found.predict(z), expected, atol=1e-5)
    assert found.predict(3).shape == (3, *shape)
    assert (found.predict(3) != found.predict(3, draw_seed=1)).any()
    for wrong in (0, -1, 2.5, "x", np.zeros((2, 3)), np.full((2, 5), np.nan)):
        with pytest.raises(run.FlagError, match="predict"):
            found.predict(wrong)


@pytest.mark.parametrize("module", [experiments.linear_regression, experiments.robust_regression])
def test_numbers_on_a_line(module):
    found = loaded(module)
    dense = found.state.learner.params["Dense_0"]
    expected = np.array([[1.0], [2.5]]) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])[None]
    np.testing.assert_allclose(found.predict([1.0, 2.5]), expected, rtol=1e-5)
    names, rows = found.inference.read(["1,2.5"])
    assert (names, rows.length) == (["1", "2.5"], 2)
    for wrong in ("a", [[1.0, 2.0, 3.0]] * 2, [np.inf], []):
        with pytest.raises(run.FlagError, match="predict"):
            found.predict(wrong)


def test_columns_of_a_table_keep_their_units():
    from jaxdl.data import Data
    from jaxdl.run import of_numbers

    scales = {"x_mean": [1.0, 2.0], "x_deviation": [2.0, 4.0], "y_mean": [10.0], "y_deviation": [5.0]}
    use = of_numbers(Data(Batches({"x": np.zeros((3, 2)), "y": np.zeros((3, 1))}, 3)), ["y"], scales)
    np.testing.assert_array_equal(use.encode([[3.0, 10.0]]).arrays["x"], [[1.0, 2.0]])
    np.testing.assert_array_equal(use.decode(np.array([[2.0]])), [[20.0]])


def test_inputs_that_are_no_images():
    found = loaded(experiments.classification)
    for wrong in (np.full((2, 8, 8, 1), 255.0), 2 * np.ones((8, 8)), "nowhere.png", np.zeros((2, 8, 8), int), None):
        with pytest.raises((run.FlagError, DataError, ValueError, FileNotFoundError)) as caught:
            found.predict(wrong)
        assert "\n" not in str(caught.value)
