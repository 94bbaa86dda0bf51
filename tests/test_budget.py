"""The plugin that adds up the processor time, and the settings of the tests, tried on small runs of pytest."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import subprocess, sys, time
import pytest
BUSY = "import time\\nwhile time.process_time() < 0.4: pass"

@pytest.mark.parametrize("name", ["gan", "vae"])
def test_busy(name):
    before = time.process_time()
    while name == "gan" and time.process_time() < before + 0.2:
        pass

def test_child():
    subprocess.run([sys.executable, "-c", BUSY])

def test_sleep():
    time.sleep(0.5)

@pytest.mark.claims
def test_claims():
    pass

@pytest.mark.full
def test_full():
    pass
"""
PLUGIN = """
import pytest
from tests.budget import Budget, Measure

def pytest_configure(config):
    config.pluginmanager.register(Measure({{"gan", "vae"}}))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Budget(2, {{"default": ({frame}, {each}, {each}), "claims": (1, 1, 1)}}))
"""


@pytest.fixture
def run(tmp_path):
    """Runs TESTS in a new process with budgets of its own."""

    def start(*words, frame=100, each=100):
        (tmp_path / "test_it.py").write_text(TESTS)
        (tmp_path / "conftest.py").write_text(PLUGIN.format(frame=frame, each=each))
        options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
        markers = "".join(f"\n  {marker}" for marker in options["markers"])
        (tmp_path / "pytest.ini").write_text(f"[pytest]\naddopts = {options['addopts']}\nmarkers ={markers}\n")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return start


def lines(done):
    """{test: (processor seconds, tier)} of the list of the slowest."""
    found = re.findall(r"^ *([\d.]+) s  (\w+) +test_it.py::(.*)$", done.stdout, re.M)
    return {name: (float(seconds), tier) for seconds, tier, name in found}


def check(spent):
    """A test's own time and that of its children count; sleep does not."""
    assert set(spent) == {"test_busy[gan]", "test_busy[vae]", "test_child", "test_sleep"}
    assert spent["test_child"][0] > 0.35
    assert spent["test_busy[gan]"][0] > 0.15
    assert spent["test_sleep"][0] < 0.2


@pytest.mark.claims
def test_a_run_within_its_budget(run):
    done = run()
    assert done.returncode == 0, done.stdout
    assert "over budget" not in done.stdout
    check(lines(done))


@pytest.mark.claims
def test_a_run_over_three_times_its_budget_fails_and_workers_report(run):
    done = run("-n2", frame=0.01, each=0.01)
    assert done.returncode == 1
    assert "4 passed" in done.stdout
    assert "over budget: the run" in done.stdout
    check(lines(done))


@pytest.mark.claims
def test_the_tiers_are_asked_for_on_the_command_line(run):
    assert {name: tier for name, (_, tier) in lines(run("-m", "claims")).items()} == {"test_claims": "claims"}
    assert {name: tier for name, (_, tier) in lines(run("-m", "full")).items()} == {"test_full": "full"}


def test_an_experiment_over_three_times_its_budget_fails(run):
    done = run(each=0.05)
    assert done.returncode == 1
    assert "over budget: gan" in done.stdout
    assert "over budget: vae" not in done.stdout
    assert "over budget: the run" not in done.stdout


@pytest.mark.claims
def test_a_missing_import_fails_where_everything_is_to_be_tested(tmp_path):
    (tmp_path / "test_it.py").write_text("import pytest\ndef test():\n    pytest.importorskip('not_there')\n")
    plugin = "from tests.budget import Everything\ndef pytest_configure(config):\n    "
    (tmp_path / "conftest.py").write_text(plugin + "config.pluginmanager.register(Everything())\n")
    command, env = [sys.executable, "-m", "pytest", "-q"], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1
    assert "not_there" in done.stdout
