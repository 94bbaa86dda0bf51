"""The files of a run: written atomically, sealed, and never through a link."""

import errno
import json
import os
import re

import numpy as np
import pytest

from jaxdl.data import DataError
from jaxdl.run import FlagError, RunConfig, fit
from jaxdl.run.store import history
from jaxdl.run.store.files import read_json, refuse_links, replacing, write, write_json
from jaxdl.run.store.folder import ASIDE, JOURNAL, begun, open_run, undo
from jaxdl.run.store.lock import FIT, locked
from jaxdl.run.store.settings import changed, given, settings, words_for
from jaxdl.streams import printable
from tests.reliability import program
from tests.reliability.conftest import rows, snapshot

RECORD = {"name": "é\x1b", "rate": 0.1, "steps": [1, 2.0, None], "inner": {"a": True}}


def flipped(content: bytes, bit: int) -> bytes:
    found = bytearray(content)
    found[bit // 8] ^= 1 << bit % 8
    return bytes(found)


class TestRecords:
    def test_every_flipped_bit_and_every_cut_is_found(self, tmp_path):
        path = tmp_path / "a.json"
        write_json(path, RECORD)
        assert read_json(path) == RECORD
        content = path.read_bytes()
        damaged = [flipped(content, bit) for bit in range(8 * len(content))]
        for one in [*damaged, *(content[:end] for end in range(len(content)))]:
            path.write_bytes(one)
            with pytest.raises(DataError) as caught:
                read_json(path)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)

    def test_what_is_no_plain_file_is_not_read(self, tmp_path):
        (tmp_path / "target").write_text("{}")
        (tmp_path / "link.json").symlink_to(tmp_path / "target")
        (tmp_path / "nowhere.json").symlink_to(tmp_path / "none")
        (tmp_path / "folder.json").mkdir()
        os.mkfifo(tmp_path / "pipe.json")
        for name in ("link", "nowhere", "folder", "pipe"):
            with pytest.raises(DataError, match=rf"{name}\.json"):
                read_json(tmp_path / f"{name}.json")
        assert read_json(tmp_path / "none.json") is None

    def test_a_write_follows_no_link_and_leaves_nothing_half(self, tmp_path):
        victim = tmp_path / "victim"
        victim.write_text("mine")
        for name in ("a.txt", "a.txt.part"):
            (tmp_path / name).symlink_to(victim)
        write(tmp_path / "a.txt", "new")
        assert (victim.read_text(), (tmp_path / "a.txt").read_text()) == ("mine", "new")
        assert not (tmp_path / "a.txt").is_symlink()
        with pytest.raises(TypeError), replacing(tmp_path / "b.txt") as file:
            file.write("half")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "victim"]
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "er").symlink_to("/etc")
        with pytest.raises(DataError, match="deep/er: "):
            refuse_links(tmp_path)

    def test_a_full_disk_names_the_file(self, tmp_path, monkeypatch):
        log = history.Log(tmp_path)
        log.begin(0)
        log._file.close()
        log._file = open("/dev/full", "w")  # noqa: SIM115
        with pytest.raises(OSError, match=r"metrics\.jsonl"):
            log.add(1, {"train/loss": 0.5})
        log.close()

        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"a\.txt"):
            write(tmp_path / "a.txt", "new")


class TestHistory:
    ROWS = ({"step": 1, "train/loss": 0.1, "seconds": 0.5}, {"step": 2, "train/loss": float("nan"), "seconds": 1.0},
            {"step": 2, "valid/loss": 1e-30, "seconds": 1.5})  # fmt: skip

    def test_every_flipped_bit_of_a_whole_line_is_found(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        content = "".join(history.lines(self.ROWS)[0]).encode()
        path.write_bytes(content)
        assert str(history.read(path)[0]) == str(list(self.ROWS))
        second = content.index(b"\n") + 1
        for bit in range(8 * second, 8 * content.index(b"\n", second)):
            path.write_bytes(flipped(content, bit))
            try:
                found, _, wrong = history.read(path)
            except DataError as error:  # not UTF-8 any more
                found, wrong = self.ROWS[:1], str(error)
            assert len(found) == 1
            assert "line 2" in wrong

    def test_a_line_taken_out_is_found_and_half_a_line_is_none(self, tmp_path):
        path, texts = tmp_path / "metrics.jsonl", history.lines(self.ROWS)[0]
        path.write_text(texts[0] + texts[2])
        assert "line 2 of 2" in history.read(path)[2]
        path.write_text(texts[0] + texts[1][:-9])
        assert (len(history.read(path)[0]), history.read(path)[2]) == (1, "")


class TestRun:
    @pytest.fixture
    def half(self, tmp_path):
        """A run at step 30 of 60."""
        config = program.Config(workdir=str(tmp_path / "w"), steps=30, checkpoint_every=10, eval_every=10)
        parts = program.data(config)
        fit(program.build(config, parts), parts, config)
        longer = program.Config(workdir=str(tmp_path / "w"), steps=60, checkpoint_every=10, eval_every=10)
        return tmp_path / "w", lambda: fit(program.build(longer, parts), parts, longer)

    @pytest.mark.claims
    @pytest.mark.parametrize("how", ["flip", "cut", "delete"])
    def test_a_damaged_history_is_not_cut_silently(self, half, how):
        folder, again = half
        path = folder / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        if how == "flip":
            path.write_text("".join([*lines[:8], "[" + lines[8][1:], *lines[9:]]))
        elif how == "cut":
            path.write_text("".join(lines[:8]))
        else:
            path.unlink()
        with pytest.raises(DataError, match=r"metrics\.jsonl"):
            again()

    @pytest.mark.claims
    def test_a_damaged_result_is_made_again(self, half, capfd):
        folder, again = half
        before = again()
        path = folder / "result.json"
        path.write_bytes(flipped(path.read_bytes(), 8 * path.read_bytes().index(b"metrics") + 3))
        kept = rows(folder)
        after = again()
        assert (after.metrics, rows(folder)) == (before.metrics, kept)
        assert "result.json" in capfd.readouterr().err
        assert read_json(path)["metrics"] == before.metrics

    @pytest.mark.claims
    def test_two_fits_in_one_folder(self, half):
        folder, again = half
        with locked(folder, FIT), pytest.raises(FlagError, match=f"process {os.getpid()} "):
            again()
        again()

    @pytest.mark.claims
    def test_without_its_best_checkpoint_a_run_goes_on_and_says_so(self, tmp_path, capfd):
        config = program.Config(workdir=str(tmp_path), steps=40, checkpoint_every=5, eval_every=5, patience=40,
                                learning_rate=0.1, monitor_mode="max")  # fmt: skip
        parts = program.data(config)
        build = lambda: fit(program.build(config, parts), parts, config)
        ended = build()
        best = max((row for row in ended.history if "valid/loss" in row), key=lambda row: row["valid/loss"])["step"]
        assert best < 35, "the best is among the latest: choose another rate"
        (tmp_path / "result.json").unlink()
        next((tmp_path / "checkpoints" / str(best)).rglob("*_METADATA")).write_text("x")
        with pytest.warns(UserWarning, match=f"checkpoint {best} cannot be used"):
            build()
        assert re.search(rf"checkpoints/{best}.*step {best}.*step 40", capfd.readouterr().err)


class TestOverwrite:
    @pytest.fixture
    def folder(self, tmp_path):
        open_run(RunConfig(steps=5, workdir=str(tmp_path / "w")), "demo")
        (tmp_path / "w" / "checkpoints" / "5").mkdir(parents=True)
        (tmp_path / "w" / "checkpoints" / "5" / "x").write_text("old")
        return tmp_path / "w"

    def over(self, folder, **flags):
        return open_run(RunConfig(steps=7, workdir=str(folder), overwrite=True, **flags), "demo")

    def test_the_old_run_is_there_until_the_new_one_begins(self, folder):
        before = snapshot(folder)
        self.over(folder)
        assert read_json(folder / "config.json")["flags"]["steps"] == 7
        undo(folder, {})
        assert snapshot(folder) == before
        self.over(folder)
        begun(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "flags.txt"]

    def test_what_a_killed_overwrite_left_is_put_back(self, folder):
        before = snapshot(folder)
        self.over(folder)
        (folder / ASIDE / "config.json").rename(folder / "config.json")  # killed while it was restored
        open_run(RunConfig(steps=5, workdir=str(folder)), "demo")
        assert snapshot(folder).keys() == before.keys()
        assert not (folder / JOURNAL).exists()

    def test_a_later_attempt_of_the_same_launch_goes_on(self, folder, monkeypatch):
        monkeypatch.setenv("JAXDL_LAUNCH", "one")
        self.over(folder)
        begun(folder)
        (folder / "metrics.jsonl").write_text("")
        self.over(folder)
        assert (folder / "metrics.jsonl").exists()
        monkeypatch.setenv("JAXDL_LAUNCH", "two")
        self.over(folder)
        assert not (folder / "metrics.jsonl").exists()

    @pytest.mark.parametrize("name", [".git/HEAD", "data/0/a.jpeg", "model.bin"])
    def test_what_no_run_has_made_is_never_touched(self, folder, name):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
        before = snapshot(folder)
        with pytest.raises(FlagError, match=f"--overwrite: .*{name.partition('/')[0]}"):
            self.over(folder)
        assert snapshot(folder) == before

    def test_a_run_that_goes_on_below_is_left_alone(self, folder):
        open_run(RunConfig(steps=5, workdir=str(folder / "seed=1")), "demo")
        with locked(folder / "seed=1"), pytest.raises(FlagError, match=f"process {os.getpid()} "):
            self.over(folder)

    def test_another_program_s_config_is_no_run(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(FlagError, match=r"config\.json: .*sha256"):
            self.over(tmp_path)

    def test_a_killed_start_leaves_an_empty_folder(self, tmp_path):
        (tmp_path / "config.json.part").write_text("{")
        (tmp_path / ".lock").write_text("")
        open_run(RunConfig(steps=5, workdir=str(tmp_path)), "demo")
        assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["config.json", "flags.txt"]


def test_settings_are_told_with_the_words_that_give_them_again():
    now = settings()
    assert changed(now, now) == []
    assert words_for(now, now) == ""
    before = now | {"XLA_FLAGS": "--a=b c", "JAX_ENABLE_X64": True, "devices": "3 x cpu"}
    assert changed(before, now)[0].startswith("XLA_FLAGS was --a=b c, is ")
    words = "env XLA_FLAGS='--a=b c' JAX_ENABLE_X64=True JAX_NUM_CPU_DEVICES=3 JAX_PLATFORMS=cpu"
    assert words_for(before, now) == words
    assert words_for(now | {"XLA_FLAGS": ""}, now | {"XLA_FLAGS": "--x"}) == "env -u XLA_FLAGS JAXDL_TUNED=0"
    assert given({"XLA_FLAGS": "--a b", "JAX_ENABLE_X64": "1", "HOME": "x"}) == "XLA_FLAGS='--a b' JAX_ENABLE_X64=1 "


def test_printable():
    assert printable("a\x1b[31m\n\u202eb é ±") == "a\\x1b[31m\\n\\u202eb é ±"
    name = b"\xff.png".decode("utf-8", "surrogateescape")
    assert printable(name) == "\\udcff.png"
    assert json.dumps(printable(name)).isascii()
    assert np.array([printable(0.5)])[0] == "0.5"
