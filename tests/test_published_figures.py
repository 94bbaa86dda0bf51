"""Results on the original files that the README compares with published ones; minutes each, `pytest -m full`."""

import importlib

import pytest

CASES = [
    ("image_classifier", {"dataset": "mnist"}, {"I12", "B27"}),
    ("image_classifier", {"dataset": "usps"}, {"B27"}),
    ("softmax_regression", {"dataset": "mnist"}, {"H04 B27", "H05", "S03"}),
    ("linear_regression", {"table": "california_housing"}, {"A02"}),
    ("vae", {"dataset": "mnist"}, {"M12"}),
    ("gan", {"dataset": "mnist", "batch_size": 64, "learning_rate": 5e-4, "epochs": 6.0}, {"M04", "M06"}),
    ("language_model", {"dataset": "tinyshakespeare"}, {"J11", "K12", "L07", "C14"}),
]


@pytest.mark.full
@pytest.mark.parametrize(("name", "flags", "rows"), CASES)
def test_claims_on_original_files(name, flags, rows, data_dir, tmp_path):
    module = importlib.import_module(f"experiments.{name}")
    config = module.Config(**flags, data_dir=str(data_dir), workdir=str(tmp_path), progress=False, devices=1)
    claims = [claim for claim in module.main(config) if claim.row in rows and claim.holds is not None]
    assert {claim.row for claim in claims} == rows
    for claim in claims:
        assert claim.holds == claim.expected, claim
