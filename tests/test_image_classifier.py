import pytest

from experiments.image_classifier import Config, build, data
from jaxdl.run import fit

QUICK = {"model": "softmax", "steps": 4, "progress": False, "tensorboard": False, "devices": 1}


def test_a_recipe_is_filled_in_and_another_data_sets_when_it_changes():
    config = Config(dataset="mnist", epochs=2)
    assert (config.model, config.epochs, config.seeds, config.augment) == ("lenet", 2, 1, "none")
    usps = config.replace(dataset="usps")
    assert (usps.model, usps.epochs, usps.seeds, usps.augment) == ("cnn", 2, 3, "shift")
    assert Config().seeds == 5


@pytest.mark.claims
def test_every_configuration_can_be_trained():
    config = Config(**QUICK, seeds=1)
    parts = data(config)
    result = fit(build(config, parts), parts, config)
    assert result.runs == (result,)
    assert {"loss", "accuracy"} == set(result.metrics) == set(result.valid)
    assert result.predict(parts.test).shape == (360, 10)
    assert result.predict(parts.test).sum(-1) == pytest.approx(1)


@pytest.mark.claims
def test_epochs_are_resolved_by_build_and_fit():
    config = Config(model="softmax", epochs=0.1, seeds=1, progress=False, tensorboard=False, devices=1)
    parts = data(config)
    assert int(fit(build(config, parts), parts, config).state.step) == 3


@pytest.mark.claims
def test_without_a_validation_part():
    config = Config(**QUICK, valid_fraction=0.0, seeds=1)
    parts = data(config)
    assert parts.valid is None
    assert parts.train.length == 1437
    history = fit(build(config, parts), parts, config).history
    assert "valid/loss" not in {key for row in history for key in row}
