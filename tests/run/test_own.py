"""A user's experiment outside of the checkout: it is run, loaded, used and compared, and not confused with others."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["checkout", pytest.param("wheel", marks=pytest.mark.full)])
def installed(request, tmp_path_factory):
    """Returns the folder from which jaxdl and experiments are imported."""
    if request.param == "checkout":
        return ROOT
    built, target = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", built, ROOT], check=True)
    (wheel,) = built.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    assert not (target / "tools").exists()
    return target


@pytest.fixture
def cli(installed, tmp_path):
    """Returns a function that runs python with arguments outside of the checkout."""
    env = {**os.environ, "PYTHONPATH": str(installed), "JAX_NUM_CPU_DEVICES": "1"}
    env.pop("JAXDL_DATA_DIR", None)

    def run(*words):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.mark.claims
def test_from_a_skeleton_to_predictions(cli, tmp_path):
    from PIL import Image

    assert cli("-m", "experiments", "new", "mine").returncode == 0
    done = cli("mine.py", "--steps=60", "--workdir=r", "--progress=false", "--tensorboard=false")
    assert done.returncode == 0, done.stderr
    source = json.loads((tmp_path / "r/config.json").read_text())["source"]
    assert (source["module"], source["file"], len(source["sha256"])) == ("", str(tmp_path / "mine.py"), 64)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "dark.png")

    by_itself = cli("mine.py", "--workdir=r", "--predict=dark.png")
    by_name = cli("-m", "experiments", "predict", "r", "dark.png", "--module=mine.py")
    assert by_itself.stdout == by_name.stdout
    assert by_name.stdout.splitlines()[1].startswith("dark.png")
    scored = cli("-m", "experiments", "evaluate", "r", "digits", "--module=mine.py")
    assert scored.stdout.splitlines()[1].startswith("accuracy")
    load = "import jaxdl, mine; run = jaxdl.load('r', mine); print(run.config.steps, run.model.features)"
    assert cli("-c", load).stdout == "60 (64, 10)\n"
    assert "mine" in cli("-m", "experiments", "list", "--runs", "--dir=.").stdout
    assert cli("-m", "experiments", "compare", "r", "r").returncode == 0

    # without a module nothing is imported, whatever file the folder names
    (tmp_path / "mine.py").rename(tmp_path / "other.py")
    for words in (("-m", "experiments", "predict", "r", "dark.png"), ("-c", "import jaxdl; jaxdl.load('r')")):
        done = subprocess_line(cli, *words)
        assert re.search(f"'mine' .*{re.escape(str(tmp_path / 'mine.py'))}.*--module=FILE", done)
    # a renamed file is the same code, an edited file is not
    assert cli("-m", "experiments", "predict", "r", "dark.png", "--module=other.py").stdout == by_name.stdout
    with (tmp_path / "other.py").open("a") as file:
        file.write("# another line\n")
    done = cli("-m", "experiments", "predict", "r", "dark.png", "--module=other.py")
    assert done.returncode == 65
    assert re.match(f"error: r: .*{re.escape(str(tmp_path / 'mine.py'))}.*{source['sha256'][:8]}\\b", done.stderr)
    assert done.stderr.count("\n") == 1


def subprocess_line(cli, *words):
    """Returns the error of a refused call: its exception or its line on stderr."""
    try:
        return cli(*words).stderr
    except AssertionError as error:  # `load` raises, as it should
        return str(error)


@pytest.mark.claims
@pytest.mark.parametrize(
    ("module", "status", "told"),
    [
        ("none.py", 66, "--module=none.py: "),
        ("empty.py", 65, "--module=empty.py: "),
        ("broken.py", 65, "--module=broken.py: cannot be imported (SyntaxError"),
        ("notes.txt", 65, "--module=notes.txt: "),
    ],
)
def test_what_is_no_experiment_is_one_line(cli, tmp_path, module, status, told):
    (tmp_path / "empty.py").touch()
    (tmp_path / "broken.py").write_text("def\n")
    (tmp_path / "notes.txt").write_text("1 + 1\n")
    done = cli("-m", "experiments", "predict", "r", "x.png", f"--module={module}")
    assert (done.returncode, done.stderr.count("\n")) == (status, 1)
    assert told in done.stderr


@pytest.mark.full
def test_a_file_named_like_an_experiment_is_not_taken_for_it(cli, tmp_path):
    """A run of a user's gan.py is not a run of experiments.gan."""
    cli("-m", "experiments", "new", "gan")
    done = cli("gan.py", "--steps=3", "--workdir=r", "--progress=false", "--tensorboard=false")
    assert done.returncode == 0, done.stderr
    done = cli("-m", "experiments", "predict", "r", "x.png")
    assert re.search(f"'gan' .*{re.escape(str(tmp_path / 'gan.py'))}.*--module=FILE", done.stderr)
