"""The result of a sweep: a table of its ranked points, the claim about the best one, and a figure."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxdl.run.command.flags import shown
from jaxdl.run.show.claims import Claim, Finding, Quantity, measured, plus_minus
from jaxdl.run.show.plots import literal, new_figure, wide
from jaxdl.run.store.runs import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 60  # maximum number of points in a dot plot
SEARCH = Claim("the best trial of a search beats its median trial; every trial has a command that repeats it")


class Point(NamedTuple):
    """One combination of flags and its result.

    state: waiting, ended, diverged, or refused (by the experiment; `why`). metrics: of the validation part, one value
    per seed; test: the same of the test part, on which no choice is based.
    """

    id: str
    flags: dict[str, Any]
    command: str
    state: str = "waiting"
    why: str = ""
    metrics: Mapping[str, list[float]] = {}
    steps: int = 0
    seconds: float = 0.0
    test: Mapping[str, list[float]] = {}


def table(ranked: Sequence[Point], monitor: str) -> str:
    """Returns the points, best first and marked, each with the command that repeats it."""
    others = [name for name in dict.fromkeys(n for point in ranked for n in point.metrics) if name != monitor]
    rows = [["", *ranked[0].flags, monitor, *others, "steps", "seconds", "command"]]
    for i, point in enumerate(ranked):
        mark = "*" if i == 0 and monitor in point.metrics else ""
        scores = [plus_minus(point.metrics.get(name, ())) for name in (monitor, *others)]
        scores[0] = scores[0] if point.state == "ended" else point.state
        numbers = [str(point.steps or "-"), f"{point.seconds:.1f}" if point.seconds else "-"]
        rows.append([mark, *map(shown, point.flags.values()), *scores, *numbers, point.command])
    return format_table(rows)


def verdict(ranked: Sequence[Point], monitor: str) -> Finding:
    """Compares the best point with the median of the points; not measured if fewer than two points have the metric."""
    scores = [fmean(point.metrics[monitor]) for point in ranked if monitor in point.metrics]
    if len(scores) < 2:
        return Finding("search", claim=SEARCH, command="a sweep with more points that finish")
    middle = median(scores)
    # the first is the best, so a difference from the median is an improvement
    gained = Quantity("distance of best and median", abs(scores[0] - middle), ">", 0.0)
    told = [Quantity(f"best {monitor}, validation", ranked[0].metrics[monitor])]
    if monitor in ranked[0].test and ranked[0].test != ranked[0].metrics:
        told.append(Quantity(f"best {monitor}, test", ranked[0].test[monitor]))
    return measured("search", *told, gained, reference={"median of the points": middle})._replace(claim=SEARCH)


def picture(ranked: Sequence[Point], monitor: str, mode: str) -> "Figure":
    """Draws the points: one numeric flag as a line, two flags as a map, else dots, best on top; marks failures."""
    names = list(ranked[0].flags)
    numbers = [v for p in ranked for v in p.flags.values() if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(names) == 1 and len(numbers) == len(ranked):
        return _line(ranked, names[0], monitor)
    return (
        _map(ranked, names[0], names[1], monitor, mode)
        if len(names) == 2
        else _dots(ranked[:SHOWN], len(ranked), monitor)
    )


def _scores(ranked: Sequence[Point], monitor: str) -> tuple[list[float], list[float]]:
    values = [np.asarray(point.metrics.get(monitor, [np.nan])) for point in ranked]
    return [float(v.mean()) for v in values], [float(v.std(ddof=1)) if len(v) > 1 else 0.0 for v in values]


def _line(ranked: Sequence[Point], name: str, monitor: str) -> "Figure":
    figure, axis = new_figure(6, 4)
    good = sorted((p for p in ranked if p.metrics), key=lambda point: point.flags[name])
    if good:
        means, spreads = _scores(good, monitor)
        axis.errorbar([p.flags[name] for p in good], means, spreads, marker="o", markersize=4, capsize=3)
        best = good.index(ranked[0])
        axis.plot([ranked[0].flags[name]], [means[best]], "C2*", markersize=13, label=f"best: {means[best]:.4g}")
    failed = [point for point in ranked if not point.metrics]
    if failed:
        x = [point.flags[name] for point in failed]
        words = ", ".join(sorted({point.state for point in failed}))
        axis.plot(x, [0.03] * len(x), "rx", transform=axis.get_xaxis_transform(), label=words)
    if wide([point.flags[name] for point in ranked], 10):
        axis.set_xscale("log")
    if monitor.endswith("loss") and wide(_scores(good, monitor)[0], 20):
        axis.set_yscale("log")
    axis.set(xlabel=name, ylabel=literal(monitor))
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8)
    return figure


def _map(ranked: Sequence[Point], row: str, column: str, monitor: str, mode: str) -> "Figure":
    from matplotlib.colors import LogNorm

    order = lambda name: sorted({p.flags[name] for p in ranked}, key=lambda v: (isinstance(v, str), v is None, v or 0))
    rows, across = order(row), order(column)
    grid = np.full((len(rows), len(across)), np.nan)
    for point, score in zip(ranked, _scores(ranked, monitor)[0], strict=True):
        grid[rows.index(point.flags[row]), across.index(point.flags[column])] = score
    figure, axis = new_figure(max(4.5, 0.85 * len(across) + 2), max(3, 0.55 * len(rows) + 1.5))
    good = grid[np.isfinite(grid)]
    norm = LogNorm(good.min(), good.max()) if monitor.endswith("loss") and wide(good, 20) else None
    shade = axis.imshow(grid, cmap="viridis" if mode == "max" else "viridis_r", norm=norm, aspect="auto")
    axis.set(xlabel=column, ylabel=row, xticks=range(len(across)), yticks=range(len(rows)))
    axis.set_xticklabels([literal(shown(v)) for v in across])
    axis.set_yticklabels([literal(shown(v)) for v in rows])
    for point in ranked:
        y, x = rows.index(point.flags[row]), across.index(point.flags[column])
        light = np.isfinite(grid[y, x]) and np.mean(shade.cmap(shade.norm(grid[y, x]))[:3]) > 0.5
        words = f"{grid[y, x]:.4g}" if np.isfinite(grid[y, x]) else point.state
        colour = ("k" if light else "w") if np.isfinite(grid[y, x]) else "r"
        axis.text(x, y, words + " *" * (point is ranked[0]), ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(shade, label=literal(monitor))
    axis.set_title("* marks the best", fontsize=9)
    return figure


def _dots(ranked: Sequence[Point], count: int, monitor: str) -> "Figure":
    figure, axis = new_figure(8, 0.24 * len(ranked) + 1.4)
    heights, (means, spreads) = np.arange(len(ranked)), _scores(ranked, monitor)
    axis.errorbar(means, heights, xerr=spreads, fmt="o", markersize=5, capsize=3)
    axis.plot(means[:1], [0], "C2*", markersize=13)
    for y, point in enumerate(ranked):
        if not point.metrics:
            axis.text(0.01, y, point.state, color="r", fontsize=8, va="center", transform=axis.get_yaxis_transform())
    if monitor.endswith("loss") and wide([m for m in means if math.isfinite(m)], 20):
        axis.set_xscale("log")
    axis.set(xlabel=literal(monitor), yticks=heights, ylim=(len(ranked) - 0.5, -0.5))
    axis.set_yticklabels([literal(point.id.replace(",", ", "), 100) for point in ranked], fontsize=8)
    axis.set_title(f"the best {len(ranked)} of {count} points" if count > len(ranked) else "", fontsize=9)
    axis.grid(alpha=0.25)
    return figure
