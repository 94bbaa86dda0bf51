"""Settings that hold for every test: 8 fake CPU devices, no silent broadcasting, a compilation cache."""

import os
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"jaxdl-test-cache-{os.getuid()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of original data files; the test skips where JAXDL_DATA_DIR names none."""
    folder = os.environ.get("JAXDL_DATA_DIR", "")
    if not folder:
        pytest.skip("JAXDL_DATA_DIR is not set: no original data files to test on")
    return Path(folder)
