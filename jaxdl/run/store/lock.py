"""Locks that allow one run in a folder at a time, and one fit in a fit's folder."""

import errno
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxdl.data import DataError
from jaxdl.run.command.flags import FlagError
from jaxdl.run.store.files import read_bytes

LOCK, FIT = ".lock", ".fit"  # of a command in its run's folder, and of a fit in its own, which may be the same
LOCKS = (LOCK, FIT)


@contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Locks the folder, created if needed, for this process; the system releases the lock when the process dies.

    Raises:
      FlagError: another process or thread, which the message names, has locked it; or the folder cannot be created.
    """
    flag, path = ("--workdir=" if name == LOCK else "") + str(folder), folder / name
    try:
        flag.encode()
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        file = _open(path)
    except UnicodeEncodeError:
        raise FlagError(f"{flag}: its name is not UTF-8; use another folder") from None
    except FileExistsError:
        raise FlagError(f"{flag}: is a file; give a folder") from None
    except OSError as error:
        kinds = {errno.ELOOP: "a link", errno.EISDIR: "a folder"}
        why = f"{path} is {kinds[error.errno]}" if error.errno in kinds else error.strerror
        raise FlagError(f"{flag}: cannot be written ({why})") from None
    if file is None:
        raise FlagError(f"{flag}: in use by {_holder(path)}; wait, stop it, or use another folder")
    try:
        os.ftruncate(file, 0)
        os.write(file, json.dumps([os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S")]).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def check_free(folder: Path, own: bool = False) -> None:
    """Raises FlagError if a run or a fit is active in a subfolder, or with `own` in the folder itself."""
    for path in (path for name in LOCKS for path in folder.glob(f"**/{name}") if own or path.parent != folder):
        file = _open(path)
        if file is None:
            raise FlagError(f"{path.parent}: in use by {_holder(path)}; wait, or stop it")
        os.close(file)


def _open(path: Path) -> int | None:
    """Returns a descriptor that holds the lock; None if another process does."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FlagError(f"{path}: is not a regular file; remove it")
        if path.exists() and os.stat(path).st_ino == os.fstat(file).st_ino:
            return file
        os.close(file)  # its owner has just removed it: this would lock a deleted file


def _holder(path: Path) -> str:
    try:
        pid, host, since = json.loads(read_bytes(path, 1000) or b"")
        return f"process {pid} on {host}, started at {since}"
    except (ValueError, TypeError, DataError):
        return "another run"
