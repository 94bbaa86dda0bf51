"""R12: a wrong command line is one line, exit status 2, within a second, and nothing is made on the disk."""

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

SECONDS = 3  # the promise is one second on a machine that does nothing else

# words of the command line -> what the line must have; RUN is a run's folder, FILE a file, FULL somebody else's folder
WRONG = {
    "--learningrate=1": "nearest is --learning_rate",
    "--batchsize=3": "nearest is --batch_size",
    "--optimiser=sgd": "nearest is --optimizer",
    "--wrokdir=x": "nearest is --workdir",
    "--nooptimizer": "--nooptimizer",
    "--steps=-1": "--steps=-1: must be a finite number >= 0",
    "--steps=1.5": "--steps=1.5: must be a whole number",
    "--steps=": "must be a whole number",
    "--steps=many": "--steps=many: must be a whole number",
    "--steps=1e3": "--steps=1e3: must be a whole number",
    "--epochs=nan": "--epochs=nan",
    "--epochs=-1": "--epochs=-1",
    "--epochs=inf": "--epochs=inf",
    "--steps=5 --epochs=5": "give one of the two",
    "--batch_size=0": "--batch_size=0: must be a finite number >= 1",
    "--batch_size=-8": "--batch_size=-8",
    "--batch_size=1.5": "a whole number",
    "--seed=-1": "--seed=-1",
    "--seed=99999999999": "--seed=99999999999",
    "--seed=one": "a whole number",
    "--seeds=-1": "--seeds=-1",
    "--eval_every=-1": "--eval_every=-1",
    "--monitor_mode=low": "min|max",
    "--patience=-3": "--patience=-3",
    "--optimizer=adan": "did you mean adam",
    "--learning_rate=nan": "--learning_rate=nan",
    "--learning_rate=-0.1": "--learning_rate=-0.1",
    "--learning_rate=1,5": "a number",
    "--momentum=1": "--momentum=1.0",
    "--momentum=-0.1": "--momentum=-0.1",
    "--beta2=1": "--beta2=1.0",
    "--rms_decay=2": "--rms_decay=2.0",
    "--weight_decay=-1": "--weight_decay=-1.0",
    "--clip_norm=0": "--clip_norm=0.0",
    "--clip_value=-1": "--clip_value=-1.0",
    "--schedule=cosin": "did you mean cosine",
    "--warmup=-1": "--warmup=-1",
    "--decay_rate=0": "--decay_rate=0.0",
    "--decay_rate=0.5 --schedule=cosine": "--decay_rate=0.5: has no effect with --schedule=cosine",
    "--rms_decay=0.8": "--rms_decay=0.8: has no effect with --optimizer=adam",
    "--mirror=https://a.b": "has no effect without --download",
    "--seed=2147483647 --seeds=2": "the last seed would be 2147483648",
    "--lr=1": "nearest is --learning_rate",
    "--final_fraction=2": "--final_fraction=2.0",
    "--accumulate=0": "--accumulate=0",
    "--freeze=(": "freeze",
    "--freeze=[a": "freeze",
    "--checkpoint_every=-5": "--checkpoint_every=-5",
    "--log_every=0": "--log_every=0",
    "--tensorboard=maybe": "true or false",
    "--overwrite=2": "true or false",
    "--parallel=ddp": "jit|pmap",
    "--devices=-1": "--devices=-1",
    "--scan=-1": "--scan=-1",
    "--dataset=mnits": "did you mean mnist",
    "--model=resnet19": "did you mean resnet18",
    "--image_size=-1": "--image_size=-1",
    "mnist": "mnist: not a flag",
    "-x": "-x",
    "--flagfile=/none/such": "/none/such",
    "--flagfile=FULL": "FULL",
    "--workdir=FILE": "FILE: is a file",
    "--workdir=FILE/below": "FILE/below",
    "--workdir=FULL": "FULL: is not empty and no run's folder",
    "--workdir=BROKEN": "BROKEN/config.json: is damaged",
    "--workdir=RUN --learning_rate=0.5": "--learning_rate was 0.25",
    "--workdir=RUN --seed=1 --learning_rate=0.25": "--seed was 0",
    "--workdir=OTHER": "holds a run of gan",
}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A working folder with things in the way, and what is in it."""
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
    """As far as `main` goes before the experiment's own code."""
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
        best = min(best, sum(os.times()[2:4]) - started)  # of the processor: other tests run beside this one
        good = done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        passed += good and WRONG[line] in done.stderr
    assert best < SECONDS
    promise("R12", passed * (places() == before), len(lines), f"processes, processor time {best:.1f} s at least")
