"""The diagnosis of a run from its folder: what was seen, the numbers, a picture, and the command to try next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.diagnose import pictures
from experiments.diagnose.evidence import Subject, measured, of_history, tools_of, trial_flags
from jaxdl import run
from jaxdl.data import Data, DataError, MissingData
from jaxdl.methods.diagnosis import Advice, Diagnosis, diagnose, seen, summary_of
from jaxdl.run.command.contract import named
from jaxdl.run.command.flags import given
from jaxdl.run.command.source import module_from
from jaxdl.streams import shell
from jaxdl.supervision import Supervised

NONE = "no fault found"


def report(config: Any, folder: str) -> list[Diagnosis]:
    """Diagnoses the run in a folder, prints and saves what was found, and returns it.

    Raises:
      FlagError, MissingData, DataError: the folder holds no run, a sweep, a run in progress or a damaged one; it has
        several fits and none is chosen.
    """
    record, fit, trace = chosen(Path(folder), config.fit)
    module = module_from(Path(config.module)) if config.module else None
    if record.own and module is None:
        raise run.FlagError(f"--run={folder}: was made by a file of your own; give it by --module=FILE")
    given_dir = {"data_dir": config.data_dir} if config.data_dir else {}
    loaded = run.load(folder, module, fit, started=True, **given_dir)
    data, notes = rows_of(loaded)
    stopped = trace.ended is None
    rate = float(loaded.config.learning_rate)
    if stopped:
        notes.append(f"it stopped at step {trace.step()} before its end")
    if loaded.config.init:
        notes.append("its initial weights came from --init; those of its seed were examined instead")
    supervised = isinstance(loaded.state, Supervised)
    if data is None:
        evidence = of_history(trace.rows, rate)
    else:
        frozen = bool(loaded.config.freeze or loaded.config.rates or loaded.config.init)
        flags = trial_flags(loaded.config) if supervised else {}
        tools = tools_of(loaded.module.build(loaded.config.replace(**flags), loaded.data)) if supervised else None
        end = None if stopped and int(loaded.state.step) == 0 else loaded.state
        subject = Subject(tools, end, rate, trace.rows, loaded.config.seed, stopped, frozen)
        evidence, more = measured(subject, data)
        notes += more
    found = diagnose(evidence)
    name = f"{record.experiment}{' ' + fit if fit else ''}"
    lines = [f"diagnosis of {folder} ({name}, step {trace.step()}):"]
    for i, one in enumerate(seen(found)):
        if i == 0:
            lines += [f"{one.fault}: {one.evidence}", f"  {one.advice.words}"]
            lines += [f"  next: {command(record, loaded, one.advice)}"]
        else:
            lines.append(f"also, perhaps because of it, {one.fault}: {one.evidence}")
    if not seen(found):
        where = "" if data is not None and supervised else " in its history"
        lines.append(f"{NONE}{where}: {summary_of(evidence)}")
    lines += [f"note: {name}: {note}" for note in notes]
    run.log("\n".join(lines))
    run.save_text(config, "diagnosis", "\n".join(lines) + "\n")
    run.save_figure(config, "diagnosis", lambda: pictures.diagnosis(trace.rows, found, f"{folder} {fit}".strip()))
    return found


def chosen(folder: Path, fit: str | None) -> tuple[run.Run, str, run.Trace]:
    """Returns a run, the name of the fit to diagnose and its first seed.

    Raises:
      FlagError, MissingData: as `report`.
    """
    flag = f"--run={folder}"
    record = run.read_run(folder)
    points = run.expand(folder)
    if points != [folder]:
        names = ", ".join(str(point) for point in points[:3]) or "none has started"
        raise run.FlagError(f"{flag}: is a sweep; choose one of its runs: {names}{', ...' if len(points) > 3 else ''}")
    run.check_free(folder, own=True)
    fits = {name: traces for name, traces in record.fits.items() if any(one.rows or one.ended for one in traces)}
    if not record.fits:
        raise MissingData(f"{flag}: is empty, it has no history yet; start it first")
    if fit is None and len(record.fits) > 1 and "" not in record.fits:
        raise run.FlagError(f"{flag}: has several fits; choose one by --fit=NAME: {', '.join(record.fits)}")
    name = fit if fit is not None else "" if "" in record.fits else next(iter(record.fits))
    if name not in record.fits:
        raise run.FlagError(f"--fit={name}: is no fit of {folder}; choose one of {', '.join(fits or record.fits)}")
    return record, name, record.fits[name][0]


def rows_of(loaded: run.Loaded) -> tuple[Data | None, list[str]]:
    """Returns the data of a run, and a note if they cannot be read."""
    try:
        return loaded.module.data(loaded.config).batched(loaded.config.batch_size), []
    except (MissingData, DataError) as error:
        return None, [f"only its history was read, because its data are missing: {error}"]


def command(record: run.Run, loaded: run.Loaded, advice: Advice) -> str:
    """Returns the run's command with the first change of the advice that its flags allow; without any, the command."""
    places: dict[str, Any] = {"workdir": None, "fit": None, "overwrite": False}
    base = loaded.config.replace(**places | length(record.flags))
    words = named(loaded.module)[1]
    changed = next(filter(None, (with_flag(base, name, value) for name, value in advice.flags)), None)
    after = "" if changed is not None else "  (the same command, after this change)"
    return f"{words} {shell(given(changed if changed is not None else base))}".rstrip() + after


def length(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the steps or epochs that a command gave."""
    known = {name: flags.get(name) for name in ("steps", "epochs")}
    return known if any(value is not None for value in known.values()) else {}


def with_flag(config: Any, name: str, value: Any) -> Any:
    """Returns a configuration with one flag changed; None if it has no such flag, or the change is not possible."""
    if not hasattr(config, name):
        return None
    now = getattr(config, name)
    if isinstance(value, dict):  # current value -> next one
        value = value.get(now, now)
    elif isinstance(value, str) and value.startswith("x"):
        value = None if now is None else now * int(value[1:])
    elif isinstance(value, float):
        value = float(f"{value:.1g}")
    if value == now or (value is None and name in ("steps", "epochs", "width")):
        return None
    related = trial_flags(config) if name == "schedule" else {}
    keep = ("decay_rate", "decay_every", "final_fraction")
    try:
        return config.replace(**{k: v for k, v in related.items() if k in keep} | {name: value})
    except run.FlagError:
        return None
