"""Plugins: one adds up the processor time of the tests, lists the slowest and fails a run that takes far too much; one
fails tests that skip because an import is missing.

Processor time is that of a test's own process and of all that it starts, whatever else the machine does. The clock is
not read.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

# processor seconds of the frame's tests, of an experiment's on average, and of one experiment's at most
TIERS = {"default": (400, 2.5, 2.5), "claims": (900, 12, 60)}
TOLERANCE = 3  # a run fails beyond this many times its budget: processors differ
SLOWEST = 10
TICK = os.sysconf("SC_CLK_TCK")


def first(values: Iterable[Any], count: int = 1) -> list[Any]:
    """Values for `parametrize`, the first `count` of which are tried by default and the others by -m claims."""
    later = lambda value: pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.claims)
    return [value if i < count else later(value) for i, value in enumerate(values)]


def processor_time() -> float:
    """Seconds of this process, of its children that have ended, and of those that still run."""
    return sum(os.times()[:4]) + sum(map(_of_descendants, _children("self")))


def _children(pid: int | str) -> list[int]:
    try:
        return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
    except OSError:  # it has just ended
        return []


def _of_descendants(pid: int) -> float:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, words[11:15])) / TICK + sum(map(_of_descendants, _children(pid)))


def experiment_of(item: pytest.Item, names: set[str]) -> str:
    """The experiment that a test belongs to, by its parameter `name` or its file; "" for the frame's tests."""
    given = getattr(getattr(item, "callspec", None), "params", {}).get("name", "")
    own = item.path.stem.removeprefix("test_")
    return given if given in names else own if own in names else ""


class Measure:
    """In each process that runs tests: every report carries (seconds up to its phase, tier, experiment)."""

    def __init__(self, names: set[str]) -> None:
        self.names, self.last = names, 0.0

    def pytest_collection_finish(self) -> None:
        """Imports and collection count for the run, and for no test."""
        self.last = processor_time()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        now = processor_time()
        spent, self.last = now - self.last, now
        item.spent = getattr(item, "spent", 0.0) + spent
        tier = next((mark for mark in ("full", "claims") if item.get_closest_marker(mark)), "default")
        report.user_properties.append(("processor", [round(item.spent, 3), tier, experiment_of(item, self.names)]))
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["processor"] = processor_time()


class Budget:
    """In the first process: gathers the reports of all, lists the slowest tests, and fails a run that is too slow."""

    def __init__(self, count: int, tiers: dict[str, tuple[float, float, float]] = TIERS) -> None:
        self.count, self.tiers = count, tiers
        self.tests: dict[str, tuple[float, str, str]] = {}
        self.workers: list[float] = []

    def pytest_runtest_logreport(self, report) -> None:
        for name, value in report.user_properties:
            if name == "processor":
                self.tests[report.nodeid] = tuple(value)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node) -> None:
        self.workers.append(getattr(node, "workeroutput", {}).get("processor", 0.0))

    def whole(self) -> float:
        """Processor seconds of the run: tests, imports and collection."""
        return sum(self.workers) if self.workers else processor_time()

    def limit(self) -> float:
        """The budget of the tiers that ran; none for a run with full gates."""
        tiers = {tier for _, tier, _ in self.tests.values()}
        if not tiers <= set(self.tiers):
            return float("inf")
        return sum(self.tiers[tier][0] + self.count * self.tiers[tier][1] for tier in tiers)

    def excesses(self) -> list[str]:
        """A line for whatever took more than its budget times the tolerance."""
        found = []
        if (whole := self.whole()) > TOLERANCE * self.limit():
            found.append(f"the run took {whole:.0f} s of processor time; its budget is {self.limit():.0f} s")
        spent: dict[tuple[str, str], float] = defaultdict(float)
        for seconds, tier, experiment in self.tests.values():
            if experiment and tier in self.tiers:
                spent[experiment, tier] += seconds
        for (experiment, tier), seconds in spent.items():
            budget = self.tiers[tier][2]
            if seconds > TOLERANCE * budget:
                found.append(
                    f"{experiment}: {seconds:.1f} s of processor time in {tier} tests; its budget is {budget} s"
                )
        return found

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session) -> None:
        if self.excesses() and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter) -> None:
        if not self.tests:
            return
        terminalreporter.section(f"processor time: {self.whole():.0f} s, budget {self.limit():.0f} s")
        slowest = sorted(self.tests.items(), key=lambda test: -test[1][0])[:SLOWEST]
        for nodeid, (seconds, tier, _) in slowest:
            terminalreporter.write_line(f"{seconds:7.1f} s  {tier:7}  {nodeid}")
        for line in self.excesses():
            terminalreporter.write_line(f"over budget: {line}", red=True)


class Everything:
    """A test that skips because an import is missing fails."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        reason = str(call.excinfo.value) if report.skipped and call.excinfo else ""
        if reason.startswith("could not import"):
            report.outcome, report.longrepr = "failed", f"everything is to be tested, but {reason}"
        return report
