import pytest

from experiments.image_classifier import CLASSES, Config, build, data
from jaxdl.data import IMAGE_SETS, Data, load_images
from jaxdl.run import fit

QUICK = {"model": "softmax", "steps": 4, "progress": False, "tensorboard": False, "devices": 1}


@pytest.mark.parametrize("name", ["digits", "glyphs"])
def test_the_number_of_classes_is_that_of_the_images(name):
    assert CLASSES[name] == len(load_images(name).names)


def test_the_number_of_classes_in_original_files(data_dir):
    assert set(CLASSES) == set(IMAGE_SETS)
    for name in set(CLASSES) - {"digits", "glyphs"}:
        assert CLASSES[name] == len(load_images(name, data_dir).names)


def test_a_configuration_whose_choices_are_open_can_be_trained():
    """Seeds that are not set are one for `fit`, whatever `main` makes of them."""
    config = Config(**QUICK)
    assert config.seeds is None
    train, valid, test = data(config)
    result = fit(build(config, train.example), Data(train, valid, test), config)
    assert result.runs == ()
    assert {"loss", "accuracy"} == set(result.metrics) == set(result.valid)


def test_without_a_validation_part():
    config = Config(**QUICK, valid_fraction=0.0)
    train, valid, test = data(config)
    assert valid is None
    assert train.length == 1437
    assert "valid/loss" not in {key for row in fit(build(config, train.example), Data(train, test=test), config).history
                                for key in row}  # fmt: skip
