"""Two runs never use one folder at the same time."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from jaxdl.run.command.flags import FlagError
from jaxdl.run.store.lock import LOCK, locked
from tests.budget import first

HOLD = """
import sys, time
from pathlib import Path
from jaxdl.run.store.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of tmp_path/run."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_refuses_and_names_the_first(holder, tmp_path):
    with (
        pytest.raises(FlagError, match=f"process {holder.pid} on .* 20"),
        locked(tmp_path / "run"),
    ):
        pass
    assert json.loads((tmp_path / "run" / LOCK).read_text())[0] == holder.pid


@pytest.mark.parametrize("how", first([signal.SIGKILL, signal.SIGTERM]))
def test_the_lock_of_the_dead_is_taken_over(holder, tmp_path, how):
    os.kill(holder.pid, how)
    holder.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with locked(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())[0] == os.getpid()
    assert not (tmp_path / "run").exists() or not (tmp_path / "run" / LOCK).exists()


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20))
def test_of_several_that_begin_at_once_one_has_the_folder_and_the_next_gets_it_from_the_dead(tmp_path, seed):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    start = lambda: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = [start() for _ in range(3)]
    until = time.monotonic() + 30
    while sum(process.poll() is None for process in found) > 1 and time.monotonic() < until:
        time.sleep(0.01)
    (first,) = [process for process in found if process.poll() is None]
    assert first.stdout.readline() == "held\n"
    for other in found:
        if other is not first:
            assert f"process {first.pid} on " in other.communicate()[1]
    first.send_signal((signal.SIGKILL, signal.SIGTERM)[seed % 2])
    first.wait()
    second = start()
    assert second.stdout.readline() == "held\n"
    second.kill()
    second.wait()


def test_nothing_is_left_of_an_empty_folder_and_content_stays(tmp_path):
    with locked(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
    with locked(tmp_path / "new"):
        (tmp_path / "new" / "x").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x"]
    (tmp_path / "empty").mkdir()
    with locked(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


def test_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FlagError, match="file: is a file"), locked(tmp_path / "file"):
        pass
    with pytest.raises(FlagError, match="Not a directory"), locked(tmp_path / "file" / "below"):
        pass


def test_what_the_dead_left_in_the_lock_is_written_over(tmp_path):
    (tmp_path / LOCK).write_text("not json, and longer than what a run writes of itself: " + 99 * "x")
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())[0] == os.getpid()


def test_a_holder_that_has_not_written_its_number_yet(tmp_path):
    with (tmp_path / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FlagError, match=f"{tmp_path}: .*another run"), locked(tmp_path):
            pass


def test_a_lock_that_its_owner_removed_in_between_is_not_held(tmp_path, monkeypatch):
    """The owner ends after we open the file and before we lock it; a third process would create the file again."""
    flock = fcntl.flock
    late = iter([(tmp_path / LOCK).unlink])
    monkeypatch.setattr("jaxdl.run.store.lock.fcntl.flock", lambda *args: [next(late, bool)(), flock(*args)])
    with locked(tmp_path), pytest.raises(FlagError, match=f"process {os.getpid()} "), locked(tmp_path):
        pass


@pytest.mark.claims
def test_a_run_that_is_going_on_is_not_overwritten(holder, tmp_path):
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    words = [f"--workdir={tmp_path / 'run'}", "--overwrite", "--steps=1"]
    command = [sys.executable, "-m", "experiments.image_classifier", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"process {holder.pid} " in done.stderr
