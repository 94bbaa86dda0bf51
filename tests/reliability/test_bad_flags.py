"""R12: an invalid command line gives a one-line error with exit status 2 within a second, and writes no files."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.image_classifier import Config
from jaxdl.run import FlagError
from jaxdl.run.command.flags import parse
from jaxdl.run.store.files import read_json, write_json
from jaxdl.run.store.folder import open_run
from jaxdl.run.store.lock import locked
from tests.reliability.conftest import snapshot
from tests.reliability.nursery import environment

SECONDS = 3  # the promise is one second on an idle machine

# command line -> text that the error must contain; RUN is a run's folder, FILE a file, FULL a folder without a run
WRONG = {
    "--learningrate=1": "--learning_rate",
    "--batchsize=3": "--batch_size",
    "--optimiser=sgd": "--optimizer",
    "--wrokdir=x": "--workdir",
    "--nooptimizer": "--nooptimizer",
    "--steps=-1": "--steps=-1",
    "--steps=1.5": "--steps=1.5",
    "--steps=": "--steps=: ",
    "--steps=many": "--steps=many",
    "--steps=1e3": "--steps=1e3",
    "--epochs=nan": "--epochs=nan",
    "--epochs=-1": "--epochs=-1",
    "--epochs=inf": "--epochs=inf",
    "--steps=5 --epochs=5": "--steps=5 --epochs=5",
    "--batch_size=0": "--batch_size=0: ",
    "--batch_size=-8": "--batch_size=-8",
    "--batch_size=1.5": "--batch_size=1.5",
    "--seed=-1": "--seed=-1",
    "--seed=99999999999": "--seed=99999999999",
    "--seed=one": "--seed=one",
    "--seeds=-1": "--seeds=-1",
    "--eval_every=-1": "--eval_every=-1",
    "--monitor_mode=low": "min|max",
    "--patience=-3": "--patience=-3",
    "--optimizer=adan": "adam?",
    "--learning_rate=nan": "--learning_rate=nan",
    "--learning_rate=-0.1": "--learning_rate=-0.1",
    "--learning_rate=1,5": "--learning_rate=1,5",
    "--momentum=1": "--momentum=1.0",
    "--momentum=-0.1": "--momentum=-0.1",
    "--beta2=1": "--beta2=1.0",
    "--rms_decay=2": "--rms_decay=2.0",
    "--weight_decay=-1": "--weight_decay=-1.0",
    "--clip_norm=0": "--clip_norm=0.0",
    "--clip_value=-1": "--clip_value=-1.0",
    "--schedule=cosin": "cosine?",
    "--warmup=-1": "--warmup=-1",
    "--decay_rate=0": "--decay_rate=0.0",
    "--decay_rate=0.5 --schedule=cosine": "with --schedule=cosine",
    "--rms_decay=0.8": "with --optimizer=adam",
    "--mirror=https://a.b": "without --download",
    "--seed=2147483647 --seeds=2": "2147483648",
    "--lr=1": "--learning_rate",
    "--final_fraction=2": "--final_fraction=2.0",
    "--accumulate=0": "--accumulate=0",
    "--freeze=(": "freeze",
    "--freeze=[a": "freeze",
    "--checkpoint_every=-5": "--checkpoint_every=-5",
    "--log_every=0": "--log_every=0",
    "--tensorboard=maybe": "--tensorboard=maybe",
    "--overwrite=2": "--overwrite=2",
    "--parallel=ddp": "jit|pmap",
    "--devices=-1": "--devices=-1",
    "--scan=-1": "--scan=-1",
    "--dataset=mnits": "mnist?",
    "--model=resnet19": "resnet18?",
    "--image_size=-1": "--image_size=-1",
    "mnist": "mnist: ",
    "-x": "-x",
    "--flagfile=/none/such": "/none/such",
    "--flagfile=FULL": "FULL",
    "--workdir=FILE": "FILE: ",
    "--workdir=FILE/below": "FILE/below",
    "--workdir=FULL": "FULL: ",
    "--workdir=BROKEN": "BROKEN/config.json",
    "--workdir=RUN --learning_rate=0.5": "--learning_rate",
    "--workdir=RUN --seed=1 --learning_rate=0.25": "--seed",
    "--workdir=OTHER": "gan",
}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Makes a working folder with obstacles; returns a function that lists its content."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    for name in ("FULL", "BROKEN", "OTHER"):
        (tmp_path / name).mkdir()
    (tmp_path / "FULL" / "thesis.tex").touch()
    (tmp_path / "BROKEN" / "config.json").write_text("{")
    open_run(Config(workdir="RUN", learning_rate=0.25), "image_classifier")
    record = read_json(tmp_path / "RUN" / "config.json")
    write_json(tmp_path / "OTHER" / "config.json", record | {"experiment": "gan"})
    return lambda: snapshot(tmp_path)


def begun(words):
    """Does what `main` does before it calls the experiment's own code."""
    config = parse(Config, words)
    config = dataclasses.replace(config, workdir=config.workdir or "new")
    with locked(Path(config.workdir)):
        open_run(config, "image_classifier")


@pytest.mark.parametrize("line", WRONG)
def test_one_line_and_nothing_made(line, places, promise):
    before = places()
    with pytest.raises(FlagError) as caught:
        begun(line.split(" "))
    told = str(caught.value)
    promise("R12", "\n" not in told and WRONG[line] in told and places() == before, 1, told)


def test_there_are_enough():
    assert len(WRONG) >= 40


@pytest.mark.claims
def test_in_a_process_and_in_time(places, promise):
    lines, best, passed, before = ("--learningrate=1", "--workdir=FULL", "--batch_size=0"), 1e9, 0, places()
    for line in lines:
        command, started = [sys.executable, "-m", "experiments.image_classifier", line], sum(os.times()[2:4])
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
        best = min(best, sum(os.times()[2:4]) - started)  # processor time: other tests run at the same time
        good = done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        passed += good and WRONG[line] in done.stderr
    assert best < SECONDS
    promise("R12", passed * (places() == before), len(lines), f"processes, processor time {best:.1f} s at least")
