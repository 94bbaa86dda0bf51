"""The folder of a run: created, resumed, or refused.

flags.txt, config.json      the flags of the run
[NAME/]metrics.jsonl        one line per logged step or evaluation; tensorboard/ has the same
[NAME/]checkpoints/         latest and best states
[NAME/]watched/STEP.npz     arrays that `fit(watch=...)` recorded at the start and at every evaluation
[NAME/]fit.json             the fit's identity, and what `--predict` and `jaxdl.load` need to know about the data
[NAME/]result.json          written when the fit NAME has finished: from then on it is loaded, not run again
*.png, summary.json         figures and the table of claims
"""

import contextlib
import dataclasses
import datetime
import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from jaxdl.data import DataError
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError, flags_of, given, shown
from jaxdl.run.engine.distributed import is_first
from jaxdl.run.store.files import PART, fsync_folder, read_json, read_text, refuse_links, write, write_json
from jaxdl.run.store.lock import LOCKS, check_free

C = TypeVar("C", bound=RunConfig)
RECORDS = ("config.json", "flags.txt")
# where --overwrite keeps the old run until the new one has begun, and the list of its files
ASIDE, JOURNAL = ".overwritten", ".overwritten.json"
# flags of a command, not of its run
ONCE = {"download", "mirror", "only", "overwrite", "profile", "rows", "summary", "workdir"}
# flags that may grow when a run is resumed, and the condition, if there is one
GROWING = {"steps": " with --schedule=constant", "epochs": " with --schedule=constant", "trials": ""}
LAUNCH = "JAXDL_LAUNCH"  # the same for all attempts of one launch.sh
SCRIPT = "script"  # experiment name of a fit in a script or notebook
KINDS = (".json", ".jsonl", ".txt", ".png", ".gif", ".csv", PART)  # of the files that a run writes next to its folders
FOLDERS = ("checkpoints", "profile", "tensorboard", "watched")


def with_folder(config: C, name: str) -> C:
    """Returns the configuration with a new folder runs/NAME/TIME as `workdir`, if it has none."""
    if config.workdir:
        return config
    base = Path("runs") / name / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for n in itertools.count(1):
        path = base if n == 1 else base.with_name(f"{base.name}-{n}")
        try:
            path.mkdir(parents=True)
            return config.replace(workdir=str(path))
        except FileExistsError:
            if not path.is_dir():
                raise FlagError(f"--workdir={path}: cannot be created, {path} is a file; give a folder") from None
        except OSError as error:
            raise FlagError(f"--workdir={path}: cannot be written ({error.strerror}); use another folder") from None
    raise AssertionError("unreachable")


def open_run(config: C, name: str, source: Mapping[str, str] | None = None) -> C:
    """Creates, resumes or refuses the run's folder; the returned configuration has it as `workdir`.

    With `overwrite` the existing run is moved aside, and removed when the first fit of the new one begins (`begun`).
    Until then `undo` restores it, and so does the next start if the process was killed. A further attempt of the same
    launch.sh, which has done this already, resumes.

    Args:
      config: of the run.
      name: of its experiment.
      source: where the experiment's code is, from `source_of`; stored, and compared when the run is used.

    Raises:
      FlagError: --workdir is a file, not a run's folder, or a run whose result-changing flags differ; the message lists
        them. `steps` (or `epochs`) may grow if the schedule is constant, `trials` always. With `overwrite`: the folder
        contains files that no run has written, or another run is active in it.
      DataError: there is a link in the folder.
    """
    config = with_folder(config, name)
    workdir, launch = Path(str(config.workdir)), os.environ.get(LAUNCH, "")
    record = {"experiment": name, "flags": {f.name: getattr(config, f.name) for f in flags_of(type(config))}}
    if workdir.exists():
        if not workdir.is_dir():
            raise FlagError(f"--workdir={workdir}: is a file; give a folder")
        refuse_links(workdir)
        _restore(workdir)
        before = _record(workdir)
        content = [path for path in sorted(workdir.iterdir()) if not _litter(path)]
        if before is None and content:
            raise FlagError(
                f"--workdir={workdir}: is not empty and not a run's folder, it has no config.json; use another"
            )
        if before is not None and config.overwrite and not (launch and before.get("launch") == launch):
            _put_aside(workdir, content)
        elif before is not None:
            _compare(before, record, type(config), workdir)
    try:
        words = given(config.replace(overwrite=False), keep=set(record["flags"]) - {"overwrite"})
        known = {"open": sorted(config.open), "source": dict(source or {}), "launch": launch}
        write_json(workdir / "config.json", record | known)
        write(workdir / "flags.txt", "\n".join(words) + "\n")
    except OSError as error:
        raise FlagError(f"--workdir={workdir}: cannot be written ({error.strerror})") from None
    return config


def recorded(config_class: type[C], name: str, given: Mapping[str, Any]) -> C | None:
    """Returns the configuration of the run in --workdir, for the flags that are not given; None if there is no run.

    Args:
      config_class: of the experiment.
      name: of the experiment.
      given: the given flags, by name.

    Raises:
      FlagError: the run's record is damaged, or from another version.
    """
    if not given.get("workdir") or given.get("overwrite"):
        return None
    workdir = Path(given["workdir"])
    record = _record(workdir) if workdir.is_dir() else None
    if record is None or record["experiment"] != name:
        return None  # `open_run` reports the error
    once = {f.name for f in flags_of(config_class) if f.rule.group == "use"} | ONCE
    flags = {f.name: record["flags"].get(f.name, f.default) for f in flags_of(config_class) if f.name not in once}
    config = config_class(**flags | dict.fromkeys(record.get("open", ())))
    # a recipe may have changed since
    changed = {name: flags[name] for name in config.open if flags[name] != getattr(config, name)}
    return config.replace(**changed) if changed else config


def record_fit(config: RunConfig) -> None:
    """Writes config.json for a fit outside of `run.main`, so that listing, comparing and loading find it."""
    workdir = Path(str(config.workdir))
    if not any((root / "config.json").exists() for root in (workdir, workdir.parent)):
        flags = {f.name: getattr(config, f.name) for f in flags_of(type(config))}
        write_json(workdir / "config.json", {"experiment": SCRIPT, "flags": flags, "open": sorted(config.open)})


def check_same(config: RunConfig, name: str) -> None:
    """Raises FlagError if result-changing flags differ from those of the run in `workdir`, if there is one."""
    workdir = Path(str(config.workdir))
    record = _record(workdir) if workdir.is_dir() else None
    if record is not None and record["experiment"] == name:
        _compare(record, {"experiment": name, "flags": dataclasses.asdict(config)}, type(config), workdir)


def _record(workdir: Path) -> dict[str, Any] | None:
    try:
        record = read_json(workdir / "config.json")
    except DataError as error:
        raise FlagError(f"--workdir={workdir}: {error}; use another folder") from None
    if record is not None and not (isinstance(record.get("flags"), dict) and isinstance(record.get("experiment"), str)):
        raise FlagError(f"--workdir={workdir}: its config.json is not a run's; use another folder")
    return record


def _litter(path: Path) -> bool:
    """Returns whether a killed process may have left this file before the folder became a run's."""
    return path.name in LOCKS or path.name in (f"config.json{PART}", JOURNAL, JOURNAL + PART)


def _put_aside(workdir: Path, content: list[Path]) -> None:
    for path in content:
        if not _of_a_run(path):
            raise FlagError(f"--overwrite: {path} was not written by a run; move it away, or use another folder")
    check_free(workdir)
    try:
        write_json(workdir / JOURNAL, {"names": [path.name for path in content]})
        (workdir / ASIDE).mkdir(exist_ok=True)
        for path in content:
            path.rename(workdir / ASIDE / path.name)
    except OSError as error:
        raise FlagError(f"--workdir={workdir}: cannot be written ({error.strerror})") from None


def _of_a_run(path: Path) -> bool:
    if not path.is_dir():
        return path.suffix in KINDS
    inside = [*path.rglob("fit.json"), *path.rglob("config.json")]
    return path.name in FOLDERS or bool(inside) or not any(path.iterdir())


def _restore(workdir: Path) -> None:
    """Completes an interrupted `--overwrite`: restores the old run, or removes it if the new one has begun."""
    aside, journal = workdir / ASIDE, read_json(workdir / JOURNAL)
    if journal is None:
        if aside.is_dir() and (workdir / "config.json").exists():
            shutil.rmtree(aside)
        return
    names = [name for name in journal["names"] if Path(name).name == name]
    for name in set(RECORDS) - set(names):
        (workdir / name).unlink(missing_ok=True)
    for name in names:
        old, new = aside / name, workdir / name
        if old.exists():
            if new.is_dir():
                shutil.rmtree(new)
            os.replace(old, new)
    if aside.is_dir():
        aside.rmdir()
    (workdir / JOURNAL).unlink()


def begun(workdir: Path) -> None:
    """Removes the old run, which was moved aside for the one that begins now."""
    if is_first() and (workdir / JOURNAL).exists():
        (workdir / JOURNAL).unlink()  # from here on the old run cannot be restored
        fsync_folder(workdir)
        shutil.rmtree(workdir / ASIDE, ignore_errors=True)


def records(workdir: Path) -> dict[str, str]:
    """Returns {path: text} of those files of `open_run` that exist."""
    found = dict[str, str]()
    for path in (workdir / name for name in ("config.json", "flags.txt")):
        with contextlib.suppress(DataError):
            text = read_text(path)
            found |= {} if text is None else {str(path): text}
    return found


def undo(workdir: Path, before: dict[str, str]) -> None:
    """Restores the folder after a refused command; `before` is what `records` returned at its start."""
    if not workdir.is_dir():
        return
    if (workdir / JOURNAL).exists():
        _restore(workdir)
        return
    discard(workdir)
    for path, text in before.items():
        write(Path(path), text)


def discard(workdir: Path) -> None:
    """Removes a run's folder in which nothing has happened yet, and runs/NAME around it if that becomes empty."""
    record = [workdir / name for name in (*RECORDS, *LOCKS)]
    if set(workdir.iterdir()) <= set(record):
        for path in record:
            path.unlink(missing_ok=True)
        for folder in [workdir, *workdir.parents[:2]] if workdir.parts[0] == "runs" else [workdir]:
            if not any(folder.iterdir()):
                folder.rmdir()


def _compare(before: dict[str, Any], now: dict[str, Any], config_class: type, workdir: Path) -> None:
    if before["experiment"] != now["experiment"]:
        raise FlagError(
            f"--workdir={workdir}: holds a run of {before['experiment']}; use another folder, or --overwrite"
        )
    old, new = before["flags"], now["flags"]
    changed, constant = [], new["schedule"] == "constant"
    for f in flags_of(config_class):
        was, value = old.get(f.name, f.default), new[f.name]
        grown = f.name in GROWING and was is not None and value is not None and value > was
        if f.rule.affects_result and was != value and not (grown and (constant or not GROWING[f.name])):
            hint = f" (may grow{GROWING[f.name]})" if f.name in GROWING else ""
            changed.append(f"--{f.name} was {shown(was)}{hint}")
    if changed:
        raise FlagError(f"--workdir={workdir}: this run has other flags: {', '.join(changed)}; "
                        "repeat them, use another folder, or --overwrite")  # fmt: skip
