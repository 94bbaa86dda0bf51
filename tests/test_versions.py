"""tools/versions.py: the interpreters and versions that it chooses, what it reads of pytest, and its table."""

import sys

import pytest

from tools import versions
from tools.versions import Failed, Row, available, choose, counted, find, main, table

REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_one"/>
<testcase classname="tests.test_a" name="test_two[x]"><failure message="1"/></testcase>
<testcase classname="" name="tests.test_b"><error message="2"/></testcase>
<testcase classname="tests.test_a" name="test_three"><skipped/></testcase>
</testsuite></testsuites>"""
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A PATH of one folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_an_interpreter_is_given_or_this_one_or_on_path_or_uvs(elsewhere):
    assert find(HERE) == sys.executable
    assert find("3.77") is None
    ours = script(elsewhere / "uvs", "echo 3.77")
    script(elsewhere / "uv", f"echo {ours}")
    assert find("3.77") == ours
    on_path = script(elsewhere / "python3.77", "echo 3.77")
    assert find("3.77") == on_path
    given = script(elsewhere / "mine", "echo 3.77")
    assert find("3.77", [str(elsewhere / "none"), sys.executable, given]) == given


def test_a_launcher_without_its_interpreter_is_none(elsewhere):
    script(elsewhere / "python3.77", "echo 3.77; exit 127")
    assert find("3.77") is None


def test_versions_of_jax_within_the_range(tmp_path):
    pip = script(
        tmp_path / "python", "printf 'jax (1.2)\\nAvailable versions: 99.1, 0.11.2, 0.10.10, 0.10.2, 0.4.1\\n'"
    )
    found = available(pip)
    assert found == ["99.1", "0.11.2", "0.10.10", "0.10.2", "0.4.1"]
    assert choose(found, "oldest") == "0.10.2"
    assert choose(["0.10.2", "0.10.10"], "newest") == "0.10.10"
    with pytest.raises(Failed, match="jax"):
        choose(["0.4.1"], "oldest")
    with pytest.raises(Failed, match="--jax=latest"):
        choose(found, "latest")


def test_a_pip_that_fails_says_why(tmp_path):
    pip = script(tmp_path / "python", "echo 'ERROR: no matching distribution' >&2; echo notice >&2; exit 1")
    with pytest.raises(Failed, match="no matching distribution"):
        available(pip)


def test_counts_of_a_report(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    row = counted(Row("3.12.1", {"jax": "0.10.2"}, seconds=7.4), tmp_path / "report.xml")
    assert (row.passed, row.failed, row.skipped) == (1, 2, 1)
    assert row.failures == ("tests.test_a.test_two[x]", "tests.test_b")


def test_the_table_has_a_line_for_each(tmp_path):
    packages = {"jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8"}
    rows = [
        Row("3.11.7", packages, 1234, 1, 5, 61.6, failures=("tests.a.test_b",)),
        Row("3.13", {}, problem="not found"),
    ]
    lines = table(rows).splitlines()
    assert lines[2] == "| 3.11.7 | 0.10.2 | 0.12.8 | 0.2.8 | no | 1,234 | 1 | 5 | 62 |"
    assert lines[3] == "| 3.13 |  |  |  |  | not found |  |  |  |"
    assert {line.count("|") for line in lines[:4]} == {10}
    assert "- `tests.a.test_b`" in lines


def test_an_environment_that_cannot_be_made_is_a_row_and_a_quick_try_writes_no_page(
    elsewhere, tmp_path, monkeypatch, capsys
):
    def refuse(interpreter, version, jax, asked):
        if jax == "0.10.2":
            raise Failed("pip install: no space")
        return Row(version, {"jax": jax}, passed=3)

    monkeypatch.setattr(versions, "run", refuse)
    monkeypatch.setattr(versions, "available", lambda _: ["0.10.2"])
    monkeypatch.setattr(versions, "PAGE", tmp_path / "versions.md")
    words = [f"--versions={HERE},3.77", "--jax=oldest,newest,0.11.0"]
    assert main([*words, "--tests=tests/test_core.py"]) == 1
    cells = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1:3] + row[6:7] for row in cells] == [
        [HERE, "0.10.2", "pip install: no space"],
        [HERE, "0.11.0", "3"],
        ["3.77", "", "not found"],
    ]
    assert not (tmp_path / "versions.md").exists()
    main(words)
    assert "not found" in (tmp_path / "versions.md").read_text()
