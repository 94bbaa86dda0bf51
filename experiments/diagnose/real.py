"""The diagnosis of a run from its folder: what was seen, the numbers, a picture, and the command to try next."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.diagnose import pictures
from experiments.diagnose.evidence import Subject, measured, of_history, tools_of, trial_flags
from jaxdl import run
from jaxdl.data import Batches, Data, DataError, MissingData
from jaxdl.guard import guarded
from jaxdl.methods.diagnosis import NAN, Advice, Diagnosis, diagnose, seen, summary_of
from jaxdl.run.command.contract import named
from jaxdl.run.command.flags import given
from jaxdl.run.command.source import module_from
from jaxdl.run.store.identity import digest_of_data
from jaxdl.streams import shell
from jaxdl.supervision import Supervised

NONE, HISTORY = "no fault found", "only its history was read"
REPEATED = 200  # steps at most


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
    loaded, data, notes = opened(folder, module, fit, config.data_dir)
    if trace.ended is None:
        notes.append(f"it stopped before its end, after step {trace.step()}")
    supervised = loaded is not None and isinstance(loaded.state, Supervised)
    evidence = of_history(trace.rows, float(record.flags.get("learning_rate", NAN)))
    if loaded is not None and data is not None:
        flags = trial_flags(loaded.config) if supervised else {}
        tools = tools_of(loaded.module.build(loaded.config.replace(**flags), loaded.data)) if supervised else None
        end = None if int(loaded.state.step) == 0 else loaded.state
        diverged = NAN if trace.ended else first_fault(loaded, data.train, trace.step())
        frozen = bool(loaded.config.freeze or loaded.config.rates or loaded.config.init)
        rate = float(loaded.config.learning_rate)
        evidence, more = measured(Subject(tools, end, rate, trace.rows, loaded.config.seed, diverged, frozen), data)
        notes += more
        if loaded.config.init:
            notes.append("its initial weights came from --init; those of its seed were examined instead")
    found = diagnose(evidence)
    name = f"{record.experiment}{' ' + fit if fit else ''}"
    lines = [f"diagnosis of {folder} ({name}, step {trace.step()}):"]
    for i, one in enumerate(seen(found)):
        if i == 0:
            lines += [f"{one.fault}: {one.evidence}", f"  {one.advice.words}"]
            lines += [f"  next: {command(record, loaded, one.advice)}"] if loaded else []
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


def opened(
    folder: str, module: Any, fit: str, data_dir: str | None
) -> tuple[run.Loaded | None, Data | None, list[str]]:
    """Returns a run and the rows on which it was trained, None for what cannot be had, and a note that says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of checkpoints that cannot be used: the note says so
            loaded = run.load(folder, module, fit, started=True, **{"data_dir": data_dir} if data_dir else {})
    except DataError:
        return None, None, [f"{HISTORY}: its last state is damaged, or that of another network than `build` makes"]
    try:
        data = loaded.module.data(loaded.config).batched(loaded.config.batch_size)
    except (DataError, MissingData) as error:
        return loaded, None, [f"{HISTORY}, because its data are missing: {error}"]
    if (digest_of_data(data.train) or {}) != loaded.trained:
        return loaded, None, [f"{HISTORY}: it was trained on other rows than those that `data` returns"]
    return loaded, data, []


def first_fault(loaded: run.Loaded, train: Any, last: int) -> float:
    """Repeats the steps of a stopped run from its last checkpoint to just after the last one in its history.

    Returns the step at which a number is not finite, or NaN if there is none, or none within REPEATED steps.
    """
    if not isinstance(train, Batches):
        return NAN
    state, step = loaded.state, run.compiled(guarded(loaded.experiment.step), quick=True)
    begin = int(state.step)
    for t in range(begin, min(last + loaded.config.log_every, begin + REPEATED)):
        state, metrics = step(state, train.batch(loaded.config.seed, t))
        if int(metrics["fault"]):
            return t + 1.0
    return NAN


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
