"""R7: several processes under launch.sh end like one; if one dies, all end, and a restart loses nothing."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from experiments import image_classifier
from tests.reliability.conftest import outcome, rows

ROOT = Path(__file__).parents[2]
FLAGS = {"model": "mlp", "augment": "none", "seeds": 1, "optimizer": "momentum", "learning_rate": 0.05, "steps": 64,
         "eval_every": 32, "log_every": 1, "checkpoint_every": 4}  # fmt: skip
WORDS = ("image_classifier", *(f"--{name}={value}" for name, value in FLAGS.items()), "--noprogress", "--notensorboard")


def begin(folder, processes, *flags, restarts=0):
    """Starts launch.sh with `processes` processes of one CPU device each."""
    hidden = ("JAX_NUM_CPU_DEVICES", "JAX_NUMPY_RANK_PROMOTION")
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | {"PYTHON": sys.executable}
    options = [f"--processes={processes}"] * (processes > 1) + [f"--max-restarts={restarts}"] * (restarts > 0)
    return subprocess.Popen(
        [str(ROOT / "launch.sh"), *options, "--cpu-devices=1", *WORDS, *flags, f"--workdir={folder}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment, start_new_session=True,
    )  # fmt: skip


def ended(process):
    """Waits for a successful end -> (stdout, stderr)."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    return out, err


def workers(process):
    """{number: process id} of the training workers; the shell between them and launch.sh is skipped."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes()
            group = os.getsid(int(folder.name))
        except OSError:
            continue
        number = re.search(rb"JAXDL_PROCESS_ID=(\d+)\0", environment)
        if group == process.pid and number and b"experiments.image_classifier" in words and b"-m" in words:
            found[int(number[1])] = int(folder.name)
    return found


def like():
    """A state of the experiment, for the structure of its checkpoints."""
    config = image_classifier.Config(**FLAGS)
    return jax.jit(image_classifier.build(config, image_classifier.data(config)).init)(jax.random.key(0))


@pytest.mark.full
@pytest.mark.parametrize("parallel", ["jit", "pmap", "fsdp"])
def test_one_two_and_four_processes_end_alike(tmp_path, promise, parallel):
    passed, tried, one, said = 0, 0, [], ""
    for processes in (1, 2, 4):
        folder = tmp_path / str(processes)
        ended(begin(folder, processes, f"--parallel={parallel if processes > 1 else 'jit'}"))
        found = rows(folder)
        one, tried = one or found, tried + 1
        good = [sorted(row) for row in found] == [sorted(row) for row in one]
        good = good and all(row == pytest.approx(other, rel=1e-3) for row, other in zip(found, one, strict=True))
        passed, said = passed + good, said if good else f"{said} {processes} processes end otherwise;"
    promise("R7", passed, tried, said or "numbers of processes")


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_a_worker_that_dies(tmp_path, promise, seed):
    """Without restarts all end within 10 s and the message names its number; with restarts the bits are the same."""
    draw, processes = random.Random(seed), 2
    ended(begin(tmp_path / "whole", processes))
    number = draw.randrange(processes)

    def killed(folder, restarts):
        process = begin(folder, processes, restarts=restarts)
        until = time.monotonic() + 120
        while not list(folder.glob("checkpoints/*/checksums.json")) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.2))
        os.kill(workers(process)[number], signal.SIGKILL)
        return process

    begun = killed(tmp_path / "down", 0)
    since = time.monotonic()
    _, err = begun.communicate(timeout=60)
    down = time.monotonic() - since < 10 and begun.returncode == 137 and not workers(begun)
    named = re.search(rf"launch.sh: process {number} .*status 137 \(SIGKILL\)", err) is not None
    _, err = ended(killed(tmp_path / "again", 2))
    state = like()
    same = outcome(tmp_path / "again", state) == outcome(tmp_path / "whole", state)
    parts = {
        "down within 10 s": down,
        "named": named,
        "restarted": "restart 1 of 2" in err,
        "same bits": same,
    }
    promise("R7", sum(map(bool, parts.values())), len(parts), f"{parts}; process {number}")
