"""R19 and S6: a run folder whose files are damaged, and one that somebody made to do harm.

Whatever is done to a file, an action on the run either gives what it gave before, or says in one line which file it
cannot use; and whatever a folder holds, nothing outside it is changed, nothing in it is run and nothing raw is shown.
"""

import os
import random
import re
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.datasets import load_iris

import jaxdl
from experiments.__main__ import main as experiments
from jaxdl.data import DataError, MissingData
from jaxdl.run import FlagError
from jaxdl.run.files import read_json, write_json
from tests.reliability.conftest import digests, rows
from tests.reliability.nursery import Nursery

NEVER = 10**9
MODULE = "experiments.tabular"
READING = ("load", "list", "compare")  # in this process; the others are commands
COMMANDS = ("again", "unfinished", "predict")
ACTIONS = READING + COMMANDS
FLAGS = ("--target=kind", "--epochs=12", "--checkpoint_every=8", "--eval_every=8", "--tensorboard=false",
         "--progress=false")  # fmt: skip


class Runs:
    """A finished run, the same killed half-way, and what can be done with a copy of either."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.table, self.new = folder, folder / "iris.csv", folder / "new.csv"
        iris = load_iris()
        lines = [",".join(map(str, x)) + f",{iris.target_names[y]}\n" for x, y in zip(iris.data, iris.target, strict=True)]
        self.table.write_text("a,b,c,d,kind\n" + "".join(lines))
        self.new.write_text("a,b,c,d\n" + "5.1,3.5,1.4,0.2\n6.7,3.1,4.4,1.4\n")
        self.nursery = Nursery(MODULE, "matplotlib.figure", "sklearn.ensemble", "sklearn.linear_model")
        self.finished, self.unfinished, self.other = folder / "finished", folder / "unfinished", folder / "other"
        status, said = self.command(self.finished, "again")
        assert status == 0, said
        shutil.copytree(self.finished, self.other)
        process = self.nursery.start(self.words(self.unfinished, "again"), self.folder / "said", 0, 70, MODULE)
        process.wait()
        kept = [p.name for p in (self.unfinished / "checkpoints").glob("[0-9]*")]
        assert kept and not (self.unfinished / "result.json").exists(), process.said()
        self.expected = {}
        for action in ACTIONS:
            place = self.copy(action)
            self.expected[action] = self.act(place, action)
            assert self.expected[action][0] == 0, self.expected[action]

    def words(self, place: Path, action: str) -> list[str]:
        training = [f"--table={self.table}", *FLAGS]
        return [f"--workdir={place}", *([f"--predict={self.new}"] if action == "predict" else training)]

    def copy(self, action: str) -> Path:
        """A new copy of the run that the action is about, always at the same place."""
        place = self.folder / "runs" / "run"
        shutil.rmtree(place.parent, ignore_errors=True)
        place.parent.mkdir()
        shutil.copytree(self.unfinished if action == "unfinished" else self.finished, place, symlinks=True)
        return place

    def command(self, place: Path, action: str) -> tuple[int, str]:
        """Runs the experiment's command: its exit status and what it said."""
        process = self.nursery.start(self.words(place, action), self.folder / "said", 0, 0, MODULE)
        return process.wait(60), process.said()

    def act(self, place: Path, action: str) -> tuple[int, str, object]:
        """(exit status, what was said, what came of it)."""
        if action == "load":
            try:
                return 0, "", digests(jaxdl.load(place).variables)
            except (DataError, MissingData, FlagError) as error:
                return 2, f"error: {error}", None
        if action in COMMANDS:
            status, said = self.command(place, action)
            return status, said, self.left(place, action) if status == 0 else None
        return self.shown(place, action)

    def shown(self, place: Path, action: str) -> tuple[int, str, object]:
        """What list or compare shows of a run beside another one."""
        shutil.copytree(self.other, place.parent / "other")
        words = ["list", "--runs", f"--dir={place.parent}"]
        if action == "compare":
            words = ["compare", str(place), str(place.parent / "other"), f"--out={self.folder / 'compared.png'}"]
        status, said = in_process(words)
        return status, said, re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "WHEN", said) if status == 0 else None

    def left(self, place: Path, action: str) -> object:
        if action == "predict":
            return (place / "predictions.csv").read_text()
        claims = [(c["claim"], c["measured"].split(" in ")[0]) for c in read_json(place / "summary.json")["claims"]]
        return read_json(place / "result.json")["metrics"], rows(place), claims


def in_process(words):
    """The exit status of `python -m experiments WORDS` and what it says."""
    import contextlib
    import io

    said, status = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            experiments(words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return status, said.getvalue()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    made = Runs(tmp_path_factory.mktemp("folder"))
    yield made
    made.nursery.close()


def flipped(path, draw):
    content = bytearray(path.read_bytes() or b"\0")
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def replaced(make):
    def how(path, draw):
        path.unlink()
        make(path)

    return how


DAMAGES = {
    "flip": flipped,
    "cut": lambda path, draw: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path, draw: path.write_bytes(b""),
    "deleted": replaced(lambda path: None),
    "folder": replaced(lambda path: path.mkdir()),
    "link to nothing": replaced(lambda path: path.symlink_to(path.with_name("nothing"))),
    "pipe": replaced(os.mkfifo),
    "null": lambda path, draw: path.write_text("null\n"),
    "[]": lambda path, draw: path.write_text("[]\n"),
    "{}": lambda path, draw: path.write_text("{}\n"),
}


def held(found, expected, name: str) -> str:
    """What is wrong with an answer, "" if nothing: the same result, or one line that names the file."""
    status, said, result = found
    if "Traceback" in said or "\x1b" in said:
        return "a traceback or an escape sequence"
    if status == 0:
        told = isinstance(result, str) and (name in result or "at step" in result)  # a table's line that says what fails
        return "" if result == expected[2] or told else "another result"
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    return "" if len(errors) == 1 and name in errors[0] else "not one line that names the file"


def named(path: Path, run: Path) -> str:
    """What an error calls a file: in a checkpoint, its folder will do."""
    inside = path.relative_to(run).parts
    return "/".join(inside[:2]) if inside[0] == "checkpoints" else path.name


def damaged(runs, action, pick):
    """Tries every (file, damage) of the action's run that `pick` picks: (how many held, how many, what did not)."""
    wrong, tried, draw = [], 0, random.Random(action)
    files = sorted(p.relative_to(runs.copy(action)) for p in runs.copy(action).rglob("*") if p.is_file())
    for file, kind in pick([(file, kind) for file in files for kind in DAMAGES]):
        place = runs.copy(action)
        DAMAGES[kind](place / file, draw)
        fault = held(found := runs.act(place, action), runs.expected[action], named(place / file, place))
        tried += 1
        if fault:
            wrong.append((str(file), kind, fault, found[0], found[1][-300:]))
    return tried - len(wrong), tried, wrong


@pytest.mark.parametrize("action", READING)
def test_some_damage_in_every_file(runs, promise, action):
    draw = random.Random(action)
    pick = lambda cases: draw.sample(cases, 40)
    passed, tried, wrong = damaged(runs, action, pick)
    promise("R19", passed, tried, f"{action}; failed: {wrong}" if wrong else action)


@pytest.mark.full
@pytest.mark.parametrize("action", ACTIONS)
def test_every_damage_in_every_file(runs, promise, action):
    passed, tried, wrong = damaged(runs, action, lambda cases: cases)
    promise("R19", passed, tried, f"{action}; failed: {wrong}" if wrong else action)
