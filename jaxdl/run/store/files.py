"""The files of a run: written atomically, sealed by a checksum, and read as untrusted data.

No link is followed, neither when writing nor when reading: a folder from somebody else could redirect a write to any
file. After a power cut, a file that `write` has returned from is complete.
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

SUM = "sha256"  # the field of a record with the checksum of all other fields
PART = ".part"
MOST = 1 << 28  # bytes of the largest file of a run that is read; a history of a million rows is smaller


@contextlib.contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Adds the name of this file to an OSError that has none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yields a file to write, which replaces `path` at the end of the block, or is removed if the block raises.

    A link at `path` is replaced, not followed; the part file of a killed process is removed.

    Raises:
      DataError: `path` or its part file is a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    for here in (path, part):
        if here.is_dir() and not here.is_symlink():
            raise DataError(f"{here}: is a folder, but a file must be written there; move it away")
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
    """Syncs a folder, so that the names in it survive a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write(path: Path, text: str) -> None:
    """Writes a file atomically; with several processes, only the first writes."""
    if is_first():
        with replacing(path) as file:
            file.write(text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a record with its checksum atomically; NaN becomes null, because JSON has no NaN."""
    write(path, _sealed(plain(value)))


def read_json(path: Path) -> Any:
    """Returns the record that `write_json` wrote, or None if there is no such file.

    Raises:
      DataError: it is a link or not a regular file, not JSON, or has been changed.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is damaged, it is not valid JSON ({str(error)[:100]})") from None
    if not isinstance(record, dict) or SUM not in record:
        raise DataError(f"{path}: has no {SUM} of its content: it is damaged or from another version of jaxdl")
    record.pop(SUM)
    if text != _sealed(record):  # every byte is compared, so that any flipped bit is found
        raise DataError(f"{path}: its content has changed since it was written")
    return record


def _sealed(record: dict[str, Any]) -> str:
    """Returns the text of a record of plain values, with the SHA-256 of its JSON as the last field."""
    found = hashlib.sha256(json.dumps(record).encode()).hexdigest()
    return json.dumps(record | {SUM: found}, indent=2) + "\n"


def read_bytes(path: Path, most: int = MOST) -> bytes | None:
    """Returns the content of a regular file of at most `most` bytes, or None if there is no such file.

    Raises:
      DataError: it is a link, a folder, a pipe, too long, or unreadable.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # does not wait for a pipe
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "is a link, and links are not followed" if path.is_symlink() else f"cannot be read ({error.strerror})"
        raise DataError(f"{path}: {why}") from None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise DataError(f"{path}: is not a regular file")
    with os.fdopen(file, "rb") as opened:
        if status.st_size > most:
            raise DataError(f"{path}: has {status.st_size:,} bytes, more than the limit for such a file, {most:,}")
        try:
            return opened.read(most)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_text(path: Path) -> str | None:
    """Returns the decoded content, as `read_bytes`; content that is not UTF-8 is a DataError."""
    content = read_bytes(path)
    try:
        return None if content is None else content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1 if content else 1
        raise DataError(f"{path}: is damaged, line {line} is not UTF-8") from None


def refuse_links(folder: Path) -> None:
    """Raises DataError if there is a link in a run's folder; the folder itself may be reached through one."""
    for here, below, files in os.walk(folder):
        for name in (*below, *files):
            path = Path(here, name)
            if path.is_symlink():
                raise DataError(f"{path}: is a link, and runs do not write through links; replace it with its target")


def is_sum(value: Any) -> bool:
    """Returns whether a value of a record is [size or count, checksum], as for files and histories."""
    return isinstance(value, list) and [type(one) for one in value] == [int, str]


def plain(value: Any) -> Any:
    """Returns a value as it would be after writing it as JSON and reading it back."""
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
    """Returns metrics with NaN in place of the null that JSON has for non-finite numbers."""
    return {key: math.nan if value is None else value for key, value in metrics.items()}
