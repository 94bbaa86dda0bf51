"""Records of measured claims: what they keep, when they are out of date, and the command that measures them again."""

import json
import textwrap
from types import SimpleNamespace

import pytest

from jaxdl import packaged
from jaxdl.run import Claim, FlagError, RunConfig
from jaxdl.run.records import record as records
from jaxdl.run.records import reproduce as command
from jaxdl.run.records import sources
from jaxdl.run.records.provenance import provenance
from jaxdl.run.records.record import differences, file_name, make_record, normal, parts, read_records, write_record
from jaxdl.run.store.files import write_json

QUANTITY = {"name": "n", "values": [7.0], "sign": ">", "limit": 5.0, "unit": "", "enough": 0}
FOUND = {"quantities": [QUANTITY], "reference": {"a paper": [11.0]}}
WHERE = {"commit": "abc", "processor": "a CPU", "device": "1 x cpu", "python": "3.11.7"}
LIBRARIES = {"jax": "0.10.2", "numpy": "2.4.6"}


def summary(words="--seed=3 --data_dir=/data --workdir=/x/y --progress=false", **claims):
    return {
        "experiment": "robust_regression",
        "command": f"python -m experiments.robust_regression {words}",
        "flags": {"seed": 3, "seeds": 2},
        **WHERE,
        "versions": LIBRARIES,
        "fits": {".": {"seconds": 2.25}, "judge": {"seconds": 3.5}},
        "claims": [{"name": name, **claim} for name, claim in claims.items()],
    }


def test_a_record_keeps_what_the_result_depends_on_and_nothing_of_one_machine(tmp_path):
    made = make_record(summary(one={"quantities": [], "reference": {}}, two=FOUND | {"text": "b"}))
    assert made["command"] == "python -m experiments.robust_regression --seed=3"
    assert (made["experiment"], made["seconds"], made["seeds"]) == ("robust_regression", 5.8, [3, 4])
    assert made["claims"] == {"two": FOUND}
    assert made["flags"]["seed"] == 3
    assert "data_dir" not in made["flags"]
    assert {"experiments.robust_regression", "jaxdl.losses", "jaxdl.run.engine.fit"} <= set(made["code"])
    assert made["versions"] == LIBRARIES
    path = write_record(tmp_path, made)
    assert path.name == "robust_regression.seed-3.json"
    assert read_records(tmp_path) == [made]
    assert max(map(len, path.read_text().splitlines())) > 300  # digests are on one line
    with pytest.raises(ValueError, match="measured"):
        make_record(summary(one={"quantities": [], "reference": {}}))


def test_what_is_out_of_date_is_named():
    now = {"flags": {"steps": 3, "lr": 0.1}, "versions": {"jax": "2"}, "code": {"a": "1", "b": "2"}, "digest": "new"}
    assert differences(now | {}, now) == []
    old = {"flags": {"steps": 2, "x": 1}, "versions": {"jax": "1"}, "code": {"a": "0"}, "digest": "old"}
    words = " ".join(differences(old, now))
    for part in ("--steps was 2, is 3", "--lr was not set, is 0.1", "--x was 1, is not set", "jax was 1, is 2", "a, b"):
        assert part in words


@pytest.mark.parametrize(
    ("line", "split", "file"),
    [
        ("python -m experiments.vae", ([], "vae", []), "vae.json"),
        ("python -m experiments.vae --a=b --c='d e'", ([], "vae", ["--a=b", "--c=d e"]), "vae.a-b.c-d-e.json"),
        ("./launch.sh --cpu-devices=8 gan --x=1", (["./launch.sh", "--cpu-devices=8"], "gan", ["--x=1"]),
         "gan.x-1.cpu-devices-8.json"),
    ],
)  # fmt: skip
def test_commands_have_parts(line, split, file):
    assert parts(line) == split
    assert file_name(line) == file


def test_a_command_has_one_normal_form():
    head = "python -m experiments.robust_regression"
    assert normal(f"{head} --seeds=2 --seed=3 --batch_size=7") == normal(f"{head} --batch_size=7 --seed=3 --seeds=2")
    assert normal(f"{head} --seed=0 --data_dir=/data --workdir=/x") == head
    assert normal("./launch.sh --cpu-devices=8 robust_regression --seed=0").split()[-1] == "robust_regression"


SOURCE = '''
"""A module."""
import numpy as np  # a comment

SMALL: dict[str, object] = {"steps": 3}
OTHER = {"steps": 5}

class A:
    "A class."
    x: int = flag(3, "the number of x", minimum=1)
    y: int = 5
    z: float = run.no_validation("the reason")

def f(x):
    """Doubles."""
    text = "kept # too"
    if not x:
        raise ValueError(f"x must not be {x}")
    log(f"{x} doubled")
    return Claim("a text", "A01"), x * 2
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("A module.", "Another.", True),
        ("# a comment", "", True),
        ("Doubles.", 'It\'s "twice" é', True),
        ("the number of x", "how many", True),
        ("a text", "an é text", True),
        ('f"x must not be {x}"', '"x is 0"', True),
        ("{x} doubled", "doubled {x}", True),
        ("if not x", "if x", False),
        ("    return", "\n\n    return", True),
        ("flag(3", "flag(4", True),  # a record compares the values of flags
        ("y: int = 5", "y: int = 6", False),
        ("the reason", "another", True),
        ("A01", "A02", True),
        ("x * 2", "x * 3", False),
        ('SMALL: dict[str, object] = {"steps": 3}', "SMALL = dict(epochs=2)", True),
        ('{"steps": 5}', "dict(epochs=2)", False),
        ("kept # too", "kept # not", False),
    ],
)
def test_words_for_people_do_not_count(old, new, same):
    assert old in SOURCE
    assert (sources.code_of(SOURCE.replace(old, new).encode()) == sources.code_of(SOURCE.encode())) == same


def test_code_is_followed_through_imports(tmp_path, monkeypatch):
    files = {
        "jaxdl/__init__.py": "",
        "jaxdl/nn/__init__.py": "from jaxdl.nn.a import A\nfrom jaxdl.nn.b import B as C\nfrom jaxdl.nn.d import D",
        "jaxdl/nn/a.py": "from jaxdl.losses import x",
        "jaxdl/nn/b.py": "from jaxdl import nn\ny = nn.D",
        "jaxdl/nn/d.py": "",
        "jaxdl/nn/e.py": "",
        "jaxdl/losses.py": "from jaxdl.run.show.plots import z",
        "jaxdl/unused.py": "",
        "jaxdl/run/show/plots.py": "",
        "jaxdl/run/command/config.py": "",
        "experiments/one.py": "import numpy\nfrom jaxdl.nn import C\ndef f():\n    from experiments import two",
        "experiments/two.py": "from jaxdl import nn\nnn.A",
        "experiments/three.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    for cached in (sources._tree, sources._used, sources._digest):
        cached.cache_clear()
        monkeypatch.setattr(sources, cached.__name__, cached.__wrapped__)
    found = sources.code_digests("experiments.one")
    assert list(found) == ["experiments.one", "experiments.two", "jaxdl.losses", "jaxdl.nn.a", "jaxdl.nn.b",
                           "jaxdl.nn.d", "jaxdl.run.command.config"]  # fmt: skip
    assert all(len(digest) == 8 for digest in found.values())
    (tmp_path / "jaxdl/nn/d.py").write_text("D = 3")
    changed = sources.code_digests("experiments.one")
    assert [name for name in found if found[name] != changed[name]] == ["jaxdl.nn.d"]


def test_where_it_was_measured():
    found = provenance()
    assert set(found) == {"commit", "processor", "python", "versions"}
    assert found["processor"]
    assert {"jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn"} == set(found["versions"])


class Config(RunConfig):
    """Flags of the stand-in for an experiment."""

    steps: int | None = 10


STAND_IN = SimpleNamespace(
    Config=Config,
    FIGURE="fit",
    CLAIMS={
        "one": Claim("so"),
        "two": Claim("so", flags="--seed=3 --seeds=1"),
        "three": Claim("so", needs="gpu", flags="--seed=5"),
        "four": Claim("never", fails="a paper"),
    },
)


@pytest.fixture
def stand_in(monkeypatch):
    """An experiment `it` in the place of all others; `calls` has the commands that were run, `found` what they find."""
    here = SimpleNamespace(calls=[], status=0, claims={"one": FOUND}, figure=True)

    def run(words, stdout, **_):
        here.calls.append(words)
        (folder,) = [word.removeprefix("--workdir=") for word in words if word.startswith("--workdir=")]
        stdout.write("a line\nerror: the last line\n")
        if here.status == 0:
            from pathlib import Path

            Path(folder).mkdir(exist_ok=True)
            if here.figure:
                from PIL import Image

                Image.new("RGB", (1300, 700)).save(Path(folder, "fit.png"))
            flags = [w for w in words[words.index("it") + 1 :] if w.startswith("--seed")]
            write_json(Path(folder, "summary.json"), summary(**here.claims) | {
                "experiment": "it", "command": " ".join(["python -m experiments.it", *flags])})  # fmt: skip
        return SimpleNamespace(returncode=here.status)

    monkeypatch.setattr(packaged, "listing", lambda: {"it": ("family", "line")})
    monkeypatch.setattr(packaged, "experiment", lambda name: STAND_IN)
    monkeypatch.setattr(records, "code_digests", lambda module: {module: "01234567"})
    monkeypatch.setattr(records.provenance, "versions", lambda: dict(LIBRARIES))
    monkeypatch.setattr(command.subprocess, "run", run)
    return here


def test_reproduce_measures_what_is_out_of_date_once(stand_in, tmp_path, capsys, monkeypatch):
    docs, runs = tmp_path / "docs", tmp_path / "runs"
    assert command.reproduce([], docs, runs, check=True) == 1
    assert capsys.readouterr().out.count("no record") == 2
    assert command.reproduce(["it"], docs, runs) == 0
    assert [words[4:-3] for words in stand_in.calls] == [["it"], ["it", "--seed=3"]]
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("measured") and "1 of 1 claims hold" in line for line in lines)
    assert sorted(path.name for path in (docs / "claims").iterdir()) == ["it.json", "it.seed-3.json"]
    assert (docs / "images/it.png").stat().st_size < 10_000
    assert command.reproduce([], docs, runs) == 0
    assert command.reproduce([], docs, runs, check=True) == 0
    assert len(stand_in.calls) == 2
    capsys.readouterr()

    monkeypatch.setattr(records, "code_digests", lambda module: {module: "76543210"})
    assert command.reproduce([], docs, runs, check=True) == 1
    assert "experiments.it" in capsys.readouterr().out
    assert command.reproduce([], docs, runs) == 0
    assert len(stand_in.calls) == 4
    assert len([path for path in runs.iterdir() if path.is_dir()]) == 2  # the runs of older code are gone


def test_more_seeds_stand_for_fewer(stand_in, monkeypatch):
    flags = ("--seeds=3", "--seed=3", "--seeds=2 --steps=5", "--steps=5")
    monkeypatch.setattr(STAND_IN, "CLAIMS", {f"c{i}": Claim("so", flags=one) for i, one in enumerate(flags)})
    found = [(task.command.removeprefix("python -m experiments."), task.first) for task in command.tasks([], [])]
    assert found == [("it --seeds=3", True), ("it --seed=3", False), ("it --steps=5 --seeds=2", False)]


def test_reproduce_says_what_failed_and_goes_on(stand_in, tmp_path, capsys):
    docs, runs = tmp_path / "docs", tmp_path / "runs"
    stand_in.status = 70
    assert command.reproduce([], docs, runs) == 1
    assert capsys.readouterr().out.count("the last line") == 2
    stand_in.status = 66  # data files that are missing are no failure
    assert command.reproduce([], docs, runs) == 0
    assert not (docs / "claims").exists()
    stand_in.status, stand_in.figure, wrong = 0, False, {**QUANTITY, "values": [3.0]}
    stand_in.claims = {"one": {**FOUND, "quantities": [wrong]}, "four": {**FOUND, "quantities": [wrong]}}
    assert command.reproduce([], docs, runs) == 1
    assert "0 of 2 claims hold, one FAILS, four fails as expected" in capsys.readouterr().out
    assert not (docs / "images").exists()
    with pytest.raises(FlagError, match="nothing"):
        command.reproduce(["nothing"], docs, runs)


def test_a_record_is_text_that_git_can_compare(tmp_path):
    made = make_record(summary(two=FOUND))
    text = write_record(tmp_path, made).read_text()
    assert json.loads(text) == made
    assert '\n  "claims": {\n    "two": {\n' in text
