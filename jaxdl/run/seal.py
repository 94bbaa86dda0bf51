"""Checksums of a checkpoint's files: written once it is complete, compared before it is used.

What carries no seal was being written when the process died, and is not used. A flipped bit, which Orbax would restore
without a word, is found.
"""

import hashlib
import json
import os
from pathlib import Path

from jaxdl.data import DataError

SEAL = "checksums.json"


def seal(folder: Path) -> None:
    """Writes the size and the SHA-256 of every file in `folder` into it, whole or not at all."""
    found = {str(path.relative_to(folder)): _sum(path) for path in _files(folder)}
    part = folder / f"{SEAL}.part"
    part.write_text(json.dumps(found, indent=0), encoding="utf-8")
    os.replace(part, folder / SEAL)


def verify(folder: Path) -> None:
    """Compares every file with the seal.

    Raises:
      DataError: names the first file that is missing, too short, changed or not of the checkpoint.
    """
    try:
        expected = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        if not isinstance(expected, dict):
            raise ValueError("no table")
    except FileNotFoundError:
        raise DataError(f"{folder}: has no {SEAL}; its save was cut off") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{folder / SEAL}: is damaged ({error})") from None
    here = {str(path.relative_to(folder)): path for path in _files(folder)}
    for name in sorted(expected.keys() | here.keys()):
        if name not in here:
            raise DataError(f"{folder / name}: is missing")
        if name not in expected:
            raise DataError(f"{folder / name}: is no file of this checkpoint")
        size, digest = _sum(here[name])
        if size != expected[name][0]:
            raise DataError(f"{folder / name}: has {size:,} bytes instead of {expected[name][0]:,}")
        if digest != expected[name][1]:
            raise DataError(f"{folder / name}: its content has changed since it was written")


def _files(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in (SEAL, f"{SEAL}.part")]


def _sum(path: Path) -> list[int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return [path.stat().st_size, digest]
