"""The history of one fit, metrics.jsonl: each line carries a checksum of itself and all lines before it."""

import contextlib
import json
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdl.data import DataError
from jaxdl.run.engine.distributed import is_first
from jaxdl.run.show.report import Row
from jaxdl.run.store.files import naming, read_text, write
from jaxdl.run.store.writers import Opener, Writer

SUM = "crc32"
NAME = "metrics.jsonl"


def line(row: Row, before: str) -> tuple[str, str]:
    """Returns (the line of a row, its checksum): CRC-32 of the row's JSON, seeded with that of the line before."""
    text = json.dumps(row)
    found = f"{zlib.crc32(text.encode(), int(before or '0', 16)):08x}"
    return f'{text[:-1]}, "{SUM}": "{found}"}}\n', found


def lines(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Returns (the lines of all rows, their checksums)."""
    texts, sums = list[str](), list[str]()
    for row in rows:
        text, found = line(row, sums[-1] if sums else "")
        texts.append(text)
        sums.append(found)
    return texts, sums


def read(path: Path) -> tuple[list[Row], list[str], str]:
    """Returns (rows, checksums, fault of the next line) of a metrics.jsonl; ([], [], "") if it does not exist.

    An incomplete last line, which a killed run leaves, is not a fault.

    Raises:
      DataError: it is not a regular file, or not UTF-8.
    """
    rows, sums = list[Row](), list[str]()
    text = read_text(path) or ""
    whole = text.split("\n")[:-1]
    for i, one in enumerate(whole):
        try:
            row = json.loads(one)
            found = row.pop(SUM)
            good = found == line(row, sums[-1] if sums else "")[1] and isinstance(row["step"], int)
            good = good and isinstance(row["seconds"], (int, float))
            good = good and all(isinstance(value, (int, float)) for value in row.values())
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            good = False
        if not good:
            return rows, sums, f"{path}: line {i + 1} of {len(whole)} has changed since it was written"
        rows.append(row)
        sums.append(found)
    return rows, sums, ""


class Log:
    """The history of one fit: in memory, in metrics.jsonl if there is a folder, and in further writers."""

    def __init__(self, folder: Path | None, writers: Sequence[Opener] = ()) -> None:
        """Reads what an earlier part of the run wrote; `writers` are opened when training begins."""
        self.rows: list[Row] = []
        self._sums: list[str] = []
        self._wrong = ""
        self._path = folder / NAME if folder else None
        self._file: Any = None
        self._openers, self._writers = writers, list[Writer]()
        self._started = time.perf_counter()
        if self._path:
            self.rows, self._sums, self._wrong = read(self._path)

    def mark(self, step: int | None = None) -> list[Any]:
        """Returns [number of rows, checksum of the last] up to `step`, or of all, and syncs the file; for `check`."""
        if self._file:
            with naming(self._path):
                os.fsync(self._file.fileno())
        count = len(self.rows) if step is None else sum(row["step"] <= step for row in self.rows)
        return [count, self._sums[count - 1] if count else ""]

    def check(self, mark: Sequence[Any]) -> None:
        """Raises DataError unless all rows that `mark` describes are present and unchanged."""
        count, last = mark
        if len(self.rows) < count or (count and self._sums[count - 1] != last):
            wrong = self._wrong or f"{self._path}: is not the history of this run, or lacks some of its {count} rows"
            raise DataError(f"{wrong}; restore it from a copy, or start over with --overwrite")

    def begin(self, step: int, keep_tests: bool = False) -> None:
        """Opens the files for steps after `step`; drops the rows of later steps, which will be recomputed.

        It also drops the row of the test part, written at the end, unless `keep_tests` says that there are many.
        """
        kinds = lambda row: {name.partition("/")[0] for name in row if "/" in name}
        self.rows = [r for r in self.rows if r["step"] <= step and (keep_tests or kinds(r) != {"test"})]
        texts, self._sums = lines(self.rows)
        if self._path and is_first():
            write(self._path, "".join(texts))
            self._file = self._path.open("a", encoding="utf-8")
        if is_first():
            self._writers = [opened(step) for opened in self._openers]
        self._started = time.perf_counter() - (self.rows[-1]["seconds"] if self.rows else 0.0)

    def add(self, step: int, scalars: Mapping[str, float]) -> Row:
        """Adds one row and writes it to the file at once."""
        row = {"step": step, **{k: float(v) for k, v in scalars.items()}}
        row["seconds"] = round(self.seconds(), 3)
        text, found = line(row, self._sums[-1] if self._sums else "")
        self.rows.append(row)
        self._sums.append(found)
        if self._file:
            with naming(self._path):
                self._file.write(text)
                self._file.flush()
        for writer in self._writers:
            writer.add(row)
        return row

    def seconds(self) -> float:
        """Returns the time spent in this fit, including the earlier parts of a resumed run."""
        return time.perf_counter() - self._started

    def close(self) -> None:
        """Closes the files."""
        for file in (self._file, *self._writers):
            if file:
                with contextlib.suppress(OSError):  # `add` has raised the error of a full disk
                    file.close()
