"""Image sets by name, the bundled digits, pixel scaling, and imports of the package."""

import ast
import hashlib
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import jaxdl.data
from jaxdl.data import IMAGE_SETS, DataError, MissingData, load_images, pixels01
from tests.budget import first


def test_names():
    assert IMAGE_SETS == ("digits", "glyphs", "mnist", "fashion_mnist", "usps", "cifar10")
    with pytest.raises(ValueError, match=r"'minst' .*mnist\?.*digits, glyphs"):
        load_images("minst")


def test_digits_are_all_there_once():
    images, source = load_images("digits", seed=3), load_digits()
    assert images.train["x"].shape == (1293, 8, 8, 1)
    assert images.valid["x"].shape == (144, 8, 8, 1)
    assert images.test["x"].shape == (360, 8, 8, 1)
    assert (images.train["x"].dtype, images.train["y"].dtype) == (np.float32, np.int32)
    every = [np.concatenate([part[k] for part in (images.train, images.valid, images.test)]) for k in "xy"]
    found = sorted((x.tobytes(), int(y)) for x, y in zip(*every, strict=True))
    expected = sorted(
        ((i / 16).astype(np.float32).tobytes(), int(y)) for i, y in zip(source.images, source.target, strict=True)
    )
    assert found == expected
    for part, share in ((images.test, 0.2), (images.valid, 0.08)):
        np.testing.assert_allclose(np.bincount(part["y"]) / np.bincount(source.target), share, atol=0.01)
    assert images.note.startswith("digits: 1,293 training, 144 validation and 360 test images, 8x8x1, 10 classes (")
    assert "seed 3" in images.note
    assert images.name == "digits"
    assert images.original


def sha256(part):
    return hashlib.sha256(part["x"].tobytes() + part["y"].tobytes()).hexdigest()[:16]


# Digests of the sets without a validation part: (training part, test part).
PARTS = {
    ("digits", 0): ("ca57a49f4adf21ef", "31899533f0421efe"),
    ("digits", 3): ("4ab53375052ce644", "39dd17df8dfec093"),
    ("mnist", 3): ("6a364e333ea1f8ab", "45a60edfded3b2bb"),
    ("fashion_mnist", 3): ("c7d8cfe817275670", "2589de149ea70a51"),
    ("usps", 3): ("ba8c0eefab36c78a", "d3d7fdb36ccadc59"),
    ("cifar10", 3): ("4aae9395bd308ebf", "8353b1fbf11acba6"),
}
VALIDATED = {"digits": 144, "mnist": 6000, "fashion_mnist": 6000, "usps": 730, "cifar10": 1000}


@pytest.mark.parametrize(("name", "seed"), first(PARTS, 3))
def test_the_validation_part_is_of_the_training_part_alone(request, name, seed):
    folder = None if name == "digits" else request.getfixturevalue("data_dir")
    whole, images = (load_images(name, folder, seed=seed, valid=valid) for valid in (0, 0.1))
    other = load_images(name, folder, seed=seed + 1)
    assert whole.valid is None
    assert "validation" not in whole.note
    if name != "cifar10" or len(whole.train["y"]) == 10_000:  # the golden part is the first batch
        assert sha256(whole.train) == PARTS[name, seed][0]
    assert sha256(images.test) == sha256(whole.test) == PARTS[name, seed][1]
    rows = [Counter(x.tobytes() for x in part["x"]) for part in (whole.train, images.train, images.valid)]
    assert rows[0] == rows[1] + rows[2]  # no row is in both
    if name != "cifar10" or len(whole.train["y"]) == 10_000:
        assert len(images.valid["y"]) == VALIDATED[name]
    shares = [np.bincount(part["y"]) / len(part["y"]) for part in (whole.train, images.valid)]
    np.testing.assert_allclose(*shares, atol=1.2 / len(images.valid["y"]))
    assert sha256(other.valid) != sha256(images.valid)


def test_valid_is_a_part():
    assert len(load_images("digits", valid=0.5).valid["y"]) == 719
    for valid in (1, -0.1):
        for name in ("digits", "glyphs", "mnist"):
            with pytest.raises(ValueError, match=f"valid={valid}"):
                load_images(name, valid=valid)


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_DATA_DIR", str(tmp_path))
    with pytest.raises(MissingData, match=f"^--data_dir={tmp_path}: .*mnist"):
        load_images("mnist")
    with pytest.raises(MissingData, match=f"^--data_dir={tmp_path}/a: "):
        load_images("mnist", tmp_path / "a")


def test_digits_seeds():
    again, other = load_images("digits", seed=0), load_images("digits", seed=1)
    np.testing.assert_array_equal(load_images("digits").train["x"], again.train["x"])
    assert not np.array_equal(again.train["y"], other.train["y"])


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "usps", "cifar10"])
@pytest.mark.parametrize("data_dir", [None, ""])
def test_files_without_a_folder(name, data_dir, monkeypatch):
    monkeypatch.delenv("JAXDL_DATA_DIR", raising=False)
    with pytest.raises(MissingData, match=f"^{name} .*--data_dir or JAXDL_DATA_DIR"):
        load_images(name, data_dir)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "usps", "cifar10"])
def test_a_missing_folder_or_a_file(tmp_path, name):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(MissingData, match=f"^--data_dir={folder}: "):
            load_images(name, folder)


def test_errors_are_the_kinds_that_callers_catch():
    assert issubclass(DataError, ValueError)
    assert issubclass(MissingData, FileNotFoundError)
    assert str(MissingData("a: b; c")) == "a: b; c"
    assert isinstance(pickle.loads(pickle.dumps(DataError("x"))), DataError)


@pytest.mark.parametrize("module", [np, jnp])
def test_unit(module):
    pixels = pixels01(module.array([[0, 51, 255]], module.uint8))
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, [[0, 0.2, 1]], rtol=1e-7)
    floats = module.array([0.5, -3], module.float32)
    assert pixels01(floats) is floats
    with pytest.raises(ValueError, match="int32"):
        pixels01(module.array([1], module.int32))


def test_unit_inside_jit_and_in_half_precision():
    assert jax.jit(pixels01)(jnp.array([255], jnp.uint8)).tolist() == [1]
    assert pixels01(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.claims
def test_importing_does_not_import_what_only_some_sets_need():
    code = "import sys, jaxdl.data; print(*sorted({'sklearn', 'matplotlib', 'PIL', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_only_augmentation_is_jax():
    for path in Path(jaxdl.data.__file__).parent.glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        assert ("jax" in {module.split(".")[0] for module in modules}) == (path.name == "augment.py"), path.name
