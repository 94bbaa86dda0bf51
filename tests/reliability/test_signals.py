"""R3: SIGTERM and SIGINT end a run after its state is saved, no step is lost, and a second signal ends it at once."""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxdl.run import Interrupted, fit
from jaxdl.run.engine.signals import caught
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.run.store.seal import SEAL
from tests.reliability import program
from tests.reliability.conftest import digests, outcome, restored, rows
from tests.reliability.nursery import PROGRAM, environment

WORDS = ("--steps=200", "--nap=0.01")
EITHER = (signal.SIGTERM, signal.SIGINT)
one = pytest.mark.parametrize("signum", [EITHER[0], pytest.param(EITHER[1], marks=pytest.mark.claims)])


def begun(folder, process, lines):
    """Waits until the log has more than `lines` lines."""
    log = folder / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") <= lines):
        time.sleep(0.002)
    assert process.poll() is None, process.said()


def last_step(folder):
    """The step of the last complete line of the log."""
    return json.loads((folder / "metrics.jsonl").read_text().rpartition("\n")[0].rpartition("\n")[2])["step"]


def one_signal(start, folder, said, signum, wait):
    """Whether a run that receives a signal saves its last step within 10 seconds and prints so."""
    lines = len(rows(folder)) if (folder / "metrics.jsonl").exists() else 0
    process = start([f"--workdir={folder}", *WORDS], said)
    begun(folder, process, lines)
    time.sleep(wait)
    assert process.kill(signum)
    status = process.wait(10)
    saved = re.search(rf"{signum.name}: saved at step (\d+)", process.said())
    assert saved, process.said()
    last = rows(folder)[-1]["step"]
    return (
        status == 128 + signum
        and int(saved[1]) == last > lines * 0.9
        and (folder / "checkpoints" / saved[1] / SEAL).exists()
    )


def two_signals(start, folder, said, first, second):
    """Whether a run that cannot save yet, because its data blocks, ends at once on the second signal."""
    lines = len(rows(folder)) if (folder / "metrics.jsonl").exists() else 0
    process = start([f"--workdir={folder}", WORDS[0], "--nap=2"], said)
    begun(folder, process, lines)  # it has compiled, and sleeps again soon
    # rows arrive two steps late, or together before an evaluation, after which the first signal alone may end the run
    while last_step(folder) % 20 in (18, 19, 0):
        time.sleep(0.01)
    lines = len(rows(folder))
    time.sleep(0.3)
    assert process.kill(first)
    time.sleep(0.2)
    alive = process.kill(second)
    sent = time.monotonic()
    status = process.wait(10)
    quick = time.monotonic() - sent < 1  # the nap has 1.5 s left
    return alive and quick and status == 128 + second and len(rows(folder)) <= lines + 1


def gate(start, tmp_path, like, promise, seed, singles, doubles):
    draw, said, folder = random.Random(seed), tmp_path / "said", tmp_path / "cut"
    whole = start([f"--workdir={tmp_path / 'whole'}", WORDS[0]], said)
    assert whole.wait() == 0, whole.said()
    passed = sum(one_signal(start, folder, said, EITHER[i % 2], draw.uniform(0, 0.1)) for i in range(singles))
    passed += sum(two_signals(start, folder, said, EITHER[i % 2], EITHER[(i + 1) % 2]) for i in range(doubles))
    end = start([f"--workdir={folder}", *WORDS], said)
    assert end.wait() == 0, end.said()
    same = outcome(folder, like) == outcome(tmp_path / "whole", like)
    promise("R3", passed * same, singles + doubles, f"{singles} signals, {doubles} pairs of them; seed {seed}")


@pytest.mark.claims
def test_signals(start, tmp_path, like, promise):
    gate(start, tmp_path, like, promise, seed=0, singles=1, doubles=1)


@pytest.mark.claims
def test_more_signals(start, tmp_path, like, promise):
    gate(start, tmp_path, like, promise, seed=6, singles=2, doubles=2)


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_many_signals(start, tmp_path, like, promise, seed):
    gate(start, tmp_path, like, promise, seed, singles=8, doubles=2)


@pytest.mark.claims
@pytest.mark.parametrize("at", [10, 5])
def test_a_signal_that_arrives_while_a_save_begins(at, tmp_path, like, promise, monkeypatch):
    """The step is saved once: a second save would remove the first while it is being written."""
    config = program.Config(steps=12, checkpoint_every=5, eval_every=6, patience=9, workdir=str(tmp_path / "w"))
    parts = program.data(config)
    experiment, steps, sent, save = program.build(config, parts), [], [], Checkpoints.save

    def saved(self, step, *rest, **facts):
        steps.append(step)
        save(self, step, *rest, **facts)
        if step == at and not sent:
            sent.append(step)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpoints, "save", saved)
    with pytest.raises(Interrupted, match=f"saved at step {at}"):
        fit(experiment, parts, config)
    whole = fit(experiment, parts, dataclasses.replace(config, workdir=str(tmp_path / "whole")))
    kept = restored(tmp_path / "w", like)[0]
    resumed = fit(experiment, parts, config)
    same = digests(resumed.state) == digests(whole.state) and rows(tmp_path / "w") == rows(tmp_path / "whole")
    note = f"signal in a save; step {at}, saved {steps}, found {kept}, the same: {same}"
    promise("R3", steps.count(at) == 2 and kept == at and same, 1, note)


BUSY = """
import hashlib
from jaxdl.run.engine.signals import caught
with caught(True, lambda line: print(line, flush=True)):
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)  # half a minute without an instruction of Python's
"""


@one
def test_a_second_signal_does_not_wait_for_a_compiler(signum, promise):
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"busy\n"
    process.send_signal(signum)
    heard = process.stdout.readline().startswith(signum.name.encode())
    process.send_signal(signum)
    try:
        status = process.wait(5)
    finally:
        process.kill()
        process.communicate()
    promise("R3", heard and status == 128 + signum, 1, "a second signal while no instruction of Python's is run")


OTHER = """
import os, signal, time
from jaxdl.run.engine.signals import caught
heard = []
signal.signal(signal.SIGUSR1, lambda *args: heard.append(1))
with caught(True, print) as arrived:
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)
print(len(heard), arrived)
"""


@pytest.mark.claims
def test_other_signals_keep_their_meaning():
    done = subprocess.run([sys.executable, "-c", OTHER], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "3 []\n")


def test_all_is_as_before_afterwards():
    before = [signal.getsignal(signum) for signum in EITHER]
    with caught(True, print):
        (thread,) = [t for t in threading.enumerate() if t.name == "signals"]
        assert [signal.getsignal(signum) for signum in EITHER] != before
    assert [signal.getsignal(signum) for signum in EITHER] == before
    assert signal.set_wakeup_fd(-1) == -1
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.claims
@one
def test_a_closed_stderr_does_not_disarm_the_second_signal(signum):
    code = (
        "import os, time\n"
        "from jaxdl.run.show.report import log\n"
        "from jaxdl.run.engine.signals import caught\n"
        "with caught(True, log):\n"
        "    print('ready', flush=True)\n"
        "    os.close(2)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    for _ in range(2):
        time.sleep(0.3)
        process.send_signal(signum)
    assert process.wait(10) == 128 + signum


def test_hang_up_saves(warm, tmp_path, promise):
    passed = one_signal(warm, tmp_path / "run", tmp_path / "said", signal.SIGHUP, 0.05)
    promise("R3", passed, 1, "SIGHUP")


@pytest.mark.claims
def test_hang_up_under_nohup_is_nothing(tmp_path, promise):
    folder, said = tmp_path / "run", (tmp_path / "said").open("wb")
    command = ["nohup", sys.executable, "-m", PROGRAM, f"--workdir={folder}", "--steps=50", "--nap=0.01"]
    process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=environment())
    while not (folder / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    promise("R3", json.loads((folder / "result.json").read_text())["step"] == 50, 1, "SIGHUP under nohup")
