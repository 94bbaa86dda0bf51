"""A sweep: runs an experiment at many points of some flags' values, each point in its own folder workdir/POINT.

    python -m experiments.NAME --sweep="learning_rate=1e-3,3e-3;optimizer=sgd,adam"
    python -m experiments.NAME --sweep="learning_rate=loguniform(1e-4,1e-1);optimizer=sgd,adam" --trials=20

The points are all combinations of the values, or as many as --trials, drawn at random (`search`). POINT is
learning_rate=0.001,optimizer=sgd. A value that contains a comma is quoted: augment="flip,crop",none. For a flag that is
not set by default, the word none means not set. sweep.json is written after every point: a restarted sweep loads the
finished points, resumes an unfinished one, and runs the rest. Points are compared by --monitor on the validation part;
the test part only measures the chosen point.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypeVar
from urllib.parse import quote

from jaxdl.data import DataError, MissingData
from jaxdl.run.command import search
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError, flags_of, given, shown
from jaxdl.run.engine.training import Diverged
from jaxdl.run.show.claims import Finding, found_words, reference_words
from jaxdl.run.show.plots import save_figure
from jaxdl.run.show.report import log
from jaxdl.run.show.sweep_report import Point, picture, table, verdict
from jaxdl.run.store.files import read_json, write_json
from jaxdl.run.store.folder import discard, open_run
from jaxdl.run.store.lock import locked
from jaxdl.run.store.runs import Run, read_run
from jaxdl.streams import printable, shell

C = TypeVar("C", bound=RunConfig)


def points(
    config_class: type[RunConfig], text: str, trials: int | None = None, seed: int = 0
) -> list[tuple[int | None, dict[str, Any]]]:
    """Returns all combinations of "flag=value,value;flag=value,..." as (None, flags); or (i, flags) of drawn trials.

    Raises:
      FlagError: as `search.space`, `search.grid` and `search.trials`.
    """
    chosen = search.space(config_class, text)
    if trials is None:
        return [(None, flags) for flags in search.grid(chosen)]
    return list(search.trials(chosen, seed, trials).items())


def configs(config: C, text: str, trials: int | None = None) -> dict[str, tuple[int | None, dict[str, Any], C]]:
    """Returns {id: (trial, flags, configuration)} of every point; trials are drawn from the configuration's seed.

    Raises:
      FlagError: as `points`; a value is outside its range; a swept flag is also set in the configuration.
    """
    default = {f.name: f.default for f in flags_of(type(config))}
    found = dict[str, tuple[int | None, dict[str, Any], C]]()
    chosen = points(type(config), text, trials, config.seed)
    swept = chosen[0][1]
    for name in swept:
        if name not in config.open and getattr(config, name) not in (default[name], None):
            raise FlagError(f"--sweep: {name} is also given as --{name}={shown(getattr(config, name))}; leave one out")
    if {"steps", "epochs"} <= set(swept):
        raise FlagError("--sweep: steps and epochs both set the length; sweep one of the two")
    for trial, flags in chosen:
        point = ",".join(f"{name}={quote(shown(value), safe='+')}" for name, value in flags.items())
        if len(point) > 200:  # a file name has at most 255 bytes
            raise FlagError(f"--sweep: {point[:40]}... is too long for the name of a folder; sweep fewer flags")
        try:
            found[point] = trial, flags, config.replace(**flags, workdir=str(Path(config.workdir or "") / point))
        except FlagError as error:
            raise FlagError(f"--sweep: {error}") from None
    return found


def sweep(
    config: RunConfig,
    text: str,
    body: Callable[[Any], Sequence[Finding]],
    experiment: str,
    command: str,
    save: Callable[[Any, Sequence[Finding]], None],
    trials: int | None = None,
) -> list[Finding]:
    """Runs body(config) at every point, or loads a point that an earlier sweep finished, and reports the best.

    Args:
      config: the flags that all points share; its `workdir` is the folder of the sweep.
      text: the points, as for `search.space`.
      body: measures an experiment's claims, for example `findings`.
      experiment, command: its name, and the command that starts it: python -m experiments.NAME.
      save: writes a point's summary.json, which marks it as finished.
      trials: number of points to draw at random; None: all combinations.

    Raises:
      FlagError: the text is invalid, or the evaluation does not return the metric to monitor.
      FlagError, MissingData, DataError: from the first point, if no point could be run.
      Interrupted: a signal stopped the sweep after the state of its point was saved.
    """
    root, runs = Path(str(config.workdir)), configs(config, text, trials)
    repeat = {id: given(one.replace(workdir=None, overwrite=False)) for id, (*_, one) in runs.items()}
    words = {id: f"{command} {shell(repeat[id])}".rstrip() for id in runs}
    found = {id: Point(id, flags, words[id], trial=trial) for id, (trial, flags, _) in runs.items()}
    before = _before(root / "sweep.json")
    fit, first_error = before.get("fit"), None
    known = {point["command"]: point for point in before.get("points", ())}
    drawn = {} if trials is None else {"trials": trials, "seed": config.seed}
    record = {"experiment": experiment, "sweep": text, **drawn}
    record |= {"monitor": config.monitor, "monitor_mode": config.monitor_mode}
    for i, (id, (*_, one)) in enumerate(runs.items()):
        _write(root, record, fit, found, config)
        one, old = one.replace(overwrite=False), known.get(found[id].command, {})
        log(f"point {i + 1} of {len(runs)}: {id}")
        if old.get("state") == "diverged":  # it would diverge again
            found[id] = found[id]._replace(state="diverged", why=old["why"])
            continue
        try:
            with locked(Path(str(one.workdir))):
                if not _has_ended(one):
                    save(opened := open_run(one, experiment), body(opened))
        except Diverged as error:
            found[id] = found[id]._replace(state="diverged", why=str(error))
            continue
        except (FlagError, MissingData, DataError) as error:
            if Path(str(one.workdir)).is_dir():
                discard(Path(str(one.workdir)))
            found[id], first_error = found[id]._replace(state="refused", why=str(error)), first_error or error
            log(f"refused: {error}")
            continue
        run = read_run(Path(str(one.workdir)))
        fit = _main_fit(run) if fit is None else fit
        found[id] = _measured(found[id], run, fit, config.monitor)
    if first_error and all(point.state == "refused" for point in found.values()):
        (root / "sweep.json").unlink()
        raise first_error
    ranked = _write(root, record, fit, found, config)
    save_figure(config, "sweep", lambda: picture(ranked, config.monitor, config.monitor_mode, _even(config, text)))
    print(table(ranked, config.monitor))
    for point in (point for point in ranked if point.why):
        print(printable(f"{point.id}: {point.state}: {point.why}"))
    line = verdict(ranked, config.monitor)
    told = "; ".join(filter(None, (*found_words(line).split("\n"), reference_words(line))))
    print(f"best point: {ranked[0].id}; {told}")
    return [line]


def _even(config: RunConfig, text: str) -> list[str]:
    """Returns the flags whose ranges are uniform."""
    chosen = search.space(type(config), text)
    return [name for name, values in chosen.items() if isinstance(values, search.Range) and values.kind != "loguniform"]


def _before(path: Path) -> dict[str, Any]:
    try:
        return read_json(path) or {}
    except DataError:  # its content can be recomputed
        return {}


def _has_ended(config: RunConfig) -> bool:
    """Whether the point has a summary that was made with these flags; steps may have grown since."""
    folder = Path(str(config.workdir))
    summary = _before(folder / "summary.json")
    try:
        read_run(folder)
    except (FlagError, DataError):  # missing or damaged: run the point again
        return False
    results = [f.name for f in flags_of(type(config)) if f.rule.affects_result]
    return bool(summary) and all(summary["flags"].get(name) == getattr(config, name) for name in results)


def _main_fit(run: Run) -> str | None:
    """Returns the name of the fit that finished first; None if there is no fit."""
    ends = {name: min((t.folder / "result.json").stat().st_mtime_ns for t in fit) for name, fit in run.fits.items()}
    return min(ends, key=lambda name: (ends[name], name), default=None)


def _measured(point: Point, run: Run, fit: str | None, monitor: str) -> Point:
    traces = run.fits.get(fit or "", [])
    scores = [trace.valid() for trace in traces]
    if scores and monitor not in scores[0]:
        allowed = (
            f"must be one of {', '.join(scores[0])}" if scores[0] else "needs a validation part (--valid_fraction)"
        )
        raise FlagError(f"--monitor={monitor}: {allowed}")
    columns = lambda found: {name: [one[name] for one in found] for name in (found[0] if found else ())}
    metrics, test = columns(scores), columns([trace.metrics() for trace in traces])
    bad = not all(math.isfinite(value) for value in metrics.get(monitor, ()))
    point = point._replace(steps=max((trace.step() for trace in traces), default=0))
    point = point._replace(seconds=sum(trace.seconds() for traces in run.fits.values() for trace in traces))
    if bad:
        return point._replace(state="diverged", why=f"{monitor} is not finite")
    return point._replace(state="ended", metrics=metrics, test=test)


def _write(root: Path, record: dict[str, Any], fit: Any, found: dict[str, Point], config: RunConfig) -> list[Point]:
    """Writes sweep.json with the points so far, best first; returns them in this order."""
    sign, monitor = 1 if config.monitor_mode == "min" else -1, config.monitor
    ranked = sorted(
        found.values(), key=lambda p: sign * fmean(p.metrics[monitor]) if monitor in p.metrics else math.inf
    )
    scores = [fmean(point.metrics[monitor]) for point in ranked if monitor in point.metrics]
    best = {"best": ranked[0].id, "best_metric": scores[0], "median": median(scores)} if scores else {}
    write_json(root / "sweep.json", record | {"fit": fit} | best | {"points": [point._asdict() for point in ranked]})
    return ranked
