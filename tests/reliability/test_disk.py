"""R9: an error in writing ends the run with one line, and the last intact checkpoint is kept and used."""

import contextlib
import random
import shutil
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest

from jaxdl.run.command.main import _without_late_writers
from jaxdl.run.store.checkpoint import Checkpoints, Unwritten
from jaxdl.run.store.seal import SEAL
from tests.reliability.conftest import outcome, restored

WORDS = ("--steps=120", "--checkpoint_every=5", "--nap=0.02")


class Mount:
    """A small file system of its own, if this machine permits a mount."""

    def __init__(self, folder, size="4m"):
        self.folder = folder
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True,
                              text=True, check=False) if shutil.which("mount") else None  # fmt: skip
        if done is None or done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip() if done else 'no mount command'}")

    def fill(self):
        """Fills it to the last byte."""
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 12)):
                pass

    def empty(self):
        (self.folder / "filler").unlink()

    def close(self):
        subprocess.run(["umount", "-l", str(self.folder)], check=False)


@pytest.fixture
def small_disk(tmp_path):
    mount = Mount(tmp_path / "disk")
    yield mount
    mount.close()


def sealed(folder):
    return sorted(int(path.parent.name) for path in folder.glob(f"checkpoints/*/{SEAL}"))


def after_some_saves(start, folder, said, draw):
    """A run with at least two intact checkpoints, at a random instant after them."""
    process = start([f"--workdir={folder}", *WORDS], said)
    while len(sealed(folder)) < 2 and process.poll() is None:
        time.sleep(0.005)
    time.sleep(draw.uniform(0, 0.2))
    assert process.poll() is None, process.said()
    return process


def told(process, *words, seconds=30):
    """Asserts that the run has ended with one line of error that contains these words."""
    status = process.wait(seconds)
    said = process.said()
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert status > 0, f"exit status {status}: {said[-500:]}"
    assert "Traceback" not in said, f"a traceback of {said.count(chr(10))} lines, at its end: {said[-300:]}"
    assert len(errors) == 1, said
    assert all(word.lower() in errors[0].lower() for word in words), errors[0]


def whole_run(start, tmp_path, like):
    process = start([f"--workdir={tmp_path / 'whole'}", *WORDS[:2]], tmp_path / "said")
    assert process.wait() == 0, process.said()
    return outcome(tmp_path / "whole", like)


def good_checkpoint_left(folder, like):
    """The step of the latest readable checkpoint; there must be one, and no partial one may count as complete."""
    found = restored(folder, like)
    assert found is not None
    assert found[0] in sealed(folder)
    return found[0]


def goes_on(start, folder, said, like, expected):
    process = start([f"--workdir={folder}", *WORDS[:2]], said)
    assert process.wait() == 0, process.said()
    assert outcome(folder, like) == expected


def full_disk(start, tmp_path, like, disk, seed):
    draw, said = random.Random(seed), tmp_path / "said"
    expected = whole_run(start, tmp_path, like)
    folder = disk.folder / f"run{seed}"
    process = after_some_saves(start, folder, said, draw)
    disk.fill()
    told(process, str(folder), "space")
    good_checkpoint_left(folder, like)
    disk.empty()
    goes_on(start, folder, said, like, expected)
    shutil.rmtree(folder)


def file_limit(start, tmp_path, like, width, seed):
    """A limit on the size of files: the log stays below it, the checkpoint does not."""
    said, folder = tmp_path / "said", tmp_path / f"limit{seed}"
    process = start([f"--workdir={folder}", f"--width={width}", *WORDS[:2]], said, 40_000)
    told(process, str(folder), "checkpoints", "too large")
    assert restored(folder, like) is None
    assert sealed(folder) == []


def read_only(start, tmp_path, like, seed, expected=None):
    """The folder of checkpoints becomes read-only, through a bind mount for root too."""
    draw, said, folder = random.Random(seed), tmp_path / "said", tmp_path / f"run{seed}"
    process = after_some_saves(start, folder, said, draw)
    inner = str(folder / "checkpoints")
    commands = (["mount", "--bind", inner, inner], ["mount", "-o", "remount,bind,ro", inner])
    done = [subprocess.run(c, capture_output=True, check=False) for c in commands if shutil.which("mount")]
    try:
        if len(done) < 2 or any(d.returncode for d in done):
            process.kill(9)
            pytest.skip("no folder can be mounted read-only here")
        told(process, inner, "read-only")
        good_checkpoint_left(folder, like)
    finally:
        subprocess.run(["umount", "-l", inner], capture_output=True, check=False)
    if expected:
        goes_on(start, folder, said, like, expected)


def deleted(start, tmp_path, what, seed):
    """The folder is removed: nothing can be resumed, but the run must not end with success."""
    draw, said, folder = random.Random(seed), tmp_path / "said", tmp_path / f"run{seed}"
    process = after_some_saves(start, folder, said, draw)
    gone, hidden = folder / what, tmp_path / "hidden"
    gone.rename(hidden)  # atomic: rmtree may fail during a save
    shutil.rmtree(hidden, ignore_errors=True)  # a save may be writing in it
    told(process, str(folder))
    assert not (folder / "checkpoints").exists() or sealed(folder) == []


def read_only_from_the_start(start, tmp_path, disk):
    folder = disk.folder / "run"
    subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True, capture_output=True)
    process = start([f"--workdir={folder}", *WORDS], tmp_path / "said")
    told(process, str(folder), "read-only")
    assert process.poll() == 2


@pytest.mark.claims
def test_full_disk(start, tmp_path, like, small_disk, promise):
    full_disk(start, tmp_path, like, small_disk, 0)
    promise("R9", 1, 1, "disk full, seed 0")


@pytest.mark.claims
def test_file_too_large(start, tmp_path, like, promise):
    file_limit(start, tmp_path, like, 4000, 0)
    promise("R9", 1, 1, "file size limit")


@pytest.mark.claims
def test_checkpoints_become_read_only(start, tmp_path, like, promise):
    read_only(start, tmp_path, like, 0)
    promise("R9", 1, 1, "read-only in mid-run, seed 0")


def test_read_only_from_the_start(start, tmp_path, small_disk, promise):
    read_only_from_the_start(start, tmp_path, small_disk)
    promise("R9", 1, 1, "read-only from the start")


@pytest.mark.claims
@pytest.mark.parametrize("what", ["", "checkpoints"])
def test_folder_deleted(start, tmp_path, what, promise):
    deleted(start, tmp_path, what, 0)
    promise("R9", 1, 1, f"{what or 'run folder'} deleted in mid-run, seed 0")


@pytest.mark.full
def test_predictions_of_a_read_only_run_are_shown(runs, small_disk, promise):
    folder = small_disk.folder / "run"
    shutil.copytree(runs.finished, folder)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.folder)], check=True, capture_output=True)
    status, said = runs.command(folder, "predict")
    *_, first, second, error = said.splitlines()
    assert status == 74
    assert "row 1" in first
    assert "row 2" in second
    assert error == f"error: {folder / 'predictions.csv.part'}: Read-only file system"
    promise("R9", 1, 1, "predictions of a read-only run")


def test_folder_made_again_by_a_save_in_flight_is_not_the_old_one(tmp_path, promise):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, {"x": np.arange(7)})
    checkpoints.wait()
    (tmp_path / "checkpoints").rename(tmp_path / "hidden")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(Unwritten, match="removed"):
        checkpoints.save(2, {"x": np.arange(7)})
    checkpoints.close()
    promise("R9", not any((tmp_path / "checkpoints").iterdir()), 1, "folder removed and made again")


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 9))
def test_every_trouble_at_other_instants(start, tmp_path, like, small_disk, promise, seed):
    full_disk(start, tmp_path, like, small_disk, seed)
    shutil.rmtree(tmp_path / "whole")
    read_only(start, tmp_path, like, 100 + seed, whole_run(start, tmp_path, like))
    file_limit(start, tmp_path, like, 1000 * (1 + seed), seed)
    deleted(start, tmp_path, "", 200 + seed)
    deleted(start, tmp_path, "checkpoints", 300 + seed)
    promise("R9", 5, 5, f"troubles, seed {seed}")


def test_tracebacks_of_late_writers_are_dropped_and_no_others(promise):
    seen = []
    for message in ("Event loop is closed", "another"):
        late = SimpleNamespace(exc_type=RuntimeError, exc_value=RuntimeError(message), exc_traceback=None)
        _without_late_writers(lambda late: seen.append(str(late.exc_value)), late)
    promise("R9", seen == ["another"], 1)
