"""The files of a run: written whole or not at all, sealed by a checksum, and read as data that anybody may have made.

No link is followed, neither to write nor to read: a folder from somebody else could lead a write to any file. After a
power cut a file that `write` has returned from is there, whole.
"""

import contextlib
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jaxdl.data import DataError
from jaxdl.run.engine.distributed import is_first

SUM = "sha256"  # the field of a record that holds the checksum of all others
PART = ".part"
MOST = 1 << 28  # bytes of a file of a run that is read: a history of a million rows is below it


@contextlib.contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Gives an OSError of the block that names no file, as a full disk's, this one's name."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes `path` at the end of the block, or vanishes if that raises.

    A link at `path` is replaced, not followed; what a killed process left of the same file is removed.

    Raises:
      DataError: a folder is at `path` or at its part file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    for here in (path, part):
        if here.is_dir() and not here.is_symlink():
            raise DataError(f"{here}: is a folder where a file is to be written; move it away")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    try:
        new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with naming(path), os.fdopen(os.open(part, new, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write(path: Path, text: str) -> None:
    """Writes a file whole or not at all; of several processes the first one does."""
    if is_first():
        with replacing(path) as file:
            file.write(text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a record with its checksum, whole or not at all; NaN becomes null, as JSON has none."""
    write(path, _sealed(plain(value)))


def read_json(path: Path) -> Any:
    """The record that `write_json` wrote; None if it is not there.

    Raises:
      DataError: it is a link or no plain file, no JSON, or not what was written.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is damaged, it is no JSON ({str(error)[:100]})") from None
    if not isinstance(record, dict) or SUM not in record:
        raise DataError(f"{path}: has no {SUM} of its content: it is damaged, or no record of this version of jaxdl")
    record.pop(SUM)
    if text != _sealed(record):  # to the last byte: a flipped bit is found wherever it is
        raise DataError(f"{path}: its content has changed since it was written")
    return record


def _sealed(record: dict[str, Any]) -> str:
    """The text of a record of plain values, with the SHA-256 of its JSON as the last field."""
    found = hashlib.sha256(json.dumps(record).encode()).hexdigest()
    return json.dumps(record | {SUM: found}, indent=2) + "\n"


def read_bytes(path: Path, most: int = MOST) -> bytes | None:
    """The content of a plain file of at most `most` bytes; None if it is not there.

    Raises:
      DataError: it is a link, a folder, a pipe, longer, or cannot be read.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would be waited for
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "is a link, which is not followed" if path.is_symlink() else f"cannot be read ({error.strerror})"
        raise DataError(f"{path}: {why}") from None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise DataError(f"{path}: is no plain file")
    with os.fdopen(file, "rb") as opened:
        if status.st_size > most:
            raise DataError(f"{path}: has {status.st_size:,} bytes, at most {most:,} are read of such a file")
        try:
            return opened.read(most)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_text(path: Path) -> str | None:
    """As `read_bytes`, decoded; what is not UTF-8 is a DataError."""
    content = read_bytes(path)
    try:
        return None if content is None else content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1 if content else 1
        raise DataError(f"{path}: is damaged, line {line} is not UTF-8") from None


def refuse_links(folder: Path) -> None:
    """Raises DataError where a link stands somewhere in a run's folder; the folder itself may be reached by one."""
    for here, below, files in os.walk(folder):
        for name in (*below, *files):
            path = Path(here, name)
            if path.is_symlink():
                raise DataError(f"{path}: is a link, and no run writes through one; put there what it leads to")


def is_sum(value: Any) -> bool:
    """Whether a part of a record is [a size or a count, a checksum], as those of files and of histories are."""
    return isinstance(value, list) and [type(one) for one in value] == [int, str]


def plain(value: Any) -> Any:
    """What comes back when a value is written as JSON and read again."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


def numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Metrics as they were before JSON made null of what is not finite."""
    return {key: math.nan if value is None else value for key, value in metrics.items()}
