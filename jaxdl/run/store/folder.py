"""The folder of a run: made anew, resumed, or refused.

flags.txt, config.json      what was asked for
[NAME/]metrics.jsonl        one line a logged step or evaluation; tensorboard/ has the same
[NAME/]checkpoints/         latest and best states
[NAME/]watched/STEP.npz     what `fit(watch=...)` saw at the start and at every evaluation
[NAME/]fit.json             what the fit was made of, and what `--predict` and `jaxdl.load` need to know of the data
[NAME/]result.json          written when the fit NAME has ended: it is then loaded, not run again
*.png, summary.json         pictures and the table of claims
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
# where the run that --overwrite replaces waits until the new one has begun, and the list of what belongs there
ASIDE, JOURNAL = ".overwritten", ".overwritten.json"
# flags of a command, not of its run
ONCE = {"download", "mirror", "only", "overwrite", "profile", "rows", "summary", "workdir"}
LAUNCH = "JAXDL_LAUNCH"  # the same for all the attempts of one launch.sh
SCRIPT = "script"  # what a fit in a script or notebook is listed as
KINDS = (".json", ".jsonl", ".txt", ".png", ".gif", ".csv", PART)  # of files that a run leaves beside its folders
FOLDERS = ("checkpoints", "profile", "tensorboard", "watched")


def with_folder(config: C, name: str) -> C:
    """The configuration with a new folder runs/NAME/TIME in `workdir`, where none is given."""
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
                raise FlagError(f"--workdir={path}: cannot be made, {path} is a file; name a folder") from None
        except OSError as error:
            raise FlagError(f"--workdir={path}: cannot be written ({error.strerror}); name another folder") from None
    raise AssertionError("unreachable")


def open_run(config: C, name: str, source: Mapping[str, str] | None = None) -> C:
    """Makes, resumes or refuses the run's folder; the configuration returned names it in `workdir`.

    With `overwrite` the run that is there is put aside, and goes when the first fit of the new one begins (`begun`);
    until then `undo` brings it back, and so does the next start where the process was killed. An attempt of the same
    launch.sh, which has been through this, goes on.

    Args:
      config: of the run.
      name: of its experiment.
      source: where the experiment's code is, as `source_of` tells; kept, and compared when the run is used.

    Raises:
      FlagError: --workdir is a file, a folder that is no run's, or a run whose result-changing flags differ; what
        differs is named. `steps` (or `epochs`) may grow when the schedule is constant. With `overwrite`, what is in it
        that no run has made, or another run that is going on in it.
      DataError: a link is in the folder.
    """
    config = with_folder(config, name)
    workdir, launch = Path(str(config.workdir)), os.environ.get(LAUNCH, "")
    record = {"experiment": name, "flags": {f.name: getattr(config, f.name) for f in flags_of(type(config))}}
    if workdir.exists():
        if not workdir.is_dir():
            raise FlagError(f"--workdir={workdir}: is a file; name a folder")
        refuse_links(workdir)
        _restore(workdir)
        before = _record(workdir)
        content = [path for path in sorted(workdir.iterdir()) if not _litter(path)]
        if before is None and content:
            raise FlagError(
                f"--workdir={workdir}: is not empty and no run's folder, it has no config.json; name another"
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
    """The configuration of the run in --workdir, for flags that are not given; None where there is none to go on from.

    Args:
      config_class: of the experiment.
      name: of the experiment.
      given: the flags that are given, by name.

    Raises:
      FlagError: the run's record is damaged, or of another version.
    """
    if not given.get("workdir") or given.get("overwrite"):
        return None
    workdir = Path(given["workdir"])
    record = _record(workdir) if workdir.is_dir() else None
    if record is None or record["experiment"] != name:
        return None  # `open_run` says what is wrong
    once = {f.name for f in flags_of(config_class) if f.rule.group == "use"} | ONCE
    flags = {f.name: record["flags"].get(f.name, f.default) for f in flags_of(config_class) if f.name not in once}
    config = config_class(**flags | dict.fromkeys(record.get("open", ())))
    # a recipe may have changed since
    changed = {name: flags[name] for name in config.open if flags[name] != getattr(config, name)}
    return config.replace(**changed) if changed else config


def record_fit(config: RunConfig) -> None:
    """Writes config.json for a fit that no `run.main` stands around, so that listing, comparing and loading find it."""
    workdir = Path(str(config.workdir))
    if not any((root / "config.json").exists() for root in (workdir, workdir.parent)):
        flags = {f.name: getattr(config, f.name) for f in flags_of(type(config))}
        write_json(workdir / "config.json", {"experiment": SCRIPT, "flags": flags, "open": sorted(config.open)})


def check_same(config: RunConfig, name: str) -> None:
    """Raises FlagError where flags that change a result are not those of the run in `workdir`, if one is there."""
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
        raise FlagError(f"--workdir={workdir}: its config.json is no run's; use another folder")
    return record


def _litter(path: Path) -> bool:
    """Whether this may be what a killed process left before its folder was a run's."""
    return path.name in LOCKS or path.name in (f"config.json{PART}", JOURNAL, JOURNAL + PART)


def _put_aside(workdir: Path, content: list[Path]) -> None:
    for path in content:
        if not _of_a_run(path):
            raise FlagError(f"--overwrite: {path} is nothing that a run has made; move it away, or name another folder")
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
    """Ends what an interrupted `--overwrite` began: the run that was there is back, or gone where the new one began."""
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
    """Removes the run that was put aside for the one that begins now."""
    if is_first() and (workdir / JOURNAL).exists():
        (workdir / JOURNAL).unlink()  # from here on there is no way back
        fsync_folder(workdir)
        shutil.rmtree(workdir / ASIDE, ignore_errors=True)


def records(workdir: Path) -> dict[str, str]:
    """{path: text} of what `open_run` writes, as far as it is there."""
    found = dict[str, str]()
    for path in (workdir / name for name in ("config.json", "flags.txt")):
        with contextlib.suppress(DataError):
            text = read_text(path)
            found |= {} if text is None else {str(path): text}
    return found


def undo(workdir: Path, before: dict[str, str]) -> None:
    """Leaves the folder as it was before a command that was refused: `before` is what `records` gave then."""
    if not workdir.is_dir():
        return
    if (workdir / JOURNAL).exists():
        _restore(workdir)
        return
    discard(workdir)
    for path, text in before.items():
        write(Path(path), text)


def discard(workdir: Path) -> None:
    """Removes a run's folder in which nothing has happened yet, and runs/NAME around it if that is empty then."""
    record = [workdir / name for name in (*RECORDS, *LOCKS)]
    if set(workdir.iterdir()) <= set(record):
        for path in record:
            path.unlink(missing_ok=True)
        for folder in [workdir, *workdir.parents[:2]] if workdir.parts[0] == "runs" else [workdir]:
            if not any(folder.iterdir()):
                folder.rmdir()


def _compare(before: dict[str, Any], now: dict[str, Any], config_class: type, workdir: Path) -> None:
    if before["experiment"] != now["experiment"]:
        raise FlagError(f"--workdir={workdir}: holds a run of {before['experiment']}; name another, or --overwrite it")
    old, new = before["flags"], now["flags"]
    changed = []
    for f in flags_of(config_class):
        was, value = old.get(f.name, f.default), new[f.name]
        longer = f.name in ("steps", "epochs") and was is not None and value is not None and value > was
        if f.rule.affects_result and was != value and not (longer and new["schedule"] == "constant"):
            hint = " (may grow under --schedule=constant)" if f.name in ("steps", "epochs") else ""
            changed.append(f"--{f.name} was {shown(was)}{hint}")
    if changed:
        raise FlagError(f"--workdir={workdir}: this run was made with other flags: {', '.join(changed)}; "
                        "repeat them, name another folder, or --overwrite")  # fmt: skip
