"""Image sets by name, the embedded digits, pixel scaling, and what importing the package costs."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import jaxdl.data
from jaxdl.data import IMAGE_SETS, DataError, MissingData, load_images, unit


def test_names():
    assert IMAGE_SETS == ("digits", "glyphs", "mnist", "fashion_mnist", "usps", "cifar10")
    with pytest.raises(ValueError, match=r"no image set 'minst' \(did you mean mnist\?\); there are digits, glyphs"):
        load_images("minst")


def test_digits_are_all_there_once():
    images, source = load_images("digits", seed=3), load_digits()
    assert images.train["x"].shape == (1437, 8, 8, 1)
    assert images.test["x"].shape == (360, 8, 8, 1)
    assert (images.train["x"].dtype, images.train["y"].dtype) == (np.float32, np.int32)
    both = [np.concatenate([images.train[k], images.test[k]]) for k in "xy"]
    found = sorted((x.tobytes(), int(y)) for x, y in zip(*both, strict=True))
    expected = sorted(
        ((i / 16).astype(np.float32).tobytes(), int(y)) for i, y in zip(source.images, source.target, strict=True)
    )
    assert found == expected
    shares = np.bincount(images.test["y"]) / np.bincount(source.target)
    np.testing.assert_allclose(shares, 0.2, atol=0.01)


def test_digits_seeds():
    again, other = load_images("digits", seed=0), load_images("digits", seed=1)
    np.testing.assert_array_equal(load_images("digits").train["x"], again.train["x"])
    assert not np.array_equal(again.train["y"], other.train["y"])


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "usps", "cifar10"])
@pytest.mark.parametrize("data_dir", [None, ""])
def test_files_without_a_folder(name, data_dir):
    with pytest.raises(MissingData, match=f"^{name} is read from files: set --data_dir or JAXDL_DATA_DIR"):
        load_images(name, data_dir)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "usps", "cifar10"])
def test_a_folder_that_is_not_there_or_a_file(tmp_path, name):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(MissingData, match=f"^--data_dir={folder}: no such folder"):
            load_images(name, folder)


def test_errors_are_the_kinds_that_callers_catch():
    assert issubclass(DataError, ValueError)
    assert issubclass(MissingData, FileNotFoundError)
    assert str(MissingData("a: b; c")) == "a: b; c"
    assert isinstance(pickle.loads(pickle.dumps(DataError("x"))), DataError)


@pytest.mark.parametrize("module", [np, jnp])
def test_unit(module):
    pixels = unit(module.array([[0, 51, 255]], module.uint8))
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, [[0, 0.2, 1]], rtol=1e-7)
    floats = module.array([0.5, -3], module.float32)
    assert unit(floats) is floats
    with pytest.raises(ValueError, match="pixels of type int32"):
        unit(module.array([1], module.int32))


def test_unit_inside_jit_and_in_half_precision():
    assert jax.jit(unit)(jnp.array([255], jnp.uint8)).tolist() == [1]
    assert unit(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


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
