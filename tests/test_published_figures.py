"""The figures that the README puts beside published ones, on the original files: minutes each, `pytest -m full`."""

import importlib

import pytest

CASES = [
    ("image_classifier", {"dataset": "mnist"}, {"I12", "B27"}),
    ("image_classifier", {"dataset": "usps"}, {"B27"}),
    ("softmax_regression", {"dataset": "mnist"}, {"H04 B27", "H05", "S03"}),
    ("linear_regression", {"table": "california_housing"}, {"A02"}),
]


@pytest.mark.full
@pytest.mark.parametrize(("name", "flags", "rows"), CASES)
def test_claims_on_original_files(name, flags, rows, data_dir, tmp_path):
    module = importlib.import_module(f"experiments.{name}")
    config = module.Config(**flags, data_dir=str(data_dir), workdir=str(tmp_path), progress=False, devices=1)
    claims = {claim.row: claim for claim in module.main(config)}
    for row in rows:
        assert claims[row].holds, claims[row]
