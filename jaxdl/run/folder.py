"""The folder of a run: made anew, resumed, or refused.

flags.txt, config.json      what was asked for
[NAME/]metrics.jsonl        one line a logged step or evaluation; tensorboard/ has the same
[NAME/]checkpoints/         latest and best states
[NAME/]watched/STEP.npz     what `fit(watch=...)` saw at the start and at every evaluation
about.json                  what `--predict` and `jaxdl.load` need to know of the data
[NAME/]result.json          written when the fit NAME has ended: it is then loaded, not run again
*.png, summary.json         pictures and the table of claims
"""

import dataclasses
import datetime
import itertools
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

from jaxdl.run.config import RunConfig
from jaxdl.run.distributed import is_first
from jaxdl.run.flags import FlagError, flags_of, given
from jaxdl.run.lock import LOCK

C = TypeVar("C", bound=RunConfig)


def write(path: Path, text: str) -> None:
    """Writes a file whole or not at all; of several processes the first one does."""
    if not is_first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all; NaN becomes null, as JSON has none."""
    write(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """What comes back when a value is written as JSON and read again."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


def numbers(metrics: dict[str, float | None]) -> dict[str, float]:
    """Metrics as they were before JSON made null of what is not finite."""
    return {key: math.nan if value is None else value for key, value in metrics.items()}


def read_json(path: Path) -> Any:
    """The content of a JSON file, None if it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def with_folder(config: C, name: str) -> C:
    """The configuration with a new folder runs/NAME/TIME in `workdir`, where none is given."""
    if config.workdir:
        return config
    base = Path("runs") / name / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for n in itertools.count(1):
        path = base if n == 1 else base.with_name(f"{base.name}-{n}")
        try:
            path.mkdir(parents=True)
            return dataclasses.replace(config, workdir=str(path))
        except FileExistsError:
            if not path.is_dir():
                raise FlagError(f"--workdir={path}: cannot be made, {path} is a file; name a folder") from None
        except OSError as error:
            raise FlagError(f"--workdir={path}: cannot be written ({error.strerror}); name another folder") from None
    raise AssertionError("unreachable")


def open_run(config: C, name: str) -> C:
    """Makes, resumes or refuses the run's folder; the configuration returned names it in `workdir`.

    Raises:
      FlagError: --workdir is a file, a folder that is no run's, or a run whose result-changing flags differ; what
        differs is named. `steps` (or `epochs`) may grow when the schedule is constant.
    """
    config = with_folder(config, name)
    workdir = Path(str(config.workdir))
    record = {"experiment": name, "flags": {f.name: getattr(config, f.name) for f in flags_of(type(config))}}
    if workdir.exists():
        if not workdir.is_dir():
            raise FlagError(f"--workdir={workdir}: is a file; name a folder")
        try:
            before = read_json(workdir / "config.json")
        except ValueError:
            raise FlagError(f"--workdir={workdir}: its config.json is damaged; use another folder") from None
        content = [path for path in workdir.iterdir() if path.name != LOCK]
        if before is None and content:
            raise FlagError(f"--workdir={workdir}: is not empty and no run's folder; name another")
        if before is not None and config.overwrite:
            for path in content:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        elif before is not None:
            _compare(before, record, type(config), workdir)
    try:
        words = given(dataclasses.replace(config, overwrite=False), keep=set(record["flags"]) - {"overwrite"})
        write(workdir / "flags.txt", "\n".join(words) + "\n")
        write_json(workdir / "config.json", record)
    except OSError as error:
        raise FlagError(f"--workdir={workdir}: cannot be written ({error.strerror})") from None
    return config


def records(workdir: Path) -> dict[str, str]:
    """{path: text} of what `open_run` writes, as far as it is there."""
    paths = [workdir / name for name in ("config.json", "flags.txt")]
    return {str(path): path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file()}


def discard(workdir: Path) -> None:
    """Removes a run's folder in which nothing has happened yet, and runs/NAME around it if that is empty then."""
    record = [workdir / name for name in ("config.json", "flags.txt", "about.json", LOCK)]
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
        if f.rule.result and was != value and not (longer and new["schedule"] == "constant"):
            shown = "not set" if was is None else was
            hint = " (may grow under --schedule=constant)" if f.name in ("steps", "epochs") else ""
            changed.append(f"--{f.name} was {shown}{hint}")
    if changed:
        raise FlagError(f"--workdir={workdir}: this run was made with other flags: {', '.join(changed)}; "
                        "repeat them, name another folder, or --overwrite")  # fmt: skip
