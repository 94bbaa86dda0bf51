"""Finding and reading a user's files: in memory, within a limit, every failure one line with the file's name."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxdl.data.errors import DataError, MissingData

GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20
TEXT_LIMIT = 1 << 30  # bytes of text after decompression: far above any table that fits this package, far below a bomb
MAX_TEXT = "JAXDL_MAX_TEXT_BYTES"  # the variable that raises it


def locate(data_dir: str | Path | None, folders: tuple[str, ...], name: str, what: str) -> Path:
    """Returns the path of data_dir/FOLDER/name, or of that with ``.gz`` added, for the first folder that holds it.

    Args:
      data_dir: the user's folder of data files; the environment variable JAXDL_DATA_DIR if not given.
      folders: folders below data_dir to look in; "" is data_dir itself.
      name: file name without ``.gz``.
      what: the data set, for the message.

    Raises:
      MissingData: no folder is given, it is none, or it holds no such file.
    """
    data_dir = data_dir or os.environ.get("JAXDL_DATA_DIR")
    if not data_dir:
        raise MissingData(f"{what} is read from files: set --data_dir or JAXDL_DATA_DIR to the folder that holds them")
    root = Path(data_dir)
    if not root.is_dir():
        raise MissingData(f"--data_dir={root}: no such folder; give the folder that holds the files of {what}")
    for folder in folders:
        for ending in ("", ".gz"):
            path = root / folder / (name + ending)
            if path.exists():
                return path
    places = " or ".join(str(Path(folder) / name) for folder in folders)
    raise MissingData(f"--data_dir={root}: no {places} (or .gz) in it; put the original files of {what} there")


@contextmanager
def opened(path: str | Path) -> Iterator[io.BufferedIOBase]:
    """Opens a file for reading bytes, through gzip where its first bytes say so, whatever it is called.

    Raises:
      MissingData: there is no such file.
      DataError: a folder, unreadable, or a broken gzip stream (also while it is being read).
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; a file is needed")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DataError(f"{path}: is no file but a pipe or device; write what it gives into a file")
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            if packed:
                with gzip.open(raw, "rb") as stream:
                    yield stream
            else:
                yield raw
    except FileNotFoundError as e:
        raise MissingData(f"{path}: no such file") from e
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{path}: broken gzip stream ({e}); copy or download the file again") from e
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e}); check the file and its permissions") from e


def limit(variable: str, usual: int) -> int:
    """What is read at most of something: the number in a variable of the environment, or the usual one.

    Raises:
      DataError: the variable is no whole number above 0.
    """
    text = os.environ.get(variable, "")
    if text and not (text.isdecimal() and 0 < len(text) < 19 and int(text)):
        raise DataError(f"{variable}={text}: must be a whole number above 0")
    return int(text) if text else usual


def read_at_most(stream: io.BufferedIOBase, count: int) -> bytearray:
    """Returns the next count bytes, or those that are left; needs no more memory than they do, whatever count says."""
    data = bytearray()
    while len(data) < count and (chunk := stream.read(min(count - len(data), CHUNK))):
        data += chunk
    return data


def read_bytes(path: str | Path, most: int | None = None) -> bytes:
    """Returns the content, decompressed; DataError if it is empty or longer than `most` bytes (TEXT_LIMIT)."""
    most = limit(MAX_TEXT, TEXT_LIMIT) if most is None else most
    with opened(path) as stream:
        content = bytes(read_at_most(stream, most + 1))
    if not content:
        raise DataError(f"{path}: is empty; copy or download the file again")
    if len(content) > most:
        raise DataError(f"{path}: holds more than {most:,} bytes, the most that is read; set {MAX_TEXT} to read more")
    return content


def read_text(path: str | Path, most: int | None = None) -> str:
    """Returns the content as UTF-8 text, without its byte-order mark; line ends are left as they are."""
    content = read_bytes(path, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        at = e.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)  # the codec counts from behind the mark
        line = content.count(b"\n", 0, at) + 1
        raise DataError(
            f"{path}: not UTF-8 at line {line}, byte {at} (0x{content[at]:02x}); save the file as UTF-8"
        ) from e
