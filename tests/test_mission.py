"""docs/mission.md, docs/results.md and the README's results are what docs/claims makes, and what that names exists."""

import re
from collections import Counter

import pytest

from jaxdl import packaged
from jaxdl.run import Claim
from jaxdl.run.command.flags import parse
from jaxdl.run.records import record as records_module
from jaxdl.run.records.record import file_name, findings, parts, read_records, result_flags
from jaxdl.run.records.reproduce import tasks, with_most_seeds
from tools import mission as tool
from tools import results as results_tool
from tools.mission import ROOT, faults, gather, mission, read_rows
from tools.results import explanation, first_results, results

SECTIONS, ROWS = read_rows()
RECORDS = read_records(ROOT / "docs/claims")
CLAIMS = {
    "one": Claim("|x| < 2*3", "A01", True),
    "two": Claim("it is so", "A01 A02", fails="by hand"),
    "three": Claim("never", "A03", needs="gpu", flags="--seed=3"),
}


@pytest.fixture(autouse=True)
def claims(monkeypatch, request):
    """Three claims in the place of every experiment's, but where the records themselves are looked at."""
    if not request.node.name.startswith(("test_documents", "test_a_record_names")):
        for module in (tool, records_module):
            monkeypatch.setattr(module, "claims_of", lambda name: CLAIMS)


def quantity(value=7.0, sign=">", limit=5.0):
    return {"name": "n", "values": [value], "sign": sign, "limit": limit, "unit": "", "enough": 0}


def found(value=7.0, reference=None):
    return {"quantities": [quantity(value)], "reference": {"a paper": [11.0]} if reference is None else reference}


def record(command="python -m experiments.vae --seed=3", **claims):
    where = {"commit": "abc", "processor": "a CPU", "device": "1 x cpu", "python": "3.11.7", "seeds": [3]}
    return {
        "experiment": "vae",
        "command": command,
        **where,
        "versions": {"jax": "0.10.2"},
        "seconds": 1.5,
        "claims": claims,
    }


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
    for one in findings(kept):
        assert one.holds is None or one.holds != bool(one.claim.fails), one


@pytest.mark.parametrize("kept", RECORDS, ids=lambda kept: kept["command"].removeprefix("python -m experiments."))
def test_a_record_was_measured_with_the_flags_of_its_command(kept):
    """A default that has changed since makes the record another command's: python -m experiments reproduce."""
    _, name, words = parts(kept["command"])
    assert result_flags(parse(packaged.experiment(name).Config, words)) == kept["flags"]


def test_no_record_repeats_another_with_fewer_seeds():
    commands = {kept["command"] for kept in RECORDS}
    assert commands == set(with_most_seeds(commands))


@pytest.mark.full
def test_no_record_is_out_of_date():
    """Costs no time, but any change of the code that an experiment uses makes its records measured anew."""
    out_of_date = {task.command: task.reasons for task in tasks([], RECORDS) if task.record and task.reasons}
    assert not out_of_date, "python -m experiments reproduce"


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


def test_results_have_a_section_for_every_experiment():
    page = results([record(one=found(3.0), two=found()), record("python -m experiments.vae", two=found())])
    assert f"{len(packaged.listing())} experiments, 2 commands, 3 measured claims, of which 1 do not hold" in page
    assert r"| `vae --seed=3` | \|x\| \< 2\*3 | n: 3 > 5 | not expected |" in page
    section = page.partition("\n### vae\n")[2].partition("\n## ")[0]
    assert "](images/vae.png)" in section
    assert "$ python -m experiments.vae\n" in section
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert lines == [
        r"| `--seed=3` | **\|x\| \< 2\*3** | n: 3 > 5 | 11 (a paper) | no |",
        "| | it is so | n: 7 > 5 | 11 (a paper) | yes (unexpected) |",
        "| default | it is so | n: 7 > 5 | 11 (a paper) | yes (unexpected) |",
    ]
    assert "Not measured: three (needs gpu)." in section
    assert "### gan\n" in page
    assert "No record yet." in page
    assert page.endswith("| `vae` | a CPU | 1 x cpu | abc | 3.11.7 | 0.10.2 | 1 | 1.5 |\n")


def test_an_experiment_explains_itself():
    for name in results_tool.packaged.listing():
        summary, paragraph = explanation(name)
        assert 20 < len(summary) <= 120, name
        assert 60 <= len(paragraph) <= 400, (name, len(paragraph))
        if any(record["experiment"] == name for record in RECORDS):
            assert (ROOT / f"docs/images/{name}.png").exists(), name


def test_the_first_results_are_short(monkeypatch):
    monkeypatch.setattr(results_tool, "FIRST", (("vae --seed=3", "one", "the x"),))
    found_here = {**found(), "quantities": [quantity(), quantity(17.0)]}
    assert first_results([record(one=found_here)]).splitlines()[2:] == [
        "| the x | **n: 7 > 5** | 11 (a paper) | `vae --seed=3` |"
    ]
    with pytest.raises(ValueError, match=r"vae --seed=3.* one"):
        first_results([record(two=found())])


def test_pages_are_written_between_the_markers(tmp_path, monkeypatch):
    (tmp_path / "docs/claims").mkdir(parents=True)
    (tmp_path / "docs/mission.tsv").write_bytes((ROOT / "docs/mission.tsv").read_bytes())
    (tmp_path / "README.md").write_text(f"head\n{tool.BEGIN}old{tool.END}foot\n", encoding="utf-8")
    monkeypatch.setattr(results_tool, "FIRST", (("vae --seed=3", "one", "the x"),))
    records_module.write_record(tmp_path / "docs/claims", record(one=found(17.0)) | {"flags": {}, "code": {}})
    for _ in range(2):  # writing again changes nothing
        for file, content in tool.documents(tmp_path).items():
            file.write_text(content, encoding="utf-8")
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"head\n{tool.BEGIN}\n| result ")
    assert readme.endswith(f"`vae --seed=3` |\n\n{tool.END}foot\n")
    for page in ("mission", "results"):
        assert "| n: 17 > 5 |" in (tmp_path / f"docs/{page}.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text("no markers\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md"):
        tool.documents(tmp_path)


def test_the_command_line(capsys):
    for words in ([], ["add"], ["write", "x"]):
        assert tool.main(words) == 2
        assert "python -m tools.mission write" in capsys.readouterr().err


def test_a_record_from_elsewhere_makes_no_link_picture_or_row():
    hostile = "![x](http://a)\n| [b](c) \\| <img> \x1b[2J"
    page = mission(
        [record("python -m experiments.vae '--x=a`|\n'", one=found(reference={hostile: [1.0]}))], SECTIONS, ROWS
    )
    lines = [line for line in page.splitlines() if line.startswith("| **A01** ")]
    assert len(lines) == 1
    assert r"| 1 (!\[x\](http://a); \| \[b\](c) \\\| \<img> \\x1b\[2J) |" in lines[0]
    assert lines[0].endswith(r"| ``vae '--x=a`\|\n'`` |")
