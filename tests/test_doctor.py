"""`jaxdl doctor`: what it finds here, in broken places, and its exit status."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import pytest

from jaxdl import doctor, tuned, variables
from jaxdl.console import main
from jaxdl.data.images import IMAGE_SETS
from jaxdl.data.known import KNOWN
from jaxdl.data.tables import TABLES
from jaxdl.data.text import TEXTS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def given(monkeypatch, tmp_path):
    """The environment that the report is about, and a folder of its own to be called in."""
    environment: dict[str, str] = {}
    monkeypatch.setattr(doctor, "GIVEN", environment)
    monkeypatch.chdir(tmp_path)
    return environment


def of(title):
    """{name: line} of one part."""
    return {line.name: line for line in doctor._guarded(title, doctor.PARTS[title])}


def test_the_command_as_text_and_as_json(given, capsys):
    for words in (["doctor"], ["doctor", "--json"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
    text, _, report = capsys.readouterr().out.partition("{")
    report = json.loads("{" + report)
    assert list(report["sections"]) == list(doctor.PARTS)
    assert report["problems"] == []
    lines = text.splitlines()
    assert [line for line in lines if line and line[0] not in " !"][:-1] == list(doctor.PARTS)
    columns = {line.index(line[2:].split("  ")[1].lstrip()) for line in lines if re.match(r"  \w+ {3,}\S", line)}
    assert len(columns) == 1
    devices = {line["name"]: line["value"] for line in report["sections"]["Devices"]}
    assert devices["backend"].startswith(f"cpu, {jax.device_count()} devices")
    assert {line["name"]: line["value"] for line in report["sections"]["Versions"]}["jax"] == metadata.version("jax")


def test_an_unknown_flag_is_a_mistake(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", "--jsn"])
    assert "--json" in capsys.readouterr().err


def test_wrong_and_missing_packages_are_problems(given, monkeypatch, capsys):
    version = lambda name: {"jax": "0.4.1", "optax": None}.get(name, "9999" if name == "orbax-checkpoint" else "1000")
    monkeypatch.setattr(doctor, "_version", version)
    monkeypatch.setattr(doctor, "PARTS", {"Versions": doctor.versions})
    assert doctor.examine() == 1
    marked = {line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("!")}
    assert marked >= {"jax", "optax", "orbax-checkpoint"}
    assert "flax" not in marked


def test_devices_that_do_not_start_are_a_problem(given, monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'cuda'\nmore")

    monkeypatch.setattr(jax, "devices", fail)
    assert of("Devices")["error"] == ("error", "RuntimeError: Unable to initialize backend 'cuda'", True)


@pytest.mark.parametrize("title", [title for title in doctor.PARTS if title not in ("Versions", "Devices")])
def test_a_part_that_fails_otherwise_is_a_line(title):
    def broken():
        raise OSError("no such thing")
        yield

    (line,) = doctor._guarded(title, broken)
    assert line == ("error", "OSError: no such thing", False)


def test_settings_name_what_is_set_and_by_whom(given):
    given |= {"XLA_FLAGS": "--own", "JAXDL_DATADIR": "/x", "JAX_ENABLE_X64": "1", "HOME": "/root"}
    found = of("Settings")
    assert set(found) == {"GLIBC_TUNABLES", "XLA_FLAGS", "JAXDL_DATADIR", "JAX_ENABLE_X64"}
    assert found["XLA_FLAGS"].value.startswith("--own (given")
    assert "JAXDL_DATA_DIR" in found["JAXDL_DATADIR"].value
    assert "64-bit" in found["JAX_ENABLE_X64"].value
    given["JAXDL_TUNED"] = "0"
    del given["XLA_FLAGS"]
    assert "JAXDL_TUNED=0" in of("Settings")["GLIBC_TUNABLES"].value or not tuned.has_glibc()


def test_every_variable_that_is_read_has_its_purpose():
    found = subprocess.run(
        ["grep", "-rhoE", r"\bJAXDL_[A-Z_]+[A-Z]\b", "jaxdl", "experiments", "launch.sh"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    tests = {"JAXDL_MARGIN", "JAXDL_PROMISES"}
    assert set(found.stdout.split()) - tests == set(variables.OF_JAXDL)
    assert all(variables.purpose(name) == variables.OF_JAXDL[name] for name in variables.OF_JAXDL)
    known = set(jax.config.values)
    assert {name for name in variables.OF_JAX if name.lower() not in known} <= {
        "JAX_COORDINATOR_ADDRESS", "JAX_COORDINATOR_PORT", "JAX_COORDINATOR_BIND_ADDRESS", "JAX_LOCAL_DEVICE_IDS",
    }  # fmt: skip


def test_the_cache_of_compiled_programs(given, tmp_path):
    given["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "cache")
    assert "first run" in of("Compilation cache")["folder"].value
    (tmp_path / "cache").mkdir()
    for name, size in {"a-cache": 1000, "b-cache": 2000, "a-atime": 8}.items():
        (tmp_path / "cache" / name).write_bytes(b"x" * size)
    assert of("Compilation cache")["content"].value == "2 programs, 3.01 kB"
    given["JAX_ENABLE_COMPILATION_CACHE"] = "False"
    assert of("Compilation cache")["cache"].value.startswith("off")


def test_data_sets_whole_in_part_and_not_there(given, tmp_path):
    assert set(of("Data")) == {"JAXDL_DATA_DIR", "without files"}
    given["JAXDL_DATA_DIR"] = str(tmp_path / "none")
    assert "no such folder" in of("Data")["error"].value
    given["JAXDL_DATA_DIR"] = str(tmp_path)
    (tmp_path / "usps").mkdir()
    (tmp_path / "usps" / "zip.train.gz").touch()
    (tmp_path / "input.txt").touch()
    found = of("Data")
    assert found["usps"].value == "incomplete, without zip.test"
    assert found["tinyshakespeare"].value == "found, 1 file"
    assert found["wikitext2"].value == "not found (wikitext-2/train.txt)"
    assert not any(line.problem for line in found.values())


def test_every_data_set_is_known_or_needs_no_files(given):
    needless = set(of("Data")["without files"].value.split(", "))
    assert needless | set(KNOWN) == {*IMAGE_SETS, *TABLES, *TEXTS}


@pytest.mark.parametrize("name", KNOWN)
def test_the_original_files_are_found_where_their_readers_look(name, data_dir):
    if KNOWN[name].missing(data_dir):
        pytest.skip(f"{name}: not all files are here")
    assert all(path.exists() for path in KNOWN[name].paths(data_dir))


def test_extras_say_what_installs_them(given, monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert re.search(r'without starlette|not installed.*pip install "jaxdl\[serve\]"', of("Extras")["serve"].value)


def test_an_old_bash_is_named(given, monkeypatch):
    told = subprocess.CompletedProcess([], 0, "GNU bash, version 3.2.57(1)-release (arm64)", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: told)
    assert "5.1" in of("launch.sh")["bash"].value
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert "not found" in of("launch.sh")["bash"].value


def test_a_folder_that_cannot_be_written(given, monkeypatch):
    assert "can be written" in of("Runs")["folder"].value

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert "cannot be written (Permission denied)" in of("Runs")["folder"].value


def test_no_run_imports_it():
    found = subprocess.run(
        ["grep", "-rlE", r"import .*\b(doctor|variables)\b", "jaxdl", "experiments", "--include=*.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(found.stdout.split()) == {"jaxdl/console.py", "jaxdl/doctor.py"}


def test_it_works_without_jax(tmp_path):
    (tmp_path / "jax.py").write_text("raise ImportError('broken')")
    done = subprocess.run(
        [sys.executable, "-m", "jaxdl.console", "doctor"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "! error" in done.stdout
    assert "ImportError: broken" in done.stdout
