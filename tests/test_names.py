"""Names that a user of flax and optax guesses, and that mean one thing each."""

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import jaxdl


def packages(root="jaxdl"):
    """jaxdl and all packages in it."""
    package = importlib.import_module(root)
    inner = [m.name for m in pkgutil.iter_modules(package.__path__) if m.ispkg]
    return [root, *(one for name in inner for one in packages(f"{root}.{name}"))]


@pytest.mark.parametrize("name", packages())
def test_no_function_shadows_a_module(name):
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{name}.{module.name}")
        assert isinstance(getattr(package, module.name), ModuleType), f"{name}.{module.name}"


@pytest.mark.parametrize("name", packages())
def test_what_a_package_offers_is_there(name):
    package = importlib.import_module(name)
    for public in getattr(package, "__all__", ()):
        assert hasattr(package, public), f"{name}.{public}"


def test_parts_and_first_names_come_when_asked_for():
    code = "import jaxdl, sys; assert 'jax' not in sys.modules; print(jaxdl.nn.MLP.__name__, jaxdl.supervised.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "MLP supervised\n"
    assert {"nn", "optim", "fit", "load", "Experiment", "State", "Learner", "supervised"} <= set(dir(jaxdl))
    with pytest.raises(AttributeError, match="module 'jaxdl' has no attribute 'loda'"):
        jaxdl.loda  # noqa: B018


def test_the_library_knows_no_rows_of_a_syllabus():
    """Which claim answers which row is a matter of the experiments."""
    root = jaxdl.__path__[0]
    found = subprocess.run(["grep", "-rnE", r'"[A-Z][0-9]{2}"', root, "--include=*.py"], capture_output=True, text=True)
    assert found.stdout == ""
