"""The command jaxdl: its commands, its errors, and a folder `experiments` of the user."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxdl import packaged
from jaxdl.console import main

ROOT = Path(__file__).parents[2]
OWN = '''"""y = factor x, an experiment with a flag of group "use"."""

import numpy as np

from jaxdl import losses, run
from jaxdl.data import Batches, Data
from jaxdl.nn import MLP
from jaxdl.run import flag
from jaxdl.supervision import supervised

FAMILY, CLAIMS, SMALL = "own", {}, {}


class Config(run.RunConfig):
    factor: float = flag(1.0, "factor of the predictions", group="use", affects_result=False)
    steps: int | None = 2


def data(config):
    x = np.arange(7, dtype=np.float32)[:, None]
    return Data(Batches({"x": x, "y": x}, 7), Batches({"x": x, "y": x}, 7), Batches({"x": x, "y": x}, 7))


def build(config, data):
    loss = lambda y, batch: losses.squared_error(y, batch["y"]).mean(-1)
    return supervised(MLP((1,)), config.make_optimizer(), example=data.example, loss=loss, predict=lambda y: y)


def inference(config, data):
    read = lambda words: (words, Batches({"x": np.array([[float(word)] for word in words], np.float32)}, 3))
    return run.Inference(read, table=lambda y: {"y": [config.factor] * len(y)}, words=True)


def report(config, data):
    run.fit(build(config, data), data, config)
    return ()


if __name__ == "__main__":
    run.main()
'''


def call(folder, *words):
    """Runs Python with the given arguments in a folder."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Makes a folder with an experiment, a run of it, and a package `experiments`."""
    folder = tmp_path_factory.mktemp("my work", numbered=False)
    (folder / "own.py").write_text(OWN)
    (folder / "experiments").mkdir()
    (folder / "experiments" / "__init__.py").touch()
    (folder / "experiments" / "mine.py").write_text("NUMBER = 7\n")
    train(folder, "own.py", "own", "python own.py")
    return folder


def train(folder, name, run, again, *more):
    """`jaxdl run NAME` for two steps."""
    quiet = ("--steps=2", "--progress=false", "--tensorboard=false")
    done = call(folder, "-m", "jaxdl.console", "run", name, *quiet, f"--workdir={run}", *more)
    assert done.returncode == 0, done.stderr
    assert f" {again} --workdir={run}" in done.stderr


@pytest.fixture(scope="module")
def trained(place):
    """The same with a run of softmax_regression."""
    again = "python -m experiments.softmax_regression"
    train(place, "softmax_regression", "softmax", again, "--dataset=digits", "--only=fit")


@pytest.fixture
def here(place, monkeypatch):
    """Makes this folder the current one."""
    monkeypatch.chdir(place)
    return place


def refused(capsys, *words):
    """Returns the exit status and the one line of the error."""
    with pytest.raises(SystemExit) as end:
        main(words)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return end.value.code, said


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["run"], 2, "run: "),
        (["run", "image_clasifier", "--help"], 2, "image_clasifier: .*image_classifier"),
        (["run", "own"], 2, "own: .*own.py"),
        (["run", "absent.py"], 66, "absent.py: "),
        (["rnu", "gan"], 2, "rnu: .*jaxdl run"),
        (["gan"], 2, "gan: .*jaxdl run gan"),
        (["my own.py"], 2, "jaxdl run 'my own.py'"),
        (["list", "--run"], 2, "--run: .*--runs"),
        (["compare"], 2, "compare: .*jaxdl list --runs"),
        (["predict", "own"], 2, "INPUT"),
        (["predict", "own", "1", "--module=own.py", "--steps=3"], 2, "--steps: .*finished run"),
        (["predict", "own", "1", "--module=own.py", "--fator=3"], 2, "--fator: .*--factor"),
        (["predict", "own", "1", "--module=own.py", "--factor=x"], 2, "--factor=x: .*number"),
        (["predict", "own", "1", "--module=own.py", "--fit=no"], 66, "own/no: .*fit.json"),
        (["predict", "own", "no/a.csv", "--module=own.py"], 66, "no/a.csv: "),
        (["predict", "nothing", "1"], 66, "nothing: .*config.json"),
    ],
)
def test_a_wrong_word_is_one_line(here, capsys, words, status, told):
    found = refused(capsys, *words)
    assert found[0] == status
    assert re.search(told, found[1])


def test_predict_takes_flags_of_use_and_inputs_that_name_no_file(here, capsys):
    main(["predict", "own", "1.5", "2.5", "--module=own.py", "--factor=3", "--out=said.csv"])
    assert (here / "said.csv").read_text() == "id,y\n1.5,3.0\n2.5,3.0\n"
    main(["predict", "own", "1.5", "--module=own.py"])
    assert (here / "own" / "predictions.csv").read_text() == "id,y\n1.5,1.0\n"


def test_help_and_list_wait_for_no_jax(here):
    code = "import sys; from jaxdl.console import main; main(sys.argv[1:]); assert 'jax' not in sys.modules"
    for words in (["list"], ["--help"], ["compare", "--help"]):
        done = call(here, "-c", code, *words)
        assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) <= 26
    assert all(f"jaxdl {word} " in done.stdout for word in ("run", "list", "compare", "new", "predict", "evaluate"))


USE = """
import sys
{before}
import jaxdl
path, there = sys.path[:], {{name for name in sys.modules if name.startswith("experiments")}}
run = jaxdl.load("softmax")
assert type(run.config).__module__ == "experiments.softmax_regression"
assert type(jaxdl.load("softmax").config) is type(run.config)
assert len(run.predict(run.data.example["x"])) == len(run.data.example["x"])
assert sys.path == path and {{name for name in sys.modules if name.startswith("experiments")}} == there
import experiments.mine
assert experiments.mine.NUMBER == 7 and experiments.__path__[0].endswith("my work/experiments")
try:
    import experiments.softmax_regression
except ImportError:
    print("as it was")
"""


@pytest.mark.full
@pytest.mark.parametrize("before", ["", "import experiments.mine"])
def test_load_beside_a_package_experiments_of_ones_own(here, trained, before):
    done = call(here, "-c", USE.format(before=before))
    assert done.stdout == "as it was\n", done.stderr


@pytest.mark.claims
def test_commands_beside_a_package_experiments_of_ones_own(here, trained):
    words = ("-m", "jaxdl.console", "list")
    listed = call(here, *words)
    assert "softmax_regression" in listed.stdout
    assert "mine" not in listed.stdout
    (row,) = (line for line in call(here, *words, "--runs", "--dir=.").stdout.splitlines() if " softmax " in line)
    # the defaults of the package's experiment are known, so only the changed flag is listed
    assert [word for word in row.split() if word.startswith("--")] == ["--steps=2"]


def test_without_another_package_it_is_the_one_that_is_imported():
    import experiments.gan

    assert packaged.experiment("gan") is experiments.gan
    with pytest.raises(ImportError):
        packaged.experiment("absent")
