"""Settings that hold for every test: 8 fake CPU devices, no silent broadcasting, a compilation cache."""

import gc
import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

from jaxdl.tuned import missing
from tests.reliability.nursery import quick_to_compile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"jaxdl-test-cache-{os.getuid()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.update(missing(os.environ))  # tests compute the bits that runs compute; huge pages only in child processes

# a job in the background ignores SIGINT, and so would all that it starts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import pytest

flags = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = quick_to_compile()
jax.devices()  # XLA reads the flags here; child processes compile as a user's do
os.environ["XLA_FLAGS"] = flags


def pytest_configure(config: pytest.Config) -> None:
    """The first process receives the reports of all tests: it counts promises and processor time."""
    from experiments.__main__ import listing
    from tests.budget import Budget, Everything, Measure
    from tests.reliability.figures import Elsewhere

    names = set(listing())
    config.pluginmanager.register(Measure(names))
    if os.environ.get("JAXDL_TEST_EVERYTHING", "0") != "0":
        config.pluginmanager.register(Everything())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Elsewhere())
        config.pluginmanager.register(Budget(len(names)))


def pytest_collection_finish() -> None:
    """The garbage collector leaves alone what imports have made: a seventh of the time of a test that traces."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Most tests compile longer than they compute: LLVM optimises for promises, full tests and new processes only."""
    optimised = item.path.parent.name == "reliability" or item.get_closest_marker("full")
    jax.config.update("jax_disable_most_optimizations", not optimised)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked `full` too is none of the claims tier, so that `-m claims` leaves it out."""
    for item in items:
        if item.get_closest_marker("full"):
            item.own_markers = [mark for mark in item.own_markers if mark.name != "claims"]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of original data files; the test skips where JAXDL_DATA_DIR names none."""
    folder = os.environ.get("JAXDL_DATA_DIR", "")
    if not folder:
        pytest.skip("JAXDL_DATA_DIR is not set: no original data files to test on")
    return Path(folder)


@pytest.fixture
def seed() -> int:
    """The seed of a test marked `trained`: 0, or the one that `python -m tests.margins tests` tries."""
    return int(os.environ.get("JAXDL_MARGIN_SEED", "0"))


@pytest.fixture
def bound(request: pytest.FixtureRequest) -> Callable[..., None]:
    """bound(value, ">=", limit, name=""): asserts it, and notes it in the file that JAXDL_MARGINS names."""
    from jaxdl.run import Quantity

    def check(value: float, sign: str, limit: float, name: str = "") -> None:
        found = Quantity(name, value, sign, limit)
        if path := os.environ.get("JAXDL_MARGINS"):
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps([request.node.nodeid, vars(found)]) + "\n")
        assert found.holds, str(found)

    return check


if "JAXDL_MARGIN_WORLD" in os.environ:
    from tests.margins.worlds import nudge

    nudge(int(os.environ["JAXDL_MARGIN_WORLD"]))
