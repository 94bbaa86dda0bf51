"""Destinations of a history besides metrics.jsonl."""

import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from jaxdl.core import Experiment, State
from jaxdl.run import FlagError, RunConfig, fit
from jaxdl.run.store.tensorboard import write_report

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
    fit(experiment(), None, config, steps=8, on_row=seen.append)  # finished: no new rows
    assert len(seen) == 4


class Fake:
    """wandb's init, log and finish, as far as they are used."""

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
    with pytest.raises(FlagError, match=r"--wandb=mine: .*jaxdl\[wandb\]"):
        fit(experiment(), None, RunConfig(steps=1, wandb="mine", **QUIET))


def test_the_real_one_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    fit(experiment(), None, RunConfig(steps=4, workdir=str(tmp_path), wandb="mine", **QUIET))
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_report_holds_hyper_parameters_pictures_and_texts(tmp_path):
    """Reads the report as TensorBoard does; a second report replaces the first."""
    from PIL import Image
    from tensorboardX.proto.event_pb2 import Event

    (tmp_path / "deep").mkdir()
    (tmp_path / "broken.png").write_text("none")
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(tmp_path / "deep" / "one.png")
    for rate in (0.1, 0.5):
        flags = {"rate": rate, "model": "cnn", "on": True, "none": None}
        write_report(tmp_path, flags, {"test/loss": 0.25}, {"claims": "a claim"})
    (path,) = (tmp_path / "tensorboard" / "report").iterdir()
    content, at, found = path.read_bytes(), 0, {}
    while at < len(content):
        (length,) = struct.unpack("<Q", content[at : at + 8])
        for value in Event.FromString(content[at + 12 : at + 12 + length]).summary.value:
            found[value.tag] = value
        at += 16 + length
    assert found["test/loss"].simple_value == 0.25
    assert (found["deep/one.png"].image.width, found["deep/one.png"].image.height) == (7, 5)
    assert found["deep/one.png"].image.encoded_image_string == (tmp_path / "deep/one.png").read_bytes()
    assert found["claims/text_summary"].tensor.string_val == [b"    a claim"]
    start = found["_hparams_/session_start_info"].metadata.plugin_data.content
    assert b"rate" in start
    assert struct.pack("<d", 0.5) in start
    assert struct.pack("<d", 0.1) not in start
    assert b"cnn" in start
    assert b"none" not in start
