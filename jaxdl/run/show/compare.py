"""Runs beside each other, read from their folders: their curves in one picture, their last numbers in one table."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxdl.data import DataError
from jaxdl.run.command.flags import FlagError, shown
from jaxdl.run.show.claims import plus_minus
from jaxdl.run.show.plots import literal, new_figure, thinned, wide
from jaxdl.run.store.runs import PLACE, Run, Trace, format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = ("-", "--", ":", "-.")


class Line(NamedTuple):
    """One row of the table, one colour and style of the picture: a fit of a run with all its seeds."""

    run: Run
    fit: str
    label: str
    traces: list[Trace]
    colour: str
    style: Any

    def metrics(self) -> dict[str, None]:
        """The names of the final metrics."""
        return dict.fromkeys(name for trace in self.traces for name in trace.metrics())


def lines(runs: Sequence[Run], fit: str | None = None) -> list[Line]:
    """What is to be compared: every fit of every run, or the one of that name.

    Raises:
      FlagError: no run, or one of them, has a fit of that name.
      DataError: a run has no metrics yet; the runs have no metric in common.
    """
    found = []
    for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True)):
        fits = {name: traces for name, traces in run.fits.items() if any(t.rows or t.ended for t in traces)}
        if not fits:
            raise DataError(f"{run.folder}: has no metrics yet; let it run, or leave it out")
        if fit is not None and fit not in fits:
            have = ", ".join(name or "one fit, without a name" for name in fits)
            raise FlagError(f"--fit={fit}: {run.folder} has {have}")
        for j, (name, traces) in enumerate(fits.items()):
            if fit in (None, name):
                told = f"{label}, {name}" if name and fit is None else label
                found.append(Line(run, name, told, traces, f"C{i % 10}", STYLES[(j + i // 10) % 4]))
    if not panels(found):
        sides = [f"{line.run.folder} has {', '.join(_panels(line)) or 'none'}" for line in found]
        raise DataError(f"no metric in common: {'; '.join(sides)}")
    return found


def mixed(runs: Sequence[Run]) -> bool:
    """Whether they are runs of several experiments."""
    return len({run.experiment for run in runs}) > 1


def differing(runs: Sequence[Run]) -> list[str]:
    """The flags that all of the runs have and in which they differ."""
    common = [name for name in runs[0].flags if name not in PLACE and all(name in run.flags for run in runs)]
    return [name for name in common if any(run.flags[name] != runs[0].flags[name] for run in runs)]


def labels(runs: Sequence[Run]) -> list[str]:
    """What tells the runs apart: experiment and flags; the folder where that is not enough."""
    names, many = differing(runs), mixed(runs)
    words = lambda run: [f"{name}={shown(run.flags[name])}" for name in names if run.flags[name] is not None]
    told = [", ".join([run.experiment] * many + words(run)) for run in runs]
    names = [run.folder.name for run in runs]
    places = [str(run.folder) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)]
    return [t if t and told.count(t) == 1 else f"{t} ({p})" if t else p for t, p in zip(told, places, strict=True)]


def panels(lines: Sequence[Line]) -> list[str]:
    """The metrics to draw, the loss first: those of all lines together, or in common if the experiments differ."""
    names = _shared(lines, [_panels(line) for line in lines])
    rates = [set(trace.curve("train/learning_rate", "step")[1]) for line in lines for trace in line.traces]
    if all(len(rate) <= 1 for rate in rates):  # a straight line, whose height is among the flags
        names = [name for name in names if name != "learning_rate"]
    return sorted(names, key=lambda name: {"loss": -1, "learning_rate": 1}.get(name, 0))


def _shared(lines: Sequence[Line], each: Sequence[Iterable[str]]) -> list[str]:
    names = dict.fromkeys(name for one in each for name in one)
    return [name for name in names if not mixed([line.run for line in lines]) or all(name in one for one in each)]


def _panels(line: Line) -> list[str]:
    keys = dict.fromkeys(key for trace in line.traces for row in trace.rows for key in row)
    return list(dict.fromkeys(key.partition("/")[2] for key in keys if "/" in key))


def curves(lines: Sequence[Line]) -> "Figure":
    """Every metric over steps and, below, over seconds; a colour a run, a style a fit, a thin line a seed."""
    from matplotlib.lines import Line2D

    names = panels(lines)
    legend = sum(1 + _label(line).count("\n") for line in lines)
    figure, axes = new_figure(
        max(6.5, 4.6 * len(names)), 6.6 + 0.2 * legend, 2, max(1, len(names)), squeeze=False, sharey="col"
    )
    for column, name in enumerate(names):
        heights: list[float] = []
        for axis, over in zip(axes[:, column], ("step", "seconds"), strict=True):
            for line in lines:
                for trace in line.traces:
                    look: dict[str, Any] = {"color": line.colour, "linestyle": line.style}
                    test = trace.curve(f"valid/{name}", over)
                    train = trace.curve(f"train/{name}", over)
                    heights += [v for v in test[1] + train[1] if math.isfinite(v)]
                    if train[0]:
                        faint = {"alpha": 0.4, "linewidth": 1} if test[0] else {"linewidth": 1.2}
                        axis.plot(*thinned(*train), **look, **faint)
                    if test[0]:
                        axis.plot(*test, **look, marker="o", markersize=3)
            axis.set(xlabel=over, title=literal(name.replace("_", " ")) if over == "step" else "")
            axis.grid(alpha=0.25)
        if name.endswith("loss") and wide(heights):
            axes[0, column].set_yscale("log")  # the lower axis shares it
    looks = [Line2D([], [], color=line.colour, linestyle=line.style, marker="o", markersize=3) for line in lines]
    figure.legend(looks, [_label(line) for line in lines], loc="outside lower center", fontsize=8)
    figure.suptitle("dots: validation; faint: training", fontsize=9)
    return figure


def _label(line: Line) -> str:
    state = line.run.state()
    told = line.label if state == "finished" else f"{line.label} ({state})"
    return textwrap.fill(literal(told, 300), 100)


def table(lines: Sequence[Line]) -> str:
    """The last numbers: mean ± standard deviation over the seeds, steps, seconds, and the flags that differ."""
    runs = list({line.run.folder: line.run for line in lines}.values())
    many, fits, seeds = mixed(runs), any(line.fit for line in lines), any(len(line.traces) > 1 for line in lines)
    flags = [name for name in differing(runs) if not (seeds and name == "seeds")]  # it has a column of what there is
    names = _shared(lines, [line.metrics() for line in lines])
    head = ["run", *["experiment"] * many, *["fit"] * fits, *flags, *names, "steps", "seconds", *["seeds"] * seeds]
    rows = [[*head, ""]]
    for line in lines:
        state = line.run.state()
        cells = [str(line.run.folder), *[line.run.experiment] * many, *[line.fit or "-"] * fits]
        cells += [shown(line.run.flags[name]) for name in flags]
        cells += [plus_minus([m[name] for t in line.traces if name in (m := t.metrics())]) for name in names]
        cells += [_steps(line.traces), plus_minus([trace.seconds() for trace in line.traces], 3)]
        cells += [str(len(line.traces))] * seeds
        rows.append([*cells, "" if state == "finished" else f"NOT ENDED: {state}"])
    return format_table(rows)


def _steps(traces: Sequence[Trace]) -> str:
    span = lambda steps: f"{min(steps)}" if len(set(steps)) == 1 else f"{min(steps)}-{max(steps)}"
    ended = [(trace.ended["step"], trace.ended["state_step"]) for trace in traces if trace.ended]
    best = f" (best {span([kept for _, kept in ended])})" if any(step != kept for step, kept in ended) else ""
    return span([trace.step() for trace in traces]) + best
