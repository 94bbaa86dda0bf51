"""Settings for fast training on CPUs: which processes get them, that a process restarts once, and equal results."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxdl
from experiments import image_classifier
from jaxdl import tuned
from tests.budget import first

ROOT = Path(__file__).parents[1]
ALL = {name: value for name, value, _ in tuned.SETTINGS}
NONE = dict.fromkeys(ALL)
HERE = NONE | tuned.missing({})  # jaxlib 0.12 does not know XLA's flag
HIDDEN = {*ALL, tuned.SWITCH, tuned.STARTED_ANEW, "JAX_NUM_CPU_DEVICES", "JAX_NUMPY_RANK_PROMOTION", "JAXDL_DATA_DIR"}


@pytest.fixture
def machine(monkeypatch):
    """Simulates a C library and a version of jaxlib."""

    def pretend(*, glibc, jaxlib):
        def version(package):
            if jaxlib is None:
                raise importlib.metadata.PackageNotFoundError(package)
            return jaxlib

        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(os, "confstr_names", {"CS_GNU_LIBC_VERSION": 2} if glibc else {"CS_PATH": 0})

    return pretend


@pytest.mark.parametrize(
    ("glibc", "jaxlib", "environment", "names"),
    [
        (True, "0.10.2", {}, {"GLIBC_TUNABLES", "XLA_FLAGS"}),
        (False, "0.10.2", {}, {"XLA_FLAGS"}),
        (True, "0.11.0", {}, {"GLIBC_TUNABLES"}),  # an unknown flag would abort the program
        (True, "0.100.0", {}, {"GLIBC_TUNABLES"}),
        (True, None, {}, {"GLIBC_TUNABLES"}),
        (True, "0.10.2", {"XLA_FLAGS": "--own"}, {"GLIBC_TUNABLES"}),
        (True, "0.10.2", {"GLIBC_TUNABLES": "own=1"}, {"XLA_FLAGS"}),
        (True, "0.10.2", {"GLIBC_TUNABLES": "", "XLA_FLAGS": ""}, {"GLIBC_TUNABLES", "XLA_FLAGS"}),
        (True, "0.10.2", {"JAX_PLATFORMS": "cuda", "JAXDL_TUNED": "1"}, {"GLIBC_TUNABLES", "XLA_FLAGS"}),
        (True, "0.10.2", {"JAXDL_TUNED": "0"}, set()),
    ],
)
def test_missing_settings(machine, glibc, jaxlib, environment, names):
    machine(glibc=glibc, jaxlib=jaxlib)
    assert tuned.missing(environment) == {name: ALL[name] for name in names}


def test_only_xla_flags_are_set_if_jax_is_imported(machine, monkeypatch):
    machine(glibc=True, jaxlib="0.10.2")
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
    tuned.set_xla_flags()
    assert {name: os.environ.get(name) for name in ALL} == ALL | {"GLIBC_TUNABLES": None}


def test_launcher_has_the_same_values():
    script = (ROOT / "launch.sh").read_text()
    for name, value in ALL.items():
        assert script.count(value) == 1
        assert f"export {name}={value}\n" in script.replace(f"${{{name}:-{value}}}", value)


@pytest.fixture
def starts(tmp_path):
    """Runs a command; returns the command line and the settings of each interpreter started in its process."""
    log = tmp_path / "starts.jsonl"
    (tmp_path / "sitecustomize.py").write_text(
        "import json, os, sys\n"
        f"seen = {{name: os.environ.get(name) for name in {list(ALL)}}}\n"
        "if os.environ.get('FORGETFUL'):\n"
        "    os.environ.pop('GLIBC_TUNABLES', None)\n"
        f"with open({str(log)!r}, 'a') as file:\n"
        "    file.write(json.dumps([os.getpid(), sys.orig_argv[1:], seen]) + '\\n')\n"
    )

    def run(*words, **environment):
        log.unlink(missing_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
        kept |= {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHON": sys.executable} | environment
        process = subprocess.Popen(
            [str(word) for word in words], env=kept, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
        seen = [json.loads(line) for line in log.read_text().splitlines()]
        return [
            (argv, settings) for pid, argv, settings in seen if pid == process.pid
        ]  # a restart keeps the process id

    return run


ABSENT = "experiments.absent"  # starts as an experiment, but fails before it imports anything


@pytest.mark.parametrize(
    "words",
    [
        ["-m", ABSENT],
        ["-m", ABSENT, "--steps=1", "two words", "-m", "pytest", ""],
        ["-X", "dev", "-W", "ignore", "-u", "-m", ABSENT, "--help"],
        [f"-Bm{ABSENT}"],
        [f"-m{ABSENT}", "--x"],
        ["-m", "jaxdl.console", "run", "absent", "--x", "two words"],
        ["-m", "experiments", "run", "absent.py"],
    ],
)
def test_restarts_once_with_the_same_command(starts, words):
    assert starts(sys.executable, *words) == [(words, NONE), (words, HERE)]


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"FORGETFUL": "1"}, [NONE, HERE]),
        ({"JAXDL_TUNED": "0"}, [NONE]),
        (ALL, [ALL]),
        ({"GLIBC_TUNABLES": "own=1"}, [NONE | {"GLIBC_TUNABLES": "own=1"}]),  # XLA's flag needs no restart
        ({"XLA_FLAGS": "--own"}, [NONE | {"XLA_FLAGS": "--own"}, ALL | {"XLA_FLAGS": "--own"}]),
    ],
)
def test_restarts_only_if_needed(starts, environment, found):
    assert [settings for _, settings in starts(sys.executable, "-m", ABSENT, **environment)] == found


@pytest.mark.claims
@pytest.mark.parametrize(("environment", "last"), [({}, HERE), ({"JAXDL_TUNED": "0"}, NONE)])
def test_launcher_starts_the_experiment_once(starts, environment, last):
    words = ["-m", "experiments.gan", "--help"]
    assert starts(ROOT / "launch.sh", "gan", "--help", **environment) == [(words, last)]


@pytest.mark.parametrize(
    "words",
    first(
        [
            ["-c", "import experiments; import experiments.gan"],
            ["-c", "import sys; del sys.argv[0]; import experiments", ABSENT],
            ["-m", "experiments"],
            ["-m", "experiments", "list"],
            ["-m", "experiments._absent"],
            ["-m", "notebook"],
            ["-m", "notebook", "-m", ABSENT],
            ["notebook.py", "-m", ABSENT],
            ["-m", "cProfile", "-m", ABSENT],
        ],
        3,
    ),
)
def test_other_programs_do_not_restart(starts, tmp_path, words):
    # like a debugger, it sets sys.argv[0] to -m, as Python does, before it imports the module
    (tmp_path / "notebook.py").write_text("import sys\nsys.argv = ['-m', *sys.argv[3:]]\nimport experiments\n")
    assert starts(sys.executable, *words) == [(words, NONE)]


def digest(workdir):
    """Returns a hash of the weights of a finished run."""
    hashed = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(jaxdl.load(workdir, image_classifier).variables):
        hashed.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return hashed.hexdigest()


@pytest.mark.full
def test_the_same_weights_however_a_run_is_started(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("from experiments import image_classifier\nfrom jaxdl import run\n\nrun.main(image_classifier)\n")
    flags = (
        "--dataset=digits", "--model=cnn", "--seeds=1", "--steps=4", "--augment=none", "--devices=1",
        "--tensorboard=false", "--progress=false",
    )  # fmt: skip
    ways = {
        "module": [sys.executable, "-m", "experiments.image_classifier"],
        "launcher": [ROOT / "launch.sh", "image_classifier"],
        "own": [sys.executable, own],
    }
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHON": sys.executable}

    def start(name):
        command = [*ways[name], *flags, f"--workdir={tmp_path / name}"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)

    with ThreadPoolExecutor() as pool:  # in parallel, because imports take most of the time, on one core each
        for done in pool.map(start, ways):
            assert done.returncode == 0, done.stderr[-2000:]
    assert len({digest(tmp_path / name) for name in ways}) == 1
