"""Finds and reads a user's files in memory, within a limit; every error is one line with the file's name."""

import errno
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from jaxdl.data.errors import DataError, MissingData

GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20
MARK = b"\xef\xbb\xbf"  # the byte-order mark that some programs write before UTF-8
LINE = re.compile(rb"[^\r\n]+(?:\r\n?|\n)?|\r\n?|\n")  # for finditer: a list of all lines can be far larger
TEXT_LIMIT = 1 << 30  # bytes of text after decompression: far above usual tables, far below a decompression bomb
MAX_TEXT = "JAXDL_MAX_TEXT_BYTES"  # the environment variable that raises it
AGAIN = "copy or download the file again"


def locate(data_dir: str | Path | None, folders: tuple[str, ...], name: str, what: str) -> Path:
    """Returns the path of data_dir/FOLDER/name, with or without ``.gz``, in the first folder that contains it.

    Args:
      data_dir: the user's folder of data files; the environment variable JAXDL_DATA_DIR if not given.
      folders: folders below data_dir to look in; "" is data_dir itself.
      name: file name without ``.gz``.
      what: the data set, for the message.

    Raises:
      MissingData: no folder is given, or the folder or the file does not exist.
    """
    data_dir = data_dir or os.environ.get("JAXDL_DATA_DIR")
    if not data_dir:
        raise MissingData(f"{what} is read from files: set --data_dir or JAXDL_DATA_DIR to the folder that holds them")
    root = Path(data_dir)
    if not os.path.isdir(root):
        raise MissingData(f"--data_dir={root}: no such folder; give the folder that holds the files of {what}")
    for folder in folders:
        for ending in ("", ".gz"):
            path = root / folder / (name + ending)
            if os.path.exists(path):
                return path
    places = " or ".join(str(Path(folder) / name) for folder in folders)
    raise MissingData(f"--data_dir={root}: no {places} (or .gz); put the original files of {what} there")


class FileSet(NamedTuple):
    """The files of a data set; each is read from the first of `folders` that holds it, plain or gzipped."""

    what: str  # the data set, for messages
    folders: tuple[str, ...]
    names: tuple[str, ...]

    def paths(self, data_dir: str | Path | None) -> list[Path]:
        """Returns the paths in the order of `names`; raises MissingData as `locate` does."""
        return [locate(data_dir, self.folders, name, self.what) for name in self.names]

    def missing(self, data_dir: str | Path) -> list[str]:
        """Returns the names of the files that data_dir does not hold; none of the others is opened."""
        root = Path(data_dir)
        places = lambda name: (root / folder / (name + ending) for folder in self.folders for ending in ("", ".gz"))
        return [name for name in self.names if not any(os.path.exists(path) for path in places(name))]


@contextmanager
def plain(path: str | Path) -> Iterator[io.BufferedReader]:
    """Opens a file for reading its bytes unchanged; never waits for a pipe, socket or device.

    Raises:
      MissingData: the file does not exist.
      DataError: it is not a regular file, or cannot be read (also inside the with block).
    """
    try:
        with os.fdopen(_descriptor(path), "rb") as file:
            yield file
    except MissingData:
        raise
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e}); check the file and its permissions") from e


def _descriptor(path: str | Path) -> int:
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else opening a pipe waits for a writer
        kind = os.fstat(number).st_mode
    except (FileNotFoundError, ValueError) as e:  # ValueError: a zero byte in the path
        raise MissingData(f"{path}: no such file") from e
    except OSError as e:
        if e.errno != errno.ENXIO:
            raise
        number, kind = -1, 0  # a socket, or a device that does not exist
    if stat.S_ISREG(kind):
        return number
    if number >= 0:
        os.close(number)
    if stat.S_ISDIR(kind):
        raise DataError(f"{path}: is a folder; expected a file")
    raise DataError(f"{path}: is not a regular file but a pipe, socket or device; save its content to a file")


@contextmanager
def opened(path: str | Path) -> Iterator[io.BufferedIOBase]:
    """Opens a file as `plain` does, and decompresses gzip, which is recognized by its first bytes.

    Raises:
      MissingData: the file does not exist.
      DataError: it is not a regular file, cannot be read, or its gzip stream is broken (also inside the with block).
    """
    with plain(path) as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if not packed:
            yield raw
            return
        try:
            with gzip.open(raw, "rb") as stream:
                yield stream
        except (EOFError, zlib.error, gzip.BadGzipFile) as e:
            raise DataError(f"{path}: broken gzip stream ({e}); {AGAIN}") from e


def limit(variable: str, usual: int) -> int:
    """Returns a limit: the number in an environment variable, or the usual one.

    Raises:
      DataError: the variable is not a whole number above 0.
    """
    text = os.environ.get(variable, "")
    if text and not (text.isdecimal() and len(text) < 19 and int(text)):
        raise DataError(f"{variable}={text[:40]!r} in the environment must be a whole number above 0, such as {usual}")
    return int(text) if text else usual


def read_at_most(stream: io.BufferedIOBase, count: int) -> bytearray:
    """Returns up to count of the next bytes; memory depends on the bytes that exist, not on count."""
    data = bytearray()
    while len(data) < count and (chunk := stream.read(min(count - len(data), CHUNK))):
        data += chunk
    return data


def read_bytes(path: str | Path, usual: int = TEXT_LIMIT) -> bytes:
    """Returns the content, decompressed; DataError if it is empty or longer than the limit."""
    most = limit(MAX_TEXT, usual)
    with opened(path) as stream:
        content = bytes(read_at_most(stream, most + 1))
    if not content:
        raise DataError(f"{path}: is empty; {AGAIN}")
    if len(content) > most:
        raise DataError(
            f"{path}: has more than {most:,} bytes, the limit; use a smaller file, or set {MAX_TEXT} to its size"
        )
    return content


def read_text(path: str | Path, usual: int = TEXT_LIMIT) -> str:
    """Returns the content as UTF-8 text without its byte-order mark; line ends are unchanged."""
    content = read_bytes(path, usual)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:  # the codec counts from the end of the mark
        raise _not_utf_8(path, content, e.start + (len(MARK) if content.startswith(MARK) else 0)) from e


def decoded_lines(path: str | Path, content: bytes) -> Iterator[str]:
    """Yields the lines of UTF-8 text with their ends; decoded as a whole, one 𝄞 makes a text four times as large."""
    for match in LINE.finditer(content, len(MARK) if content.startswith(MARK) else 0):
        try:
            yield match[0].decode()
        except UnicodeDecodeError as e:
            raise _not_utf_8(path, content, match.start() + e.start) from e


def _not_utf_8(path: str | Path, content: bytes, at: int) -> DataError:
    line = content.count(b"\n", 0, at) + 1
    return DataError(f"{path}: not UTF-8 at line {line}, byte {at} (0x{content[at]:02x}); save the file as UTF-8")
