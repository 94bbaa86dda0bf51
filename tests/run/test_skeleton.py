"""`python -m experiments new NAME`: the template runs, and passes the tests of every experiment."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxdl.run import FlagError, Usable, findings
from jaxdl.run.command.skeleton import write_skeleton

ROOT = Path(__file__).parents[2]


@pytest.mark.claims
def test_what_is_written_keeps_the_contract_and_its_claim_holds(tmp_path):
    path = write_skeleton("one_hidden", tmp_path)
    spec = importlib.util.spec_from_file_location("one_hidden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module, Usable)
    assert "NAME" not in path.read_text(encoding="utf-8")
    config = module.Config(**module.SMALL, workdir=str(tmp_path / "run"), progress=False, tensorboard=False, devices=1)
    (found,) = findings(module, config)
    assert found.holds
    assert (tmp_path / "run/confusion.png").exists()
    checked = subprocess.run(
        ["ruff", "check", "--config", ROOT / "pyproject.toml", path], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.claims
def test_the_command_says_how_to_go_on(tmp_path):
    words = [sys.executable, "-m", "experiments", "new", "mine"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert done.stdout.endswith("python mine.py\n")
    text = (tmp_path / "mine.py").read_text(encoding="utf-8")
    assert re.search(r"^    python mine.py --width=4$", text, re.M)
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert again.stderr.startswith("error: new mine: mine.py ")


@pytest.mark.parametrize("name", ["", "Mine", "a-b", "../x", "class", "1a"])
def test_names_that_no_module_has(tmp_path, name):
    with pytest.raises(FlagError, match=f"^new {re.escape(name)}: "):
        write_skeleton(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
