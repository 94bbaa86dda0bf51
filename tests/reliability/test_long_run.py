"""R14 and S4: a long run with many saves uses no more memory or files at its end, and no socket."""

import json
import os
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

MORE_MEMORY = 1.03, 6e6  # the last sixth may have 3 % and 6 MB more than the third sixth: allocators keep a little
MORE_FILES = 2
KEPT = 2 + 1 + 1  # the latest two, the best, and one that is being removed


def bytes_in_memory(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files(pid):
    """{(descriptor, target)}, without event loops, which have no name but always a pair of sockets."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add((entry.name, os.readlink(entry)))
        except OSError:  # closed meanwhile
            continue
    return {(number, name) for number, name in found if not name.startswith("anon_inode")}


def network_sockets(pid, files):
    """The internet sockets of this process: (state, local address, remote address)."""
    inodes = {name[8:-1] for _, name in files if name.startswith("socket:[")}
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            words = line.split()
            if words[9] in inodes:
                found.append((words[3], words[1], words[2]))
    return found


def watched_run(process, folder):
    """(step, memory, files, complete checkpoints) at many instants, and all sockets that were ever open."""
    samples, sockets, log = [], set(), folder / "metrics.jsonl"
    while process.poll() is None:
        try:
            lines = log.read_text().splitlines() if log.exists() else []
            files = open_files(process.pid)
            sockets.update(network_sockets(process.pid, files))
            steps = [path for path in folder.glob("checkpoints/[0-9]*") if path.name.isdigit()]
            if len(lines) > 1:
                samples.append((json.loads(lines[-1])["step"], bytes_in_memory(process.pid), files, len(steps)))
        except (OSError, ValueError):  # it has ended, or a line is being written
            pass
        time.sleep(0.02)
    return samples, sockets


def gate(start, tmp_path, promise, steps, every, nap, slower):
    folder = tmp_path / "run"
    words = [f"--workdir={folder}", f"--steps={steps}", f"--checkpoint_every={every}", f"--eval_every={every * 5}"]
    process = start([*words, "--log_every=5", f"--nap={nap}", "--tensorboard"], tmp_path / "said")
    samples, sockets = watched_run(process, folder)
    assert process.poll() == 0, process.said()
    early = [s for s in samples if steps / 3 <= s[0] < steps / 2]
    late = [s for s in samples if steps * 5 / 6 <= s[0] < steps - 5]
    assert min(len(early), len(late)) > 2, f"only {len(early)} and {len(late)} samples"
    memory = tuple(median(s[1] for s in part) for part in (early, late))
    held = [
        set.intersection(*(s[2] for s in part)) for part in (early, late)
    ]  # throughout: not those of a running save
    files = tuple(map(len, held))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    at = [(row["step"], row["seconds"]) for row in rows if "train/loss" in row]
    paces = [(b[0], (b[0] - a[0]) / (b[1] - a[1])) for a, b in pairwise(at)]
    thirds = [[pace for step, pace in paces if low < step * 3 / steps <= low + 1] for low in (1, 2)]
    rate = tuple(median(third) for third in thirds)
    kept = max(s[3] for s in samples)
    note = f"{steps:,} steps, {steps // every} saves: {memory[0] / 1e6:.0f} to {memory[1] / 1e6:.0f} MB, "
    note += f"{files[0]} to {files[1]} files, {kept} checkpoints, {rate[0]:.0f} to {rate[1]:.0f} steps/s"
    good = [
        memory[1] <= memory[0] * MORE_MEMORY[0] + MORE_MEMORY[1],
        files[1] <= files[0] + MORE_FILES,
        kept <= KEPT,
        rate[1] >= slower * rate[0],
    ]
    promise("R14", sum(good), len(good), note)
    promise("S4", not sockets, 1, f"a run with {len(sockets)} sockets {sorted(sockets)}, seen {len(samples)} times")


@pytest.mark.claims
def test_some_steps(start, tmp_path, promise):
    gate(start, tmp_path, promise, 500, 25, nap=0.004, slower=0.5)  # a second each, in parallel with other tests


@pytest.mark.full
def test_many_steps(start, tmp_path, promise):
    gate(start, tmp_path, promise, 20_000, 50, nap=0.002, slower=0.8)
