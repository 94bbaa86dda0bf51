"""Compares runs, read from their folders: curves in one figure, final metrics in one table."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxdl.data import DataError
from jaxdl.run.command.flags import FlagError, shown
from jaxdl.run.show import plots
from jaxdl.run.show.claims import plus_minus
from jaxdl.run.store.runs import PLACE, Run, Trace, format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = ("-", "--", ":", "-.")


class Line(NamedTuple):
    """One row of the table, one colour and style of the figure: a fit of a run with all its seeds."""

    run: Run
    fit: str
    label: str
    traces: list[Trace]
    colour: str
    style: Any

    def metrics(self) -> dict[str, None]:
        """Returns the names of the final metrics."""
        return dict.fromkeys(name for trace in self.traces for name in trace.metrics())


def lines(runs: Sequence[Run], fit: str | None = None) -> list[Line]:
    """Returns what to compare: every fit of every run, or the one of that name.

    Raises:
      FlagError: a run has no fit of that name.
      DataError: a run has no metrics yet; the runs have no metric in common.
    """
    found = []
    for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True)):
        fits = {name: traces for name, traces in run.fits.items() if any(t.rows or t.ended for t in traces)}
        if not fits:
            raise DataError(f"{run.folder}: has no metrics yet; let it run, or leave it out")
        if fit is not None and fit not in fits:
            have = ", ".join(name or "one unnamed fit" for name in fits)
            raise FlagError(f"--fit={fit}: {run.folder} has {have}")
        for j, (name, traces) in enumerate(fits.items()):
            if fit in (None, name):
                told = f"{label}, {name}" if name and fit is None else label
                found.append(Line(run, name, told, traces, f"C{i % 10}", STYLES[(j + i // 10) % 4]))
    if not panels(found):
        seen = lambda line: [name for name in _panels(line) if name != "loss" or not mixed(runs)]
        sides = dict.fromkeys(f"{line.run.folder} has {', '.join(seen(line)) or 'none'}" for line in found)
        besides = " besides the loss" if mixed(runs) else ""
        raise DataError(f"the runs have no metric{besides} in common: {'; '.join(sides)}")
    return found


def mixed(runs: Sequence[Run]) -> bool:
    """Returns whether the runs belong to several experiments."""
    return len({run.experiment for run in runs}) > 1


def differing(runs: Sequence[Run]) -> list[str]:
    """Returns the flags that all of the runs have and in which they differ."""
    common = [name for name in runs[0].flags if name not in PLACE and all(name in run.flags for run in runs)]
    return [name for name in common if any(run.flags[name] != runs[0].flags[name] for run in runs)]


def labels(runs: Sequence[Run]) -> list[str]:
    """Returns the folder of each run and what distinguishes it from the others: experiment and flags."""
    names, many = differing(runs), mixed(runs)
    words = lambda run: [f"{name}={shown(run.flags[name])}" for name in names if run.flags[name] is not None]
    told = [", ".join([run.experiment] * many + words(run)) for run in runs]
    names = [run.folder.name for run in runs]
    places = [str(run.folder) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)]
    return [f"{place}: {words}" if words else place for place, words in zip(places, told, strict=True)]


def panels(lines: Sequence[Line]) -> list[str]:
    """Returns the metrics to draw: those of all lines; for several experiments, the common ones except the loss.

    Experiments minimise different losses, which do not belong on one axis.
    """
    common = _shared(lines, [_panels(line) for line in lines])
    found = [name for name in plots.panels(t.rows for line in lines for t in line.traces) if name in common]
    return [name for name in found if name != "loss" or not mixed([line.run for line in lines])]


def _shared(lines: Sequence[Line], each: Sequence[Iterable[str]]) -> list[str]:
    names = dict.fromkeys(name for one in each for name in one)
    return [name for name in names if not mixed([line.run for line in lines]) or all(name in one for one in each)]


def _panels(line: Line) -> list[str]:
    return plots.panels(trace.rows for trace in line.traces)


def curves(lines: Sequence[Line]) -> "Figure":
    """Draws every metric over steps and, below, over seconds; one colour per run, style per fit, line per seed."""
    states = {line.run.folder: line.run.state() for line in lines}
    told = lambda line: line.label if (state := states[line.run.folder]) == "finished" else f"{line.label} ({state})"
    return plots.curves(
        {told(line): [trace.rows for trace in line.traces] for line in lines},
        names=panels(lines),
        over=("step", "seconds"),
        looks={told(line): {"color": line.colour, "linestyle": line.style} for line in lines},
    )


def table(lines: Sequence[Line]) -> str:
    """Returns the final metrics, mean ± standard deviation over the seeds, steps, seconds, and the differing flags."""
    runs = list({line.run.folder: line.run for line in lines}.values())
    many, fits, seeds = mixed(runs), any(line.fit for line in lines), any(len(line.traces) > 1 for line in lines)
    flags = [name for name in differing(runs) if not (seeds and name == "seeds")]  # has its own column
    names = _shared(lines, [line.metrics() for line in lines])
    head = ["run", *["experiment"] * many, *["fit"] * fits, *flags, *names, "done", "seconds", *["seeds"] * seeds]
    rows = [[*head, ""]]
    for line in lines:
        state = line.run.state()
        cells = [str(line.run.folder), *[line.run.experiment] * many, *[line.fit or "-"] * fits]
        cells += [shown(line.run.flags[name]) for name in flags]
        cells += [plus_minus([m[name] for t in line.traces if name in (m := t.metrics())]) for name in names]
        cells += [_steps(line.traces), plus_minus([trace.seconds() for trace in line.traces], 3)]
        cells += [str(len(line.traces))] * seeds
        rows.append([*cells, "" if state == "finished" else f"unfinished: {state}"])
    return format_table(rows)


def _steps(traces: Sequence[Trace]) -> str:
    span = lambda steps: f"{min(steps)}" if len(set(steps)) == 1 else f"{min(steps)}-{max(steps)}"
    ended = [(trace.ended["step"], trace.ended["state_step"]) for trace in traces if trace.ended]
    best = f" (best {span([kept for _, kept in ended])})" if any(step != kept for step, kept in ended) else ""
    return span([trace.step() for trace in traces]) + best
