import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import pytest

from jaxdl import console as cli
from jaxdl.core import Experiment, State, WeightedSum
from jaxdl.run import FlagError, RunConfig, fit
from jaxdl.run.show.compare import curves, labels, lines, table
from jaxdl.run.show.report import curve
from jaxdl.run.store import history
from jaxdl.run.store.files import read_json, write_json
from jaxdl.run.store.folder import open_run
from jaxdl.run.store.runs import expand, read_run, runs_table


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Creates the folder of a run as `main` and `fit` leave it; the loss of seed s ends at 0.2 + s / 10."""
    monkeypatch.chdir(tmp_path)

    def make(name, experiment="demo", fits=("",), seeds=1, steps=7, ended=True, metric="loss", **flags):
        open_run(RunConfig(steps=7, workdir=name, seeds=seeds, **flags), experiment)
        for fit_name in fits:
            for seed in range(seeds):
                path = Path(name) / fit_name / (f"seed{seed}" if seeds > 1 else "")
                path.mkdir(parents=True, exist_ok=True)
                done = ended or seed < seeds - 1
                last = 7 if done else steps
                rows = [{"step": t, f"train/{metric}": 2.0 / t, "seconds": t / 4} for t in range(1, last + 1)]
                rows += [{"step": last, f"valid/{metric}": 0.2 + seed / 10, "seconds": last / 4 + 0.1}] if last else []
                (path / "metrics.jsonl").write_text("".join(history.lines(rows)[0]))
                if done:
                    result = {"step": 7, "state_step": 7, "stopped_early": False, "metrics": {metric: 0.2 + seed / 10},
                              "valid": {}, "seconds": 3.5 + seed, "steps_per_second": 2.0, "tested": {}, "versions": {},
                              "log": [8, "crc"], "watched": []}  # fmt: skip
                    write_json(path / "result.json", result)
        if ended:
            write_json(Path(name) / "summary.json", {})
        return Path(name)

    return make


def run(*words):
    """python -m experiments WORDS in this process -> its exit status."""
    try:
        cli.main(list(words))
    except SystemExit as end:
        return end.code
    return 0


class TestTable:
    def test_only_what_differs_and_the_last_numbers(self, folder, capsys):
        folder("a", learning_rate=0.5)
        folder("b", optimizer="sgd", progress=False, data_dir="x")
        assert run("compare", "a", "b") == 0
        head, a, b = capsys.readouterr().out.splitlines()
        assert head.split() == ["run", "optimizer", "learning_rate", "loss", "done", "seconds"]
        assert a.split() == ["a", "adam", "0.5", "0.2", "7", "3.5"]
        assert b.split() == ["b", "sgd", "0.001", "0.2", "7", "3.5"]
        assert Path("compare.png").stat().st_size > 10_000
        assert run("compare", "a", "b") == 0
        assert "compare-2.png" in capsys.readouterr().err
        assert Path("compare-2.png").read_bytes() == Path("compare.png").read_bytes()

    def test_seeds_are_mean_and_deviation(self, folder):
        text = table(lines([read_run(folder("a", seeds=3))]))
        assert re.split("  +", text.splitlines()[1]) == ["a", "0.3 ± 0.1", "7", "4.5 ± 1", "3"]

    def test_a_run_that_has_not_ended_is_marked(self, folder):
        found = lines([read_run(folder("a")), read_run(folder("b", seeds=2, ended=False, steps=5))])
        assert "step" not in table(found).splitlines()[1]
        assert re.search("5-7   2.42 ± 2  2  .*: seed1 at step 5 of 7$", table(found).splitlines()[2])
        assert curves(found).legends[0].get_texts()[1].get_text() == "b: seeds=2 (seed1 at step 5 of 7)"

    def test_fits_are_rows_or_one_is_chosen(self, folder):
        runs = [
            read_run(folder("a", fits=("x", "deep/y"))),
            read_run(folder("b", fits=("x", "deep/y"), seed=5, seeds=2)),
        ]
        assert [(line.run.folder.name, line.fit) for line in lines(runs)] == [
            ("a", "deep/y"), ("a", "x"), ("b", "deep/y"), ("b", "x")
        ]  # fmt: skip
        assert [line.colour for line in lines(runs)] == ["C0", "C0", "C1", "C1"]
        assert len({(line.colour, line.style) for line in lines(runs)}) == 4
        assert [line.fit for line in lines(runs, "x")] == ["x", "x"]
        with pytest.raises(FlagError, match=r"--fit=z: a .*deep/y, x"):
            lines(runs, "z")

    def test_other_experiments_need_a_metric_in_common(self, folder, capsys):
        folder("a", metric="accuracy")
        folder("b", experiment="other", optimizer="sgd", metric="accuracy")
        folder("c", experiment="other", metric="reward")
        folder("d")
        folder("e", experiment="other")
        assert run("compare", "a", "b") == 0
        assert capsys.readouterr().out.split()[:3] == ["run", "experiment", "optimizer"]
        assert run("compare", "a", "b", "c") == 65
        assert "loss in common: a has accuracy; b has accuracy; c has reward" in capsys.readouterr().err
        assert run("compare", "d", "e") == 65  # the experiments minimise different losses

    def test_a_sweep_stands_for_its_points(self, folder):
        root = folder("s", ended=False, steps=0)
        folder("s/seed=1", seed=1)
        folder("s/seed=2", seed=2)
        (root / "sweep.json").write_text("{}")
        assert expand(root) == [root / "seed=1", root / "seed=2"]
        assert not read_run(root).fits[""][0].rows


class TestPicture:
    def test_a_column_a_metric_over_steps_and_seconds(self, folder):
        found = lines([read_run(folder("a")), read_run(folder("b", seed=1, seeds=2))])
        figure = curves(found)
        steps, seconds = figure.axes
        assert (steps.get_title(), steps.get_xlabel(), seconds.get_xlabel()) == ("loss", "step", "seconds")
        assert [len(axis.lines) for axis in (steps, seconds)] == [6, 6]  # train and test of three seeds
        assert [line.get_color() for line in steps.lines] == ["C0", "C0", "C1", "C1", "C1", "C1"]
        assert list(steps.lines[0].get_xdata()) == [1, 2, 3, 4, 5, 6, 7]
        assert list(seconds.lines[0].get_xdata()) == [t / 4 for t in range(1, 8)]
        assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a: seed=0, seeds=1", "b: seed=1, seeds=2"]

    def test_labels_fall_back_on_folders(self, folder):
        runs = [read_run(folder(name, **flags)) for name, flags in (("a", {}), ("b", {}), ("c/a", {"seed": 1}))]
        assert labels(runs[:2]) == ["a", "b"]
        assert labels(runs) == ["a: seed=0", "b: seed=0", "c/a: seed=1"]
        assert labels([runs[0], read_run(folder("d/a"))]) == ["a", "d/a"]


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "status", "told"),
        [
            (["compare"], 2, "compare"),
            (["compare", "nowhere"], 2, "nowhere: "),
            (["compare", "plain"], 2, "plain: .*config.json"),
            (["compare", "a", "--fit=q"], 2, "--fit=q: a "),
            (["compare", "a", "--ouf=x.png"], 2, "--ouf=x.png: .* --out"),
            (["compare", "a", "--out=x.pdf"], 2, "--out=x.pdf: .*[.]png"),
            (["compare", "a", "--out=a/config.json/x.png"], 2, "--out=a/config.json/x.png"),
            (["compare", "empty"], 65, "empty: .*metrics"),
            (["compare", "cut"], 65, "cut/config.json: "),
            (["compare", "torn"], 65, "torn/metrics.jsonl: line 2 of 8 "),
            (["compar", "a"], 2, "compar: .*compare"),
            (["image_clasifier"], 2, "jaxdl run image_classifier"),
            (["image_classifier", "--steps=1"], 2, "jaxdl run image_classifier"),
            (["list", "--rums"], 2, "--rums: .*--runs"),
            (["list", "all"], 2, "all: .*list"),
            (["list", "--dir"], 2, "--dir"),
            (["list", "--dir=nowhere"], 2, "--dir=nowhere: "),
        ],
    )
    def test_one_line_and_a_status(self, folder, capsys, words, status, told):
        folder("a")
        folder("empty", ended=False, steps=0)
        (folder("cut") / "config.json").write_text('{"experiment": "de')
        torn = folder("torn") / "metrics.jsonl"
        torn.write_text(torn.read_text().replace('{"step": 2', '{"stap": 2'))
        Path("plain").mkdir()
        assert run(*words) == status
        out, err = capsys.readouterr()
        assert err.startswith("error: ")
        assert re.search(told, err)
        assert (out, err.count("\n")) == ("", 1)

    def test_the_half_line_of_a_killed_run_is_left_out(self, folder):
        path = folder("a", ended=False, steps=5) / "metrics.jsonl"
        path.write_text(path.read_text() + '{"step": 6, "tra')
        assert read_run(Path("a")).fits[""][0].step() == 5

    def test_a_run_that_goes_on_for_more_steps_has_not_ended(self, folder):
        path = folder("a") / "metrics.jsonl"
        rows = [*history.read(path)[0], {"step": 8, "train/loss": 0.1, "seconds": 9.0}]
        path.write_text("".join(history.lines(rows)[0]))
        run = read_run(Path("a"))
        assert (run.state(), run.fits[""][0].seconds()) == ("at step 8 of 7", 9.0)


class TestList:
    def test_state_metric_and_flags_newest_first(self, folder):
        folder("runs/one", learning_rate=0.5)
        folder("runs/deep/two", ended=False, steps=5, seeds=2)
        folder("runs/three", ended=False, steps=0, experiment="gone")
        (folder("runs/four") / "config.json").write_text("[]")
        root = folder("runs/five", ended=False, steps=0, tensorboard=False)
        folder("runs/five/seed=1", seed=1)
        write_json(root / "sweep.json", {"points": [{"state": "ended"}, {"state": "diverged"}], "best_metric": 0.125})
        (folder("runs/six", ended=False, steps=3) / "metrics.jsonl").write_text(
            history.line({"step": 3, "train/loss": float("nan"), "seconds": 1.0}, "")[0]
        )
        names = ("one", "deep/two", "three", "four", "five", "six")
        for age, name in enumerate(names):
            for path in Path("runs", name).rglob("*"):
                os.utime(path, (time.time() - 90 * age,) * 2)
        known = {f: getattr(RunConfig(), f) for f in RunConfig.__dataclass_fields__} | {"steps": 7}
        head, *rows = runs_table(Path("runs"), lambda name, flags: known if name == "demo" else None).splitlines()
        assert head.split()[:5] == ["when", "experiment", "folder", "state", "monitored"]
        assert [row.split()[3].removeprefix("runs/") for row in rows] == list(names)
        cells = [[cell.strip() for cell in row.split("  ") if cell.strip()][3:] for row in rows]
        assert cells[0] == ["finished", "loss 0.2", "--learning_rate=0.5"]
        assert cells[1] == ["seed1 at step 5 of 7", "loss 0.25 ± 0.07", "--seeds=2"]
        assert cells[2] == ["empty", "-", "--steps=7"]  # an unknown experiment
        assert cells[3][0] == "damaged"
        assert cells[4][0].startswith("sweep: 1 of 2 points")
        assert cells[4][1] == "loss best 0.125"
        assert cells[5] == ["diverged at step 3", "-"]

    def test_flags_of_ones_own(self, folder):
        """Unknown class: flags that are not RunConfig's defaults, and its own flags in which its runs differ."""
        source = {"module": "", "file": "/x/gan.py", "sha256": "0"}
        flags = {"a": {"width": 3, "kind": "u"}, "b": {"width": 5, "kind": "u"}, "c": {"kind": "u"}}
        for name, own in flags.items():
            record = read_json(folder(f"runs/{name}", experiment="gan") / "config.json")
            record = record | {"flags": record["flags"] | own | {"learning_rate": 0.5}, "source": source}
            write_json(Path(f"runs/{name}/config.json"), record)
        folder("runs/theirs", experiment="gan", clip_norm=2.0)
        rows = runs_table(Path("runs"), lambda name, flags: {**RunConfig().__dict__, "steps": 7}).splitlines()[1:]
        told = {row.split()[3]: row.partition("loss 0.2")[2].split() for row in rows}
        assert set(told.pop("runs/a")) == {"--width=3", "--steps=7", "--learning_rate=0.5"}
        assert set(told.pop("runs/b")) == {"--width=5", "--steps=7", "--learning_rate=0.5"}
        assert set(told.pop("runs/c")) == {"--steps=7", "--learning_rate=0.5"}
        assert told == {"runs/theirs": ["--clip_norm=2"]}

    @pytest.mark.parametrize(
        ("name", "source", "ended", "state"),
        [
            ("script", None, True, "finished"),
            ("script", None, False, "b at step 5 of 7"),
            ("script", {"module": "", "file": "/x/script.py", "sha256": "0"}, True, "b at step 7 of 7"),
            ("demo", None, True, "b at step 7 of 7"),
        ],
    )
    def test_what_a_script_fits_is_finished_without_a_summary(self, folder, name, source, ended, state):
        root = folder("a", experiment=name, fits=("a", "b"), ended=ended, steps=5)
        if not ended:
            shutil.rmtree(root / "a")
        (root / "summary.json").unlink(missing_ok=True)
        if source:
            write_json(root / "config.json", read_json(root / "config.json") | {"source": source})
        assert read_run(root).state() == state

    def test_defaults_are_those_of_the_experiment(self):
        assert cli.defaults("image_classifier", {"dataset": "usps"})["monitor"] == "accuracy"
        assert cli.defaults("image_classifier", {"dataset": "usps"})["epochs"] == 15
        assert cli.defaults("image_classifier", {"dataset": "gone"})["epochs"] == 80
        assert cli.defaults("gone", {}) is None

    def test_no_runs(self, folder, capsys):
        Path("runs").mkdir()
        assert run("list", "--runs") == 0
        assert "runs" in capsys.readouterr().out

    def test_the_experiments_without_jax(self):
        code = (
            "import sys; from experiments.__main__ import main; main([]); main(['list']); print('jax' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                              cwd=Path(__file__).parents[2])  # fmt: skip
        once = done.stdout.removesuffix("False\n")
        assert once[: len(once) // 2] == once[len(once) // 2 :]
        assert "image_classifier" in once

    def test_help_has_examples(self, capsys):
        for words in (["--help"], ["compare", "-h"], ["list", "--help"]):
            assert run(*words) == 0
            assert "jaxdl compare runs/vae/A runs/vae/B" in capsys.readouterr().out


def test_seconds_go_on_after_a_resume(tmp_path):
    """The times of all parts of a run are added up, without the breaks between them."""
    step = lambda state, _: (state.advance(), {"loss": jnp.ones(())})
    still = Experiment(State.create, step, lambda state, _: {"loss": WeightedSum(jnp.ones(()), jnp.ones(()))})
    config = RunConfig(steps=4, log_every=1, workdir=str(tmp_path / "a"), tensorboard=False, progress=False, devices=1)
    first = fit(still, None, open_run(config, "demo"))
    time.sleep(0.5)
    start = time.perf_counter()
    fit(still, None, open_run(config.replace(steps=9), "demo"))
    second = time.perf_counter() - start
    (trace,) = read_run(tmp_path / "a").fits[""]
    seconds, values = curve(trace.rows, "train/loss", "seconds")
    assert (len(seconds), trace.step()) == (9, 9)
    assert seconds == sorted(seconds)
    assert values == [1.0] * 9
    assert first.history[-1]["seconds"] <= seconds[4] <= trace.seconds() <= first.seconds + second
