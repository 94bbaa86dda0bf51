"""What docs/mission.md and the README's results say is what docs/claims holds, and what that holds still exists."""

import re
import shutil
from collections import Counter

import pytest

from jaxdl.run import Claim
from jaxdl.run.store.files import write_json
from tools import mission as tool
from tools.mission import ROOT, faults, file_name, gather, make_record, mission, read_records, read_rows, results

SECTIONS, ROWS = read_rows()
RECORDS = read_records()
CLAIMS = {
    "one": Claim("|x| < 2*3", "A01", True),
    "two": Claim("it is so", "A01 A02", fails="by hand"),
    "three": Claim("never", "A03", needs="gpu", flags="--seed=3"),
}


@pytest.fixture(autouse=True)
def claims(monkeypatch, request):
    """Three claims in the place of every experiment's, but where the records themselves are looked at."""
    if not request.node.name.startswith(("test_documents", "test_a_record_names")):
        monkeypatch.setattr(tool, "claims_of", lambda name: CLAIMS)


def quantity(value=7.0, sign=">", limit=5.0):
    return {"name": "n", "values": [value], "sign": sign, "limit": limit, "unit": "", "enough": 0}


def found(value=7.0, reference=None):
    return {"quantities": [quantity(value)], "reference": {"a paper": [11.0]} if reference is None else reference}


def record(command="python -m experiments.vae --seed=3", **claims):
    made = {"experiment": "vae", "command": command, "device": "1 x cpu", "jax": "0.10.2", "seconds": 1.5}
    return {**made, "claims": claims}


def summary(command="python -m experiments.vae --seed=3 --data_dir=/data --workdir=/x/y --progress=false", **claims):
    fits = {".": {"seconds": 2.25}, "judge": {"seconds": 3.5}}
    made = {"experiment": "vae", "command": command, "device": "1 x cpu", "versions": {"jax": "0.10.2"}}
    return {**made, "fits": fits, "claims": [{"name": name, **claim} for name, claim in claims.items()]}


def table(page, row):
    """The cells of a row's lines on the page, with those below it that leave the first cell empty."""
    lines = page.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith(f"| **{row}** ")]
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("| | "))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[start:end]]


def test_documents_are_what_the_claims_make():
    for path, content in tool.documents().items():
        message = f"{path.name} is out of date or was edited by hand: python -m tools.mission write"
        assert path.read_text(encoding="utf-8") == content, message


def test_the_notes_have_253_rows_in_19_sections():
    assert len(SECTIONS) == 19
    assert len(ROWS) == 253
    assert {row.note for row in ROWS.values()} == {"S0", "S1", "S2", "S3", "S4"}
    for letter, count in Counter(id[0] for id in ROWS).items():
        assert [id for id in ROWS if id[0] == letter] == [f"{letter}{n:02}" for n in range(1, count + 1)]
    assert all(row.title and row.words and row.experiments for row in ROWS.values())


@pytest.mark.parametrize("kept", RECORDS, ids=lambda kept: kept["command"].removeprefix("python -m experiments."))
def test_a_record_names_what_exists(kept):
    assert faults(kept, ROWS) == []
    assert (ROOT / "docs/claims" / file_name(kept["command"])).exists()
    for one in tool.findings(kept):
        assert one.holds is None or one.holds != bool(one.claim.fails), one


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (record("python -m experiments.nothing"), "there is no experiment nothing"),
        (record("python -m experiments.vae --latnet=3"), "--latnet: "),
        (record("python -m experiments.vae --seed=-3"), "--seed=-3: must be"),
        (record(four=found()), "there is no claim four of vae"),
        (record(one=found(reference={"seen in /home/me/x": [1.0]})), "a path of one machine: seen in /home/me/x"),
        (record("python -m experiments.language_model --text=~/a.txt"), "a path of one machine"),
    ],
)
def test_faults_are_found(wrong, told):
    (fault,) = faults(wrong, ROWS)
    assert fault.startswith(told)


def test_a_row_that_is_not_there_is_found(monkeypatch):
    monkeypatch.setattr(tool, "claims_of", lambda name: {"one": Claim("so", "A01 A99")})
    assert faults(record(one=found()), ROWS) == ["there is no row A99"]


def test_a_record_leaves_out_what_belongs_to_one_machine():
    made = make_record(summary(one={"quantities": [], "reference": {}, "text": "a"}, two=found() | {"text": "b"}))
    assert made["command"] == "python -m experiments.vae --seed=3"
    assert (made["experiment"], made["seconds"], made["jax"]) == ("vae", 5.8, "0.10.2")
    assert file_name(made["command"]) == "vae.seed-3.json"
    assert made["claims"] == {"two": found()}
    with pytest.raises(ValueError, match="none of its claims was measured"):
        make_record(summary(one={"quantities": [], "reference": {}}))


def test_a_claim_that_one_command_measured_is_not_open_in_another():
    first, second = record(two=found()), record("python -m experiments.vae", one=found(), two=found(3.0))
    pairs = gather([first, second], ROWS)
    assert [(one.name, one.holds, command) for one, command in pairs["A01"]] == [
        ("two", True, "python -m experiments.vae --seed=3"),
        ("one", True, "python -m experiments.vae"),
        ("two", False, "python -m experiments.vae"),
    ]
    assert [(one.holds, command) for one, command in pairs["A03"]] == [(None, "python -m experiments.vae --seed=3")]
    assert [tool.state(pairs[id]) for id in ("A01", "A02", "A03", "A04")] == [
        "not holding",
        "not holding",
        "open",
        "open",
    ]
    assert tool.state(gather([record(two=found())], ROWS)["A02"]) == "shown"
    assert tool.state(gather([record(two=found())], ROWS)["A01"]) == "open"  # one of its claims has not been measured


def test_the_page_shows_claims_and_what_is_open():
    page = mission([record(one=found(), two=found(3.0, {}))], SECTIONS, ROWS)
    assert "**0 rows shown, 2 measured and not holding, 251 open**, 253 in all." in page
    assert "| A Tasks and ways of learning | 0 | 2 | 14 |\n" in page
    first, second = table(page, "A01")
    notes = "S0 «分类任务是对离散值进行预测»"
    assert first[:4] == ["**A01** Classification", notes, r"\|x\| \< 2\*3", "n: 7 > 5"]
    assert first[4:] == ["11 (a paper)", "yes", "`vae --seed=3`"]
    assert second == ["", "", "it is so", "n: 3 > 5", "", "no (expected: by hand)", "`vae --seed=3`"]
    assert table(page, "A03")[0][2:] == ["never", "-", "", "not measured", "`vae --seed=3`"]
    assert table(page, "A04")[0][2:] == ["-", "-", "-", "-", "planned: seq2seq, dependency_parser"]
    assert "| `vae --seed=3` | 1 x cpu | 1.5 | 0.10.2 |\n" in page


def test_results_are_the_headlines_that_were_measured():
    lines = results([record(one=found(3.0), two=found()), record(two=found())]).splitlines()
    assert lines[2:] == [r"| `vae --seed=3` | \|x\| \< 2\*3 | **n: 3 > 5** (holds: no) | 11 (a paper) |"]


def test_add_replaces_the_same_command_and_write_is_repeatable(tmp_path):
    (tmp_path / "docs/claims").mkdir(parents=True)
    shutil.copy(ROOT / "docs/mission.tsv", tmp_path / "docs")
    (tmp_path / "README.md").write_text(f"head\n{tool.BEGIN}old{tool.END}foot\n", encoding="utf-8")
    for value in (13.0, 17.0):
        run = tmp_path / str(value)
        run.mkdir()
        write_json(run / "summary.json", summary(one=found(value)))
        path = tool.add(run, root=tmp_path)
    assert list((tmp_path / "docs/claims").iterdir()) == [path]
    for _ in range(2):
        for file, content in tool.documents(tmp_path).items():
            file.write_text(content, encoding="utf-8")
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"head\n{tool.BEGIN}\n| command ")
    assert readme.endswith(f"**n: 17 > 5** | 11 (a paper) |\n\n{tool.END}foot\n")
    assert "| n: 17 > 5 |" in (tmp_path / "docs/mission.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text("no markers\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README.md: has not the lines"):
        tool.documents(tmp_path)


def test_the_command_line(tmp_path, capsys):
    assert tool.main(["add", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: there is no summary.json: the run has not ended\n"
    write_json(tmp_path / "summary.json", summary(four=found()))
    assert tool.main(["add", str(tmp_path)]) == 2
    assert "there is no claim four" in capsys.readouterr().err
    for words in ([], ["add"], ["add", "x", "y"], ["wrong"]):
        assert tool.main(words) == 2
        assert "python -m tools.mission add RUNDIR" in capsys.readouterr().err


def test_a_record_from_elsewhere_makes_no_link_picture_or_row():
    hostile = "![x](http://a)\n| [b](c) \\| <img> \x1b[2J"
    page = mission(
        [record("python -m experiments.vae '--x=a`|\n'", one=found(reference={hostile: [1.0]}))], SECTIONS, ROWS
    )
    lines = [line for line in page.splitlines() if line.startswith("| **A01** ")]
    assert len(lines) == 1
    assert r"| 1 (!\[x\](http://a); \| \[b\](c) \\\| \<img> \\x1b\[2J) |" in lines[0]
    assert lines[0].endswith(r"| ``vae '--x=a`\|\n'`` |")
