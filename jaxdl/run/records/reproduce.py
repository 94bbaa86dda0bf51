"""`python -m experiments reproduce [NAME ...]`: measures what is recorded, and records what it finds.

The commands are the default of each experiment, those of its claims that no default measures, and those that have a
record; of commands that differ in the number of seeds alone, the one with most. A command whose record depends on the
same flags, code and versions as now is not run again. Each of the others runs in a folder of its own, below --dir, so
that what was stopped continues with the same command on another day.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxdl import packaged
from jaxdl.run.command.flags import FlagError, parse
from jaxdl.run.records.record import (
    LAUNCH,
    PREFIX,
    Record,
    depends_on,
    differences,
    file_name,
    findings,
    make_record,
    normal,
    parts,
    read_records,
    result_flags,
    short,
    write_record,
)
from jaxdl.run.records.sources import ROOT
from jaxdl.run.store.files import read_json

MISSING = 66  # exit status of a run whose data files are missing
NOT_HERE = {"gpu", "hours"}  # needs that keep a claim's command from being run before it has a record


class Task(NamedTuple):
    """A command, its record if it has one, what it depends on now, and why it has to be measured.

    first: it is the experiment's first, whose figure is shown.
    """

    command: str
    record: Record | None
    now: Mapping[str, Any]
    reasons: list[str]
    first: bool


def tasks(names: Sequence[str], records: Sequence[Record]) -> Iterator[Task]:
    """The commands of these experiments, or of all if there are none, in the order of their names.

    Args:
      names: of experiments.
      records: those that exist.

    Raises:
      FlagError: an experiment that does not exist.
    """
    known = packaged.listing()
    if wrong := [name for name in names if name not in known]:
        raise FlagError(f"{wrong[0]}: no such experiment (python -m experiments list)")
    by_command = {record["command"]: record for record in records}
    for name in names or known:
        claims = packaged.experiment(name).CLAIMS.values()
        flags = [claim.flags for claim in claims if not NOT_HERE & set(claim.needs.split())]
        others = [f"{PREFIX}{name} {words}" if words.startswith("-") else words for words in flags if words]
        recorded = [command for command, record in by_command.items() if record["experiment"] == name]
        for i, command in enumerate(with_most_seeds([PREFIX + name, *map(normal, others), *recorded])):
            record, now = by_command.get(command), depends_on(command)
            yield Task(command, record, now, differences(record, now) if record else ["no record"], i == 0)


def with_most_seeds(commands: Iterable[str]) -> list[str]:
    """The commands without those that another one repeats with more seeds."""
    most = dict[str, tuple[int, str]]()
    for command in commands:
        start, name, words = parts(command)
        flags = result_flags(parse(packaged.experiment(name).Config, words))
        seeds, key = flags.pop("seeds"), json.dumps([start, name, flags])
        most[key] = max(most.get(key, (0, "")), (seeds, command))
    return [command for _, command in most.values()]


def reproduce(names: Sequence[str], docs: Path, runs: Path, check: bool = False) -> int:
    """Runs each command that has no record, or one that is out of date, and prints a line for each.

    Args:
      names: of experiments; all if empty.
      docs: the folder whose claims/ has the records and whose images/ has a figure of each experiment.
      runs: the folder for the runs; one that was stopped resumes.
      check: run nothing; list what is out of date.

    Returns:
      The exit status: 0 if every record is up to date and every claim holds, or fails as expected.
    """
    status = 0
    for task in tasks(names, read_records(docs / "claims")):
        seconds = float((task.record or {}).get("seconds", 0))
        if task.record and not task.reasons:
            word, told, good = "up to date", *_verdict(task.record)
        elif check:
            word, told, good = "out of date", "; ".join(task.reasons), False
        else:
            _progress(f"measuring {short(task.command)}")
            started = time.monotonic()
            word, told, good = _measure(task, docs, runs)
            seconds = time.monotonic() - started
            _progress("")
        status = max(status, 1 - good)
        print(f"{word:11}  {seconds:6.0f} s  {short(task.command)}: {told}", flush=True)
    return status


def _measure(task: Task, docs: Path, runs: Path) -> tuple[str, str, bool]:
    """Runs a command and keeps its record: (what happened, in words, whether all is well)."""
    start, name, flags = parts(task.command)
    stem = file_name(task.command).removesuffix(".json")
    folder, log = runs / f"{stem}-{task.now['digest'][:8]}", runs / f"{stem}.log"
    launched = bool(start)
    start = [str(ROOT / LAUNCH), *start[1:]] if launched else [sys.executable, "-m", "jaxdl.console", "run"]
    words = [*start, name, *flags, f"--workdir={folder}", "--progress=false", "--tensorboard=false"]
    runs.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(words, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        last = next((line for line in reversed(log.read_text("utf-8", "replace").splitlines()) if line.strip()), "")
        return ("left out", last, True) if done.returncode == MISSING else ("failed", f"{last} ({log})", False)
    record = make_record(read_json(folder / "summary.json"), task.command if launched else "")
    figure = folder / f"{packaged.experiment(name).FIGURE}.png"
    if figure.exists() and (task.first or launched):  # one device may have less to show
        _keep_figure(figure, docs / "images" / f"{name}.png")
    write_record(docs / "claims", record)
    for old in set(runs.glob(f"{stem}-????????")) - {folder}:
        shutil.rmtree(old)
    return "measured", *_verdict(record)


def _verdict(record: Record) -> tuple[str, bool]:
    """How many claims hold, the names of those that do not, and whether each does as expected."""
    measured = [one for one in findings(record) if one.holds is not None]
    failing = [f"{one.name} {'fails as expected' if one.claim.fails else 'FAILS'}" for one in measured if not one.holds]
    surprising = [f"{one.name} holds unexpectedly" for one in measured if one.holds and one.claim.fails]
    held = sum(one.holds is True for one in measured)
    told = ", ".join([f"{held} of {len(measured)} claims hold", *failing, *surprising])
    return told, all(one.holds != bool(one.claim.fails) for one in measured)


def _keep_figure(source: Path, to: Path) -> None:
    """Copies a figure with at most 1,000 pixels a side and 256 colours, to keep the repository small."""
    from PIL import Image

    to.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as figure:
        figure.thumbnail((1000, 1000))
        figure.convert("RGB").quantize(256).save(to, optimize=True)


def _progress(text: str) -> None:
    """Shows what is being measured, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
