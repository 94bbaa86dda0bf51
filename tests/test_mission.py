"""What docs/mission.md and the README's results say is what docs/claims holds, and what that holds still exists."""

import re
import shutil
from collections import Counter

import pytest
from experiments._mission import ROOT, faults, file_name, gather, make_record, mission, read_records, read_rows, results

from experiments import _mission
from jaxdl.run.files import write_json

SECTIONS, ROWS = read_rows()
RECORDS = read_records()


def claim(row="A01", holds=True, **changes):
    plain = {"row": row, "claim": "it is so", "measured": "7", "reference": "11", "source": "a paper", "expected": True}
    return {**plain, "holds": holds, "command": "" if holds is not None else "python -m experiments.vae", **changes}


def record(*claims, command="python -m experiments.vae --seed=3", headline=(1,)):
    made = {"command": command, "device": "1 x cpu", "jax": "0.10.2", "seconds": 1.5}
    return {**made, "headline": list(headline), "claims": list(claims)}


def summary(*claims, command="python -m experiments.vae --seed=3 --data_dir=/data --workdir=/x/y --progress=false"):
    fits = {".": {"seconds": 2.25}, "judge": {"seconds": 3.5}}
    made = {"command": command, "device": "1 x cpu", "versions": {"jax": "0.10.2"}, "flags": {"data_dir": "/data/"}}
    return {**made, "fits": fits, "claims": list(claims)}


def table(page, row):
    """The cells of a row's lines on the page, with those below it that leave the first cell empty."""
    lines = page.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith(f"| **{row}** ")]
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("| | "))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[start:end]]


def test_documents_are_what_the_claims_make():
    for path, content in _mission.documents().items():
        message = f"{path.name} is out of date or was edited by hand: python -m experiments._mission write"
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
    assert all(kept["claims"][n - 1]["holds"] is not None for n in kept["headline"])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (record(claim(), command="python -m experiments.nothing"), "there is no experiment nothing"),
        (record(claim(), command="python -m experiments.vae --latnet=3"), "--latnet: no such flag; the nearest is"),
        (record(claim(), command="python -m experiments.vae --seed=-3"), "--seed=-3: must be"),
        (record(claim("A01 A99")), "there is no row A99"),
        (record(claim(measured="seen in /home/me/x")), "a path of one machine: seen in /home/me/x"),
        (record(claim(), command="python -m experiments.language_model --text=~/a.txt"), "a path of one machine"),
    ],
)
def test_faults_are_found(wrong, told):
    (fault,) = faults(wrong, ROWS)
    assert fault.startswith(told)


def test_a_record_leaves_out_what_belongs_to_one_machine():
    made = make_record(summary(claim(holds=None), claim("A02"), claim("A03", holds=False)))
    assert made["command"] == "python -m experiments.vae --seed=3"
    assert (made["seconds"], made["headline"], made["jax"]) == (5.8, [2], "0.10.2")
    assert file_name(made["command"]) == "vae.seed-3.json"
    assert make_record(summary(claim(measured="7 (/data/mnist)")))["claims"][0]["measured"] == "7 (DATA/mnist)"


def test_the_headline_is_kept_while_its_row_stays():
    claims = [claim("A01"), claim("A02"), claim("A03")]
    before = make_record(summary(*claims), [3, 2])
    assert make_record(summary(*claims), (), before)["headline"] == [3, 2]
    assert make_record(summary(*claims), [2], before)["headline"] == [2]
    assert make_record(summary(*claims[:2]), (), before)["headline"] == [1]
    with pytest.raises(ValueError, match=r"its measured claims are \[1, 2, 3\]"):
        make_record(summary(*claims), [4])
    with pytest.raises(ValueError, match="none of its claims was measured"):
        make_record(summary(claim(holds=None)))


def test_measured_claims_stand_before_those_that_are_not():
    first = record(claim("A01", None, claim="a"), claim("A02 A03", None, claim="b"))
    second = record(claim("A01", claim="c"), claim("A01", False, claim="d"), claim("A02", None, claim="b"))
    found = gather([first, second], ROWS)
    assert [c["claim"] for c, _ in found["A01"]] == ["c", "d"]
    again = gather([second, record(claim("A01", claim="c"), claim("A01", claim="c", measured="8"))], ROWS)["A01"]
    assert [(c["claim"], c["measured"]) for c, _ in again] == [("c", "7"), ("d", "7"), ("c", "8")]
    assert [c["claim"] for c, _ in found["A02"]] == ["b"]
    assert [command for _, command in found["A03"]] == ["python -m experiments.vae"]
    assert [_mission.state(found[id]) for id in ("A01", "A02", "A03", "A04")] == ["not holding", "open", "open", "open"]


def test_the_page_shows_claims_and_what_is_open():
    claims = claim("A01", claim="|x| < 2*3"), claim("A01 A02", False, expected=False), claim("A03", None, measured="-")
    page = mission([record(*claims)], SECTIONS, ROWS)
    assert "**0 rows shown, 2 measured and not holding, 251 open**, 253 in all." in page
    assert "| A Tasks and ways of learning | 0 | 2 | 14 |\n" in page
    first, second = table(page, "A01")
    notes = "S0 «分类任务是对离散值进行预测»"
    assert first[:4] == ["**A01** Classification", notes, r"\|x\| \< 2\*3", "7"]
    assert first[4:] == ["11 (a paper)", "yes", "`vae --seed=3`"]
    assert second == ["", "", "it is so", "7", "11 (a paper)", "no, as expected", "`vae --seed=3`"]
    assert table(page, "A03")[0][5:] == ["not measured", "`vae`"]
    assert table(page, "A04")[0][2:] == ["-", "-", "-", "-", "planned: seq2seq, dependency_parser"]
    assert "| `vae --seed=3` | 1 x cpu | 1.5 | 0.10.2 |\n" in page


def test_a_line_of_results():
    two = claim("A02", False, claim="less", measured="5~6", source="", reference="9")
    lines = results([record(claim(), two, headline=[1, 2])]).splitlines()
    assert lines[2:] == [r"| `vae --seed=3` | it is so: **7**; less: **5\~6** (holds: no) | 11 (a paper); 9 |"]


def test_add_replaces_the_same_command_and_write_is_repeatable(tmp_path):
    (tmp_path / "docs/claims").mkdir(parents=True)
    shutil.copy(ROOT / "docs/mission.tsv", tmp_path / "docs")
    (tmp_path / "README.md").write_text(f"head\n{_mission.BEGIN}old{_mission.END}foot\n", encoding="utf-8")
    for measured in ("13", "17"):
        run = tmp_path / measured
        run.mkdir()
        write_json(run / "summary.json", summary(claim(measured=measured)))
        path = _mission.add(run, root=tmp_path)
    assert list((tmp_path / "docs/claims").iterdir()) == [path]
    for _ in range(2):
        for file, content in _mission.documents(tmp_path).items():
            file.write_text(content, encoding="utf-8")
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"head\n{_mission.BEGIN}\n| command ")
    assert readme.endswith(f"**17** | 11 (a paper) |\n\n{_mission.END}foot\n")
    assert "**17**" not in (tmp_path / "docs/mission.md").read_text(encoding="utf-8")
    assert "| 17 |" in (tmp_path / "docs/mission.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text("no markers\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README.md: has not the lines"):
        _mission.documents(tmp_path)


def test_the_command_line(tmp_path, capsys):
    assert _mission.main(["add", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: there is no summary.json: the run has not ended\n"
    write_json(tmp_path / "summary.json", summary(claim("A99")))
    assert _mission.main(["add", str(tmp_path), "1"]) == 2
    assert "there is no row A99" in capsys.readouterr().err
    for words in ([], ["add"], ["add", "x", "first"], ["wrong"]):
        assert _mission.main(words) == 2
        assert "python -m experiments._mission add RUNDIR [N ...]" in capsys.readouterr().err


def test_a_record_from_elsewhere_makes_no_link_picture_or_row():
    hostile = "![x](http://a)\n| [b](c) \\| <img> \x1b[2J"
    page = mission([record(claim(claim=hostile), command="python -m experiments.vae '--x=a`|\n'")], SECTIONS, ROWS)
    lines = [line for line in page.splitlines() if line.startswith("| **A01** ")]
    assert len(lines) == 1
    assert r"| !\[x\](http://a) \| \[b\](c) \\\| \<img> \\x1b\[2J | 7 |" in lines[0]
    assert lines[0].endswith(r"| ``vae '--x=a`\|\n'`` |")
