"""Extras of pyproject.toml: the table that the library has of them, and the line that a missing one gives."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jaxdl.extras import EXTRAS, MissingExtra, absent, command, require
from tests.budget import first

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRA = PROJECT["optional-dependencies"]


def test_every_extra_has_an_entry():
    assert {*EXTRAS, "cuda", "tpu", "all"} == set(EXTRA)


def test_all_is_made_of_those_for_users():
    (one,) = EXTRA["all"]
    named = re.fullmatch(r"jaxdl\[(.*)\]", one)[1].split(",")
    assert set(named) == set(EXTRAS) - {"peers", "test"}


@pytest.mark.parametrize("name", first(EXTRAS, 2))
def test_modules_come_from_the_packages_of_the_extra(name):
    packages = importlib.metadata.packages_distributions()
    plain = lambda text: re.split(r"[^\w.-]", text)[0].lower().replace("_", "-")
    wanted = {plain(one) for one in EXTRA[name] if not one.startswith("jaxdl")}
    inner = {plain(two) for one in EXTRA[name] if one == "jaxdl[data]" for two in EXTRA["data"]}
    for module in EXTRAS[name].modules:
        if importlib.util.find_spec(module) is not None:
            assert {plain(package) for package in packages.get(module, ())} & (wanted | inner), module
    assert len(EXTRAS[name].modules) == len(wanted | inner)


def test_a_library_that_is_there_is_imported():
    assert require("json.decoder", "data") is sys.modules["json.decoder"]


def test_a_missing_library_is_one_line_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(MissingExtra, match=r'^--loader=grain: needs grain; pip install "jaxdl\[data\]"$') as error:
        require("grain", "data", "--loader=grain")
    assert isinstance(error.value, ImportError)
    assert error.value.name == "grain"
    assert "grain" in absent("data")


def test_a_library_whose_own_import_is_missing_names_it(monkeypatch, tmp_path):
    (tmp_path / "halfway.py").write_text("import absent_one")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra, match=r"needs halfway \(absent_one is missing\)"):
        require("halfway", "rl")


def test_a_broken_library_keeps_its_own_error(monkeypatch, tmp_path):
    (tmp_path / "broken.py").write_text("from json import nothing_of_this_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="nothing_of_this_name") as error:
        require("broken", "rl")
    assert not isinstance(error.value, MissingExtra)


def test_an_unknown_extra_is_a_mistake():
    with pytest.raises(KeyError, match="txt"):
        command("txt")


def test_optional_libraries_are_imported_by_require_alone():
    """Elsewhere a missing one would be a traceback."""
    modules = "|".join(module for name in EXTRAS if name != "test" for module in EXTRAS[name].modules)
    pattern = rf"^\s*(import|from) ({modules})\b"
    found = subprocess.run(
        ["grep", "-rnP", pattern, "jaxdl", "experiments", "--include=*.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.stdout == ""
