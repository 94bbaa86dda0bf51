"""Checksums of a checkpoint's files: written once it is complete and synced, compared before it is used.

A checkpoint without a seal was being written or removed when the process died, and is not used. Checksums also detect
a flipped bit, which Orbax would restore silently, and a checkpoint under another step's name.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdl.data import DataError
from jaxdl.run.store.files import PART, fsync_folder, is_sum, read_json, write_json

SEAL = "checksums.json"


def seal(folder: Path, step: int, facts: Mapping[str, Any]) -> None:
    """Writes the size and SHA-256 of every file in `folder`, the step and some facts into the folder.

    All files are synced before the seal is written: after a power cut, a sealed checkpoint is complete.
    """
    files = {}
    for path in _files(folder):
        files[str(path.relative_to(folder))] = _sum(path)
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    for path in (*(p for p in folder.rglob("*") if p.is_dir()), folder, folder.parent):
        fsync_folder(path)
    write_json(folder / SEAL, {"step": step, "facts": facts, "files": files})


def verify(folder: Path) -> dict[str, Any]:
    """Compares every file with the seal and returns the facts.

    Raises:
      DataError: names the first file that is missing, too short, changed, or not part of the checkpoint.
    """
    record = read_json(folder / SEAL)
    if record is None:
        raise DataError(f"{folder}: has no {SEAL}; its save was interrupted")
    if not _is_seal(record):
        raise DataError(f"{folder / SEAL}: is not the seal of a checkpoint")
    expected, here = record["files"], {str(path.relative_to(folder)): path for path in _files(folder)}
    if str(record.get("step")) != folder.stem:  # a checkpoint that was moved aside has a suffix
        raise DataError(f"{folder}: is the checkpoint of step {record.get('step')} under another name")
    for name in sorted(expected.keys() | here.keys()):
        if name not in here:
            raise DataError(f"{folder / name}: is missing")
        if name not in expected:
            raise DataError(f"{folder / name}: is not part of this checkpoint")
        size, digest = _sum(here[name])
        if size != expected[name][0]:
            raise DataError(f"{folder / name}: has {size:,} bytes instead of {expected[name][0]:,}")
        if digest != expected[name][1]:
            raise DataError(f"{folder / name}: its content has changed since it was written")
    return record["facts"]


def _is_seal(record: dict[str, Any]) -> bool:
    """Returns whether a record, which may be forged, has the parts of a seal, each of its type."""
    files, facts = record.get("files"), record.get("facts")
    if not (isinstance(files, dict) and all(map(is_sum, files.values())) and isinstance(facts, dict)):
        return False
    watched, score = facts.get("watched", []), facts.get("score")
    good = isinstance(watched, list) and all(type(step) is int for step in watched)
    return good and is_sum(facts.get("log", [0, ""])) and (score is None or isinstance(score, (int, float)))


def _files(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in (SEAL, SEAL + PART)]


def _sum(path: Path) -> list[int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return [path.stat().st_size, digest]
