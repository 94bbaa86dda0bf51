"""Reads the folders of runs, for listing, comparing and sweeping, and lists them."""

import dataclasses
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxdl.data import DataError
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError, flags_of, shown
from jaxdl.run.engine.result import read_end
from jaxdl.run.show.claims import plus_minus
from jaxdl.run.show.report import Row, last_of
from jaxdl.run.store import history
from jaxdl.run.store.files import numbers, read_json
from jaxdl.run.store.folder import SCRIPT
from jaxdl.streams import printable, shell

# flags for where and how a run is stored, which do not define it; device flags change its seconds
PLACE = frozenset(f.name for f in flags_of(RunConfig) if not f.rule.affects_result and f.rule.group != "devices")


Defaults = Callable[[str, Mapping[str, Any]], Mapping[str, Any] | None]


class Trace(NamedTuple):
    """One seed of one fit: the rows of its metrics.jsonl and, once it has finished, its result.json."""

    folder: Path
    rows: list[Row]
    ended: dict[str, Any] | None

    def step(self) -> int:
        """Returns the last known step."""
        return self.ended["step"] if self.ended else self.rows[-1]["step"] if self.rows else 0

    def seconds(self) -> float:
        """Returns the time spent in this fit, including the earlier parts of a resumed run."""
        return self.ended["seconds"] if self.ended else self.rows[-1]["seconds"] if self.rows else 0.0

    def metrics(self) -> dict[str, float]:
        """Returns the metrics of the kept state on the test part; before the end, those of the last validation."""
        if self.ended:
            return numbers(self.ended["metrics"])
        return self.valid()

    def valid(self) -> dict[str, float]:
        """Returns the validation metrics of the kept state, by which runs are compared; before the end, the last."""
        if self.ended:
            return numbers(self.ended["valid"])
        return last_of(self.rows, "valid/")

    def diverged(self) -> bool:
        """Returns whether it ended with a non-finite loss."""
        return bool(self.rows) and not math.isfinite(self.rows[-1].get("train/loss", 0.0))


class Run(NamedTuple):
    """A run's folder: its fits by name, each with one trace per seed.

    ended: its summary has been written; fits from a script have none. own: not made by an experiment of this package.
    """

    folder: Path
    experiment: str
    flags: dict[str, Any]
    fits: dict[str, list[Trace]]
    ended: bool
    touched: float  # time of the last write, in seconds since 1970
    own: bool

    def state(self) -> str:
        """Returns "finished", "at step t of T", "diverged at step t", or "empty"."""
        traces = [trace for fit in self.fits.values() for trace in fit]
        open_ones = [trace for trace in traces if not trace.ended]
        if not any(trace.rows or trace.ended for trace in traces):
            return "empty"
        if self.ended and not open_ones:
            return "finished"
        trace = (open_ones or traces)[-1]
        if trace.diverged():
            return f"diverged at step {trace.step()}"
        name, steps = trace.folder.relative_to(self.folder).as_posix(), self.flags.get("steps")
        where = f"at step {trace.step()}" + (f" of {steps}" if steps else "")
        return where if name == "." else f"{name} {where}"


def read_run(folder: Path) -> Run:
    """Reads the folder of a run.

    Raises:
      FlagError: the folder does not exist or is not a run's.
      DataError: a file in it is damaged.
    """
    if not folder.is_dir():
        raise FlagError(f"{folder}: no such folder; to list the runs: python -m experiments list --runs")
    record = read_json(folder / "config.json")
    if record is None:
        raise FlagError(f"{folder}: is not a run's folder, it has no config.json (python -m experiments list --runs)")
    name, source = record.get("experiment"), record.get("source") or {}
    if not isinstance(record.get("flags"), dict) or not isinstance(name, str) or not isinstance(source, dict):
        raise DataError(f"{folder / 'config.json'}: must contain experiment and flags")
    fits: dict[str, list[Trace]] = {}
    times = [(folder / name).stat().st_mtime for name in ("config.json", "summary.json") if (folder / name).exists()]
    for here, below, files in os.walk(folder):
        path = Path(here)
        kept = [b for b in below if b not in ("checkpoints", "tensorboard", "watched")]
        below[:] = sorted((b for b in kept if not (path / b / "config.json").exists()), key=_natural)
        if {"metrics.jsonl", "result.json"} & set(files):
            rows, ended = _rows(path / "metrics.jsonl"), read_end(path)
            if ended and rows and rows[-1]["step"] > ended["step"]:  # resumed for more steps
                ended = None
            parts = path.relative_to(folder).parts
            fit = "/".join(parts[:-1] if parts and re.fullmatch(r"seed\d+", parts[-1]) else parts)
            fits.setdefault(fit, []).append(Trace(path, rows, ended))
            times += [(path / f).stat().st_mtime for f in files if f in ("metrics.jsonl", "result.json")]
    done = (folder / "summary.json").exists() or (name == SCRIPT and not source)
    own = source.get("module", f"experiments.{name}") != f"experiments.{name}"
    return Run(folder, name, record["flags"], fits, done, max(times), own)


def expand(folder: Path) -> list[Path]:
    """Returns the runs that a folder stands for: the started points of a sweep, or the folder itself."""
    if not (folder / "sweep.json").exists():
        return [folder]
    return [p.parent for p in sorted(folder.glob("*/config.json")) if any(p.parent.glob("**/metrics.jsonl"))]


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Formats rows of text as a table; the last cell of a row may have any length."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows
    )


def runs_table(root: Path, defaults: Defaults) -> str:
    """Lists the runs in a folder, the newest first; a sweep is one row.

    Args:
      root: the folder; runs may be nested at any depth.
      defaults: name of an experiment, flags -> {flag: its default}, or None if unknown.
    """
    if not root.is_dir():
        raise FlagError(f"--dir={root}: no such folder; runs are stored in runs/ of the folder where they are started")
    found: list[tuple[Path, Run | Exception]] = []
    for here, below, files in os.walk(root):
        path = Path(here)
        if "config.json" not in (*files, *below):
            continue
        if path != root or not (path / "sweep.json").exists():
            below.clear()
            found.append((path, _tried(path)))
    if not found:
        return f"no runs in {root}"
    runs = [run for _, run in found if isinstance(run, Run)]

    def usual(run: Run) -> Mapping[str, Any]:
        known = None if run.own else defaults(run.experiment, run.flags)
        alike = [other for other in runs if (other.experiment, other.own) == (run.experiment, run.own)]
        return _agreed(alike) if known is None else known

    rows = sorted((_listed(path, run, usual) for path, run in found), key=lambda one: one[0], reverse=True)
    head = ["when", "experiment", "folder", "state", "monitored", "non-default flags"]
    return format_table([head, *(row for _, row in rows)])


def _agreed(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns what to omit for an unknown experiment: RunConfig's defaults, and values that all its runs share."""
    usual, first = dataclasses.asdict(RunConfig()), runs[0].flags
    return {k: v for k, v in first.items() if all(k in run.flags and run.flags[k] == v for run in runs)} | usual


def _tried(path: Path) -> Run | Exception:
    try:
        return read_run(path)
    except Exception as error:  # an error in one folder must not hide the others
        return error


def _listed(path: Path, run: Run | Exception, usual: Callable[[Run], Mapping[str, Any]]) -> tuple[float, list[str]]:
    try:
        if isinstance(run, Exception):
            raise run
        return run.touched, _row(path, run, read_json(path / "sweep.json"), usual(run))
    except Exception as error:  # as in `_tried`
        touched = (path / "config.json").lstat().st_mtime
        told = (
            str(error) if isinstance(error, (FlagError, DataError)) else f"its records are not a run's ({error!r:.80})"
        )
        return touched, [_when(touched), "?", str(path), "damaged", "-", told]


def _row(path: Path, run: Run, swept: dict[str, Any] | None, usual: Mapping[str, Any]) -> list[str]:
    monitor = str(run.flags.get("monitor", "loss"))
    words = [
        f"--{name}={shown(value)}"
        for name, value in run.flags.items()
        if name not in PLACE and value is not None and value != usual.get(name)
    ]
    scores = [
        f"{name + ' ' if name else ''}{plus_minus(values)}"
        for name, fit in run.fits.items()
        if (values := [trace.metrics()[monitor] for trace in fit if monitor in trace.metrics()])
    ]
    state, more = run.state(), f", and {len(scores) - 3} more" if len(scores) > 3 else ""
    if swept:
        ended = sum(point["state"] == "ended" for point in swept["points"])
        state = f"sweep: {ended} of {len(swept['points'])} points finished"
        scores = [f"best {swept['best_metric']:.4g}"] if "best_metric" in swept else []
    told = f"{monitor} {', '.join(scores[:3])}{more}" if scores else "-"
    return [_when(run.touched), run.experiment, str(path), state, told, shell(words)]


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _natural(name: str) -> list[Any]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _rows(path: Path) -> list[Row]:
    rows, _, wrong = history.read(path)
    if wrong:
        raise DataError(wrong)
    return rows
