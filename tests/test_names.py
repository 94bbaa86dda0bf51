"""Public names: unambiguous, importable and imported lazily."""

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import jaxdl


def packages(root="jaxdl"):
    """Names of jaxdl and its subpackages."""
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
def test_public_names_exist(name):
    package = importlib.import_module(name)
    for public in getattr(package, "__all__", ()):
        assert hasattr(package, public), f"{name}.{public}"


def test_subpackages_and_main_names_are_imported_lazily():
    code = "import jaxdl, sys; assert 'jax' not in sys.modules; print(jaxdl.nn.MLP.__name__, jaxdl.supervised.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "MLP supervised\n"
    assert {"nn", "optim", "fit", "load", "Experiment", "State", "Learner", "supervised"} <= set(dir(jaxdl))
    with pytest.raises(AttributeError, match="'loda'"):
        jaxdl.loda  # noqa: B018


def test_the_library_has_no_rows_of_a_syllabus():
    """Only experiments map claims to rows."""
    root = jaxdl.__path__[0]
    found = subprocess.run(["grep", "-rnE", r'"[A-Z][0-9]{2}"', root, "--include=*.py"], capture_output=True, text=True)
    assert found.stdout == ""
