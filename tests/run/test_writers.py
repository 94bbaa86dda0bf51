"""Where the rows of a history go besides metrics.jsonl."""

import sys
from types import SimpleNamespace

import pytest

from jaxdl.core import Experiment, State
from jaxdl.run import FlagError, RunConfig, fit

QUIET = {"progress": False, "tensorboard": False, "devices": 1, "log_every": 2}


def experiment():
    return Experiment(State.create, lambda state, _: (state.advance(), {"loss": 1.0 / (1 + state.step)}))


def test_a_hook_sees_each_row_once_also_over_a_resume(tmp_path):
    seen = []
    config = RunConfig(steps=4, workdir=str(tmp_path), **QUIET)
    fit(experiment(), None, config, on_row=seen.append)
    result = fit(experiment(), None, config, steps=8, on_row=seen.append)
    assert [row["step"] for row in seen] == [2, 4, 6, 8]
    assert seen == result.history
    fit(experiment(), None, config, steps=8, on_row=seen.append)  # has ended: nothing is new
    assert len(seen) == 4


class Fake:
    """wandb's init, log and finish, as far as they are called."""

    Error = RuntimeError

    def __init__(self):
        self.began, self.rows, self.ended = [], [], 0

    def init(self, **options):
        self.began.append(options)
        if options["project"] == "refused":
            raise self.Error("no such entity\nand more")
        return SimpleNamespace(log=lambda row, step: self.rows.append((step, row)), finish=self.finish)

    def finish(self):
        self.ended += 1


def test_weights_and_biases_gets_rows_flags_and_one_id_for_a_resumed_fit(tmp_path, monkeypatch):
    wandb = Fake()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = RunConfig(steps=4, workdir=str(tmp_path), wandb="mine", **QUIET)
    fit(experiment(), None, config, name="a")
    fit(experiment(), None, config, steps=6, name="a")
    first, again = wandb.began
    assert first["id"] == again["id"]
    assert (first["project"], first["name"], first["resume"]) == ("mine", "a", "allow")
    assert first["config"]["steps"] == 4
    assert [(step, list(row)) for step, row in wandb.rows] == [(t, ["train/loss"]) for t in (2, 4, 6)]
    assert wandb.ended == 2
    with pytest.raises(FlagError, match=r"^--wandb=refused: no such entity$"):
        fit(experiment(), None, config, wandb="refused", workdir=None)


def test_without_weights_and_biases_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(FlagError, match=r"^--wandb=mine: needs wandb; pip install jaxdl\[wandb\]$"):
        fit(experiment(), None, RunConfig(steps=1, wandb="mine", **QUIET))


def test_the_real_one_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    fit(experiment(), None, RunConfig(steps=4, workdir=str(tmp_path), wandb="mine", **QUIET))
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
