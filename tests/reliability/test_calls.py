"""R18: killed at any change of the file system, a run resumes and ends as if nothing had happened."""

import random
import re
import shutil
import signal

import pytest

from tests.reliability.conftest import outcome

NEVER = 10**9
SHORT = ("--steps=6", "--checkpoint_every=2", "--eval_every=2")
KINDS = {
    "plain": SHORT,
    "patience": ("--steps=14", "--eval_every=2", "--checkpoint_every=2", "--patience=2", "--learning_rate=0.3"),
    "seeds": (*SHORT, "--seeds=2"),
    "sweep": (*SHORT, "--sweep=learning_rate=0.001,0.01"),
    "overwrite": (*SHORT, "--overwrite"),
}


def left(folder, like):
    """The outcome of every fit, and the names of all files that do not depend on the clock."""
    ends = sorted(path.parent for path in folder.rglob("result.json"))
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if "state" not in p.relative_to(folder).parts}
    return {str(path.relative_to(folder)): outcome(path, like) for path in ends}, names


def gate(warm, tmp_path, like, promise, kind, chosen):
    """Kills the run at each of the calls that `chosen(number of calls)` returns."""
    words, said, before = KINDS[kind], tmp_path / "said", tmp_path / "before"
    if kind == "overwrite":
        process = warm([f"--workdir={before}", "--steps=9", "--checkpoint_every=3", "--width=7"], said)
        assert process.wait() == 0, process.said()

    def begin(folder, kill_at):
        if kind == "overwrite" and not folder.exists():
            shutil.copytree(before, folder)
        return warm([f"--workdir={folder}", *words], said, kill_at=kill_at)

    whole = begin(tmp_path / "whole", NEVER)
    assert whole.wait() == 0, whole.said()
    calls = int(re.search(r"calls: (\d+)", whole.said())[1])
    expected = left(tmp_path / "whole", like)
    assert len(expected[0]) == (2 if kind in ("seeds", "sweep") else 1)
    passed, tried, wrong = 0, 0, []
    for at in chosen(calls):
        folder = tmp_path / f"at{at}"
        process = begin(folder, at)
        met = process.wait() == -signal.SIGKILL
        again = begin(folder, NEVER)
        good = again.wait() == 0 and left(folder, like) == expected and "warning" not in again.said().lower()
        tried, passed = tried + met, passed + (met and good)
        if not good:
            wrong.append((at, again.said()[-400:]))
        shutil.rmtree(folder)
    promise("R18", passed, tried, f"{kind}: {calls} calls; failed: {wrong}" if wrong else f"{kind}, of {calls} calls")
    return tried


@pytest.mark.claims
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_some_calls(warm, tmp_path, like, promise, kind):
    some = lambda n: random.Random(kind).sample(range(1, n + 1), 2)
    assert gate(warm, tmp_path, like, promise, kind, some) == 2


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_call(warm, tmp_path, like, promise, kind):
    assert gate(warm, tmp_path, like, promise, kind, lambda n: range(1, n + 1)) > 40
