"""Records passed and tried of every gate, for docs/reliability.json."""

import fcntl
import json
import os

from tests.reliability.__main__ import ELSEWHERE


def record(promise: str, gate: str, test: str, passed: int, tried: int, note: str) -> None:
    """Merges a result into the file that JAXDL_PROMISES names, if it is set; several processes may do so at once."""
    name = os.environ.get("JAXDL_PROMISES", "")
    if not name:
        return
    with open(name, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        figures = json.loads(file.read() or "{}")
        figures.setdefault(promise, {}).setdefault(gate, {})[test] = [passed, tried, note]
        file.truncate(0)
        file.write(json.dumps(figures, indent=1, sort_keys=True) + "\n")


class Elsewhere:
    """A plugin of the first process that counts the tests outside this folder which check a promise too."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str, str], list[int]] = {}

    def pytest_runtest_logreport(self, report) -> None:
        if report.when != "call" or report.skipped:
            return
        for name, prefixes in ELSEWHERE.items():
            for prefix in prefixes:
                if report.nodeid.startswith(prefix):
                    gate = "full" if "full" in report.keywords else "fast"
                    tier = " -m claims" if "claims" in report.keywords else ""  # both runs of fast tests count
                    count = self.seen.setdefault((name, gate, prefix + tier), [0, 0])
                    count[0] += report.passed
                    count[1] += 1

    def pytest_sessionfinish(self) -> None:
        for (name, gate, tests), (passed, tried) in self.seen.items():
            record(name, gate, tests, passed, tried, "tests")
