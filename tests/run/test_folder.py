from dataclasses import replace

import pytest

from jaxdl.run import FlagError, RunConfig, flag
from jaxdl.run.command.flags import parse
from jaxdl.run.store.files import read_json, write_json
from jaxdl.run.store.folder import discard, open_run


class Config(RunConfig):
    width: int = flag(64, "hidden units")
    steps: int | None = 100


def test_a_new_run_is_recorded(tmp_path):
    config = open_run(Config(width=5, workdir=str(tmp_path / "a")), "demo")
    assert read_json(tmp_path / "a/config.json")["flags"]["width"] == 5
    lines = (tmp_path / "a/flags.txt").read_text().splitlines()
    assert "--width=5" in lines
    assert "--steps=100" in lines, "the resolved value of every flag is kept"
    assert config.workdir == str(tmp_path / "a")


def test_the_record_reads_back_as_a_flag_file(tmp_path):
    class Long(Config):
        steps: int | None = None
        epochs: float | None = 3.0

    for words in ([], ["--steps=5"], ["--epochs=2", "--clip_norm=0.5", "--overwrite"]):
        config = parse(Long, [*words, f"--workdir={tmp_path / str(len(words))}"])
        open_run(config, "demo")
        again = parse(Long, [f"--flagfile={config.workdir}/flags.txt"])
        assert again == replace(config, overwrite=False)


def test_without_workdir_runs_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = open_run(Config(), "demo"), open_run(Config(), "demo")
    assert one.workdir != two.workdir
    assert one.workdir.startswith("runs/demo/")
    discard(tmp_path / one.workdir)
    assert not (tmp_path / one.workdir).exists()


def test_discard_keeps_what_has_content(tmp_path):
    config = open_run(Config(workdir=str(tmp_path / "a")), "demo")
    (tmp_path / "a/metrics.jsonl").write_text("{}")
    discard(tmp_path / "a")
    assert read_json(tmp_path / "a/config.json") is not None
    assert config is not None


class TestResume:
    @pytest.fixture
    def first(self, tmp_path):
        return open_run(Config(workdir=str(tmp_path / "a")), "demo")

    def test_the_same_flags_are_taken(self, first):
        assert open_run(first, "demo") == first

    @pytest.mark.parametrize("change", [{"log_every": 3}, {"devices": 2}, {"parallel": "pmap"}, {"steps": 150}])
    def test_flags_that_cannot_change_the_result_may_change(self, first, change):
        assert open_run(replace(first, **change), "demo")

    @pytest.mark.parametrize(
        ("change", "told"),
        [({"width": 65}, "--width was 64"), ({"steps": 99}, "--steps was 100"), ({"seed": 1}, "--seed was 0"),
         ({"clip_norm": 1.0}, "--clip_norm was not set")],
    )  # fmt: skip
    def test_others_are_refused_with_the_difference(self, first, change, told):
        with pytest.raises(FlagError, match=told):
            open_run(replace(first, **change), "demo")

    def test_steps_may_not_grow_under_a_schedule(self, tmp_path):
        first = open_run(Config(workdir=str(tmp_path / "b"), schedule="cosine"), "demo")
        with pytest.raises(FlagError, match=r"--steps was 100 .*--schedule=constant"):
            open_run(replace(first, steps=150), "demo")

    def test_another_experiment(self, first):
        with pytest.raises(FlagError, match=r"--workdir=.*demo"):
            open_run(first, "other")

    def test_overwrite_starts_anew(self, first, tmp_path):
        (tmp_path / "a/old.txt").write_text("x")
        open_run(replace(first, width=3, overwrite=True), "demo")
        assert not (tmp_path / "a/old").exists()
        assert "--overwrite" not in (tmp_path / "a/flags.txt").read_text()


def test_foreign_folders_are_never_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(FlagError, match=r"mine: .*config\.json"):
            open_run(Config(workdir=str(tmp_path / "mine"), overwrite=overwrite), "demo")
        with pytest.raises(FlagError, match="file: is a file"):
            open_run(Config(workdir=str(tmp_path / "file"), overwrite=overwrite), "demo")
    assert (tmp_path / "mine/thesis.txt").read_text() == "x"


def test_damaged_record(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FlagError, match="damaged"):
        open_run(Config(workdir=str(tmp_path)), "demo")


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [1, 2.5, True, None], "c": (float("inf"),)})
    assert read_json(tmp_path / "x.json") == {"a": None, "b": [1, 2.5, True, None], "c": [None]}
    assert not list(tmp_path.glob("*.part"))
