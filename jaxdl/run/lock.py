"""One run in a folder at a time."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxdl.run.flags import FlagError

LOCK = ".lock"


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the folder, making it if need be, for this process; the system releases it when the process dies.

    Raises:
      FlagError: another process holds it, which the message names; or the folder cannot be made.
    """
    new = not workdir.exists()
    path = workdir / LOCK
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = _open(path)
    except FileExistsError:
        raise FlagError(f"--workdir={workdir}: is a file; name a folder") from None
    except OSError as error:
        raise FlagError(f"--workdir={workdir}: cannot be written ({error.strerror})") from None
    if file is None:
        raise FlagError(f"--workdir={workdir}: {_holder(path)} is using it; wait, end it, or name another folder")
    try:
        os.ftruncate(file, 0)
        os.write(file, json.dumps([os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S")]).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)
        if new and workdir.is_dir() and not any(workdir.iterdir()):
            workdir.rmdir()


def _open(path: Path) -> int | None:
    """A descriptor that holds the lock; None if another process does."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        if path.exists() and os.stat(path).st_ino == os.fstat(file).st_ino:
            return file
        os.close(file)  # its owner has just removed it: this is a lock on nothing


def _holder(path: Path) -> str:
    try:
        pid, host, since = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return "another run"
    return f"the run with process number {pid} on {host}, begun at {since},"
