"""R1: a run that is killed at random instants and restarted ends bit for bit like one that was never killed."""

import random
import signal
import time

import pytest

from jaxdl.run.store.seal import SEAL
from tests.reliability.conftest import outcome

STEPS = 25
WORDS = (f"--steps={STEPS}", "--checkpoint_every=1")
AT_LEAST_IN_FLIGHT = 0.4


def steps_begun(folder):
    """The steps of all checkpoints whose save has begun."""
    names = [path.name.partition(".")[0] for path in folder.glob("checkpoints/[0-9]*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def in_flight(folder):
    """Whether a save was in progress when the process died: an unfinished folder, or one without a seal."""
    return any(".orbax-checkpoint-tmp" in p.name or not (p / SEAL).exists() for p in folder.glob("checkpoints/[0-9]*"))


def killed_run(start, folder, said, seed, kills):
    """Kills the run `kills` times and lets it finish -> (kills while it was alive, kills during a save)."""
    draw, met, saving = random.Random(seed), 0, 0
    for k in range(kills):
        before, process = steps_begun(folder), start([f"--workdir={folder}", *WORDS], said)
        if k % 4 == 3:  # at any instant after its start
            time.sleep(draw.uniform(0, 1.2))
        else:
            while steps_begun(folder) <= before and process.poll() is None:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.2))
        if process.kill(signal.SIGKILL):
            assert process.wait() == -signal.SIGKILL
            met += 1
            saving += k % 4 != 3 and in_flight(folder)  # otherwise an earlier kill may have left it
    process = start([f"--workdir={folder}", *WORDS], said)
    assert process.wait() == 0, process.said()
    return met, saving


def gate(start, tmp_path, like, promise, seeds, kills):
    said = tmp_path / "said"
    whole = start([f"--workdir={tmp_path / 'whole'}", *WORDS], said)
    assert whole.wait() == 0, whole.said()
    expected = outcome(tmp_path / "whole", like)
    assert expected[0] == STEPS
    passed = tried = saving = 0
    for seed in seeds:
        folder = tmp_path / str(seed)
        met, flying = killed_run(start, folder, said, seed, kills)
        same = outcome(folder, like) == expected
        passed, tried, saving = passed + met * same, tried + met, saving + flying
    assert saving >= AT_LEAST_IN_FLIGHT * tried, f"{saving} of {tried} kills met a save"
    promise("R1", passed, tried, f"kills, {saving} of them during a save; seeds {list(seeds)}")
    return tried


def test_killed_at_random_instants(start, tmp_path, like, promise):
    assert gate(start, tmp_path, like, promise, seeds=[0], kills=2) == 2


@pytest.mark.claims
def test_killed_at_more_random_instants(start, tmp_path, like, promise):
    assert gate(start, tmp_path, like, promise, seeds=[13], kills=5) == 5


@pytest.mark.full
def test_killed_at_many_random_instants(start, tmp_path, like, promise):
    assert gate(start, tmp_path, like, promise, seeds=range(1, 13), kills=5) >= 55
