"""The page of promises shows the recorded results."""

import json
import re

from tests.reliability.__main__ import DOCS, ELSEWHERE, FOLDER, GATES, OWN, PAGE, PROMISES, page, table, total
from tests.reliability.figures import record

ROOT = DOCS.parent


def test_the_page_is_what_would_be_written():
    assert PAGE.read_text(encoding="utf-8") == page(), f"{PAGE.name}: run python -m tests.reliability write"


def test_every_promise_has_its_row_and_its_gates():
    rows = re.findall(r"^\| (\w+) \|", table({}), re.MULTILINE)
    assert rows == ["id", *PROMISES]
    assert set(PROMISES) == {f"R{i}" for i in range(1, 20)} | {f"S{i}" for i in range(1, 7)}
    assert set(GATES) | set(ELSEWHERE) | set(OWN) == set(PROMISES)
    assert all((ROOT / FOLDER / name).is_file() for name in GATES.values())
    assert all((ROOT / prefix.partition("::")[0]).exists() for prefixes in ELSEWHERE.values() for prefix in prefixes)


def test_counts_are_merged_and_added_up(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_PROMISES", str(tmp_path / "found.json"))
    record("R1", "fast", "a", 4, 5, "seed 0")
    record("R1", "fast", "b", 6, 6, "seed 1")
    record("R1", "fast", "a", 5, 5, "seed 0")
    record("R1", "fast", "c", 2, 3, "tests")
    record("R2", "full", "d", 1200, 1300, "")
    found = json.loads((tmp_path / "found.json").read_text())
    assert total(found["R1"]["fast"]) == "11 of 11 + 2 of 3 tests"
    assert total({}) == "not measured"
    lines = table(found).splitlines()
    assert any(line.startswith("| R2 |") and "| not measured | 1,200 of 1,300 |" in line for line in lines)
