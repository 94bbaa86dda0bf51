"""A run of an experiment and everything that can be done with its folder, for the gates that damage it."""

import contextlib
import io
import re
import shutil
from pathlib import Path

from sklearn.datasets import load_iris

import jaxdl
from experiments.__main__ import main as experiments
from jaxdl.data import DataError, MissingData
from jaxdl.run import FlagError
from jaxdl.run.store.files import read_json
from tests.reliability.conftest import digests, rows
from tests.reliability.nursery import Nursery

MODULE = "experiments.tabular"
READING = ("load", "list", "compare")  # in this process; the others are commands
HALF = 105  # changes of the file system until there are two checkpoints
COMMANDS = ("again", "unfinished", "predict")
ACTIONS = READING + COMMANDS
FLAGS = ("--target=kind", "--epochs=12", "--checkpoint_every=8", "--eval_every=8", "--tensorboard=false",
         "--progress=false")  # fmt: skip


class Runs:
    """A finished run, the same run killed half-way, and the actions on a copy of either."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.table, self.new = folder, folder / "iris.csv", folder / "new.csv"
        x, kinds = load_iris(return_X_y=True)
        lines = [f"{a},{b},{c},{d},kind {kind}\n" for (a, b, c, d), kind in zip(x, kinds, strict=True)]
        self.table.write_text("a,b,c,d,kind\n" + "".join(lines))
        self.new.write_text("a,b,c,d\n" + "5.1,3.5,1.4,0.2\n6.7,3.1,4.4,1.4\n")
        self.nursery = Nursery(MODULE, "matplotlib.figure", "sklearn.ensemble", "sklearn.linear_model")
        self.finished, self.unfinished, self.other = folder / "finished", folder / "unfinished", folder / "other"
        status, said = self.command(self.finished, "again")
        assert status == 0, said
        shutil.copytree(self.finished, self.other)
        words = self.words(self.unfinished, "again")
        process = self.nursery.start(words, self.folder / "said", kill_at=HALF, module=MODULE)
        process.wait()
        assert len(list((self.unfinished / "checkpoints").glob("[0-9]*"))) > 1, process.said()
        assert not (self.unfinished / "result.json").exists()
        self._expected: dict[str, tuple[int, str, object]] = {}

    def expected(self, action: str) -> tuple[int, str, object]:
        """The result of the action on an undamaged run."""
        if action not in self._expected:
            found = self.act(self.copy(action), action)
            assert found[0] == 0, found
            self._expected[action] = found
        return self._expected[action]

    def words(self, place: Path, action: str) -> list[str]:
        training = [f"--table={self.table}", *FLAGS, *(["--overwrite"] if action == "overwrite" else [])]
        return [f"--workdir={place}", *([f"--predict={self.new}"] if action == "predict" else training)]

    def copy(self, action: str) -> Path:
        """A new copy of the run that the action needs, always in the same place."""
        place = self.folder / "runs" / "run"
        shutil.rmtree(place.parent, ignore_errors=True)
        place.parent.mkdir()
        shutil.copytree(self.unfinished if action == "unfinished" else self.finished, place, symlinks=True)
        return place

    def command(self, place: Path, action: str) -> tuple[int, str]:
        """Runs the experiment's command -> (exit status, output)."""
        process = self.nursery.start(self.words(place, action), self.folder / "said", module=MODULE)
        return process.wait(60), process.said()

    def act(self, place: Path, action: str) -> tuple[int, str, object]:
        """(exit status, output, result)."""
        if action == "load":
            try:
                return 0, "", digests(jaxdl.load(place).variables)
            except (DataError, MissingData, FlagError) as error:
                return 2, f"error: {error}", None
        if action in READING:
            return self.shown(place, action)
        status, said = self.command(place, action)
        return status, said, self.left(place, action) if status == 0 else None

    def shown(self, place: Path, action: str) -> tuple[int, str, object]:
        """The output of list or compare for a run next to another one."""
        shutil.copytree(self.other, place.parent / "other")
        words = ["list", "--runs", f"--dir={place.parent}"]
        if action == "compare":
            words = ["compare", str(place), str(place.parent / "other"), f"--out={self.folder / 'compared.png'}"]
        status, said = in_process(words)
        lines = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", said).splitlines()
        shown = sorted(
            " ".join(line.split()) for line in lines
        )  # a list shows the newest first; a table has wide columns
        return status, said, shown if status == 0 else None

    def left(self, place: Path, action: str) -> object:
        if action == "predict":
            return (place / "predictions.csv").read_text()
        claims = [(c["name"], c["quantities"]) for c in read_json(place / "summary.json")["claims"]]
        return read_json(place / "result.json")["metrics"], rows(place), claims


def in_process(words):
    """Runs `python -m experiments WORDS` -> (exit status, output)."""
    said, status = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            experiments(words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return status, said.getvalue()
