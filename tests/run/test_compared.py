"""`jaxdl gsb` and --predict=test."""

import csv
import re
import shutil

import pytest

from experiments import linear_regression, softmax_regression
from jaxdl import console
from jaxdl.data import DataError
from jaxdl.run import FlagError, fit, load
from jaxdl.run.command.compared import Predictions, _labels, gsb
from jaxdl.run.command.predictions import use_run
from jaxdl.run.store.files import read_json, write_json
from jaxdl.run.store.folder import open_run

A = "id,prediction,label\nx,cat,cat\ny,dog,cat\nz,dog,dog\nw,cat,dog\n"
B = "prediction,id\ndog,z\ncat,x\ncat,y\ndog,w\n"  # another order, without labels


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(A)
    (tmp_path / "b.csv").write_text(B)
    return tmp_path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of softmax regression on the same test part, the second longer."""
    folder = tmp_path_factory.mktemp("runs")
    for name, steps in (("short", 8), ("long", 80)):
        config = softmax_regression.Config(
            net="linear", steps=steps, seeds=1, learning_rate=0.1, tensorboard=False, progress=False, devices=1,
            workdir=str(folder / name),
        )  # fmt: skip
        config = open_run(config, "softmax_regression")
        parts = softmax_regression.data(config)
        fit(softmax_regression.build(config, parts), parts, config)
    return folder


def test_two_files(files, capsys):
    """A: two of four correct, B: all; on two examples both are correct."""
    assert gsb("a.csv", "b.csv", out="out.csv")[:3] == (0, 2, 2)
    shown = capsys.readouterr().out
    assert "a.csv: 2 of 4 correct" in shown
    assert shown.splitlines()[-1].split() == ["0", "2", "2", "-0.5000", "0.5"]
    with open("out.csv", newline="") as file:
        assert [(row["id"], row["a_is"]) for row in csv.DictReader(file)] == [
            ("x", "same"), ("y", "bad"), ("z", "same"), ("w", "bad")]  # fmt: skip
    assert gsb("b.csv", "a.csv").balance == 0.5


def test_numbers_are_compared_by_their_errors(files):
    """Values with a point are numbers, whole ones are classes unless --kind says otherwise."""
    (files / "a.csv").write_text("id,prediction,label\n1,2.5,3\n2,4,5\n3,1,1\n")
    (files / "b.csv").write_text("id,prediction,label\n1,2,3\n2,5.5,5\n3,1,1\n")
    assert gsb("a.csv", "b.csv")[:3] == (1, 1, 1)
    assert gsb("a.csv", "b.csv", kind="classes")[:3] == (0, 3, 0)
    (files / "a.csv").write_text("id,prediction,label\n1,5,10\n2,10,10\n")
    (files / "b.csv").write_text("id,prediction,label\n1,8,10\n2,8,10\n")
    assert gsb("a.csv", "b.csv")[:3] == (1, 1, 0)
    assert gsb("a.csv", "b.csv", kind="numbers")[:3] == (1, 0, 1)


def test_one_class_is_noted(files, capsys):
    (files / "a.csv").write_text("id,prediction,label\n1,cat,cat\n2,dog,cat\n")
    gsb("a.csv", "a.csv")
    assert "all 2 labels are 'cat'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (B.replace("cat,y\n", ""), 65, "a.csv and b.csv: .*4 and 3 rows"),
        (B.replace(",y", ",Y"), 65, "a.csv and b.csv: .*lacks the id 'y'"),
        (B.replace(",y", ",x"), 65, "b.csv: line 4: the id 'x' occurs twice"),
        (B.replace("cat,y", ",y"), 65, "b.csv: line 4: prediction of the id 'y' is missing or NaN"),
        (B.replace("cat,y", "nan,y"), 65, "b.csv: line 4: prediction of the id 'y'"),
        ("id,prediction,label\nx,cat\n", 65, "b.csv: line 2: label of the id 'x'"),
        (B.replace("id", "name"), 65, "b.csv: .*columns id, prediction.*it has prediction, name"),
        ("id,prediction\n", 65, "b.csv: .*no rows"),
        ("", 65, "b.csv: is empty"),
        ("id,prediction,label\nx,a,cat\ny,a,dog\nz,a,dog\nw,a,dog\n", 65, "label of the id 'y' is 'cat' and 'dog'"),
    ],
)
def test_files_that_cannot_be_compared(files, text, status, words, capsys):
    (files / "b.csv").write_text(text)
    with pytest.raises(SystemExit) as ended:
        console.main(["gsb", "a.csv", "b.csv", "--out=c.csv"])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == status
    assert re.search(words, line), line
    assert not (files / "c.csv").exists()


def test_flags_that_are_wrong(files, capsys):
    pairs = (["b.csv", "b.csv"], ["a.csv"], ["a.csv", "none.csv"], ["a.csv", "."])
    for words in (*pairs, *(["a.csv", "b.csv", flag] for flag in ("--out=x.png", "--kind=numbers", "--by=x"))):
        with pytest.raises(SystemExit):
            console.main(["gsb", *words])
        shown = capsys.readouterr()
        assert len(shown.err.splitlines()) == 1
        assert not shown.out


def test_two_runs(runs, tmp_path, capsys):
    """Runs are compared on their test part, as the files are that --predict=test writes."""
    files = []
    for name in ("long", "short"):
        files.append(str(tmp_path / f"{name}.csv"))
        console.main(["predict", str(runs / name), "test", f"--out={files[-1]}"])
    with open(files[0], newline="") as file:
        rows = list(csv.DictReader(file))
    run = load(runs / "long")
    assert list(rows[0])[:2] == ["id", "prediction"]
    assert [row["id"] for row in rows] == [str(i + 1) for i in range(360)]
    right = sum(row["prediction"] == row["label"] for row in rows) / 360
    assert right == pytest.approx(run.metrics[0]["accuracy"])
    found = gsb(*files)
    assert found == gsb(str(runs / "long"), str(runs / "short"))
    assert found.balance == pytest.approx(right - load(runs / "short").metrics[0]["accuracy"])
    assert found.p < 0.01
    assert "long" in capsys.readouterr().out


def test_a_run_on_other_rows_is_refused(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs / "short", folder)
    end = read_json(folder / "result.json")
    end["tested"]["data"]["test"]["sha256"] = "0" * 64
    write_json(folder / "result.json", end)
    with pytest.raises(DataError, match="run: the test part is not the one"):
        gsb(str(runs / "long"), str(folder))


def test_runs_with_different_test_parts_are_refused():
    one = Predictions("a", {"1": "0"}, {"1": "0"}, {"test": {"rows": 1, "sha256": "1"}})
    assert _labels(one, one._replace(source="b")) == {"1": "0"}
    with pytest.raises(FlagError, match=r"a and b: .* same test part"):
        _labels(one, one._replace(source="b", tested={"test": {"rows": 1, "sha256": "2"}}))


def test_a_run_that_has_not_finished_is_refused(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs / "short", folder)
    (folder / "result.json").unlink()
    with pytest.raises(FlagError, match="has not finished"):
        gsb(str(runs / "long"), str(folder))


def test_experiments_without_a_test_part(tmp_path):
    config = open_run(
        linear_regression.Config(steps=3, seeds=1, workdir=str(tmp_path / "run"), progress=False, tensorboard=False),
        "linear_regression",
    )
    parts = linear_regression.data(config)
    fit(linear_regression.build(config, parts), parts, config)
    with pytest.raises(FlagError, match="no test part"):
        use_run(config.replace(predict="test"), linear_regression, "linear_regression")


def test_a_file_named_test_is_a_file(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test").write_text("no image")
    with pytest.raises(SystemExit):
        console.main(["predict", str(runs / "short"), "test"])
    assert "error: test: " in capsys.readouterr().err
