"""The result of a sweep: a table of its ranked points, the claim about the best one, and a figure."""

import math
from collections.abc import Collection, Mapping, Sequence
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
    per seed; test: the same of the test part, on which no choice is based. trial: its number, if it was drawn at random
    from (seed, trial).
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
    trial: int | None = None


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


def picture(ranked: Sequence[Point], monitor: str, mode: str, even: Collection[str] = ()) -> "Figure":
    """Draws the points and marks failures: one numeric flag as a line, two flags as a map, else dots, best on top.

    Points that were drawn at random are scattered: over two numeric flags in colours of their scores, else over one
    flag each. `even`: flags drawn from a uniform range, whose axes are never logarithmic.
    """
    names = list(ranked[0].flags)
    numeric = [name for name in names if all(map(_is_number, (p.flags[name] for p in ranked)))]
    if ranked[0].trial is not None:
        if len(names) == len(numeric) == 2:
            return _plane(ranked, names[0], names[1], monitor, mode, even)
        return _scatter(ranked, names, numeric, monitor, even)
    if len(names) == len(numeric) == 1:
        return _line(ranked, names[0], monitor)
    return (
        _map(ranked, names[0], names[1], monitor, mode)
        if len(names) == 2
        else _dots(ranked[:SHOWN], len(ranked), monitor)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _states(failed: Sequence[Point]) -> str:
    """The states of points without a score, for a legend."""
    return ", ".join(sorted({point.state for point in failed}))


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
        axis.plot(x, [0.03] * len(x), "rx", transform=axis.get_xaxis_transform(), label=_states(failed))
    if wide([point.flags[name] for point in ranked], 10):
        axis.set_xscale("log")
    if monitor.endswith("loss") and wide(_scores(good, monitor)[0], 20):
        axis.set_yscale("log")
    axis.set(xlabel=name, ylabel=literal(monitor))
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8)
    return figure


def _plane(ranked: Sequence[Point], across: str, up: str, monitor: str, mode: str, even: Collection[str]) -> "Figure":
    """Scatters the points over two numeric flags, coloured by their scores."""
    from matplotlib.colors import LogNorm

    figure, axis = new_figure(6, 4.4)
    good, failed = [p for p in ranked if p.metrics], [p for p in ranked if not p.metrics]
    at = lambda points: ([p.flags[across] for p in points], [p.flags[up] for p in points])
    if good:
        means = _scores(good, monitor)[0]
        norm = LogNorm(min(means), max(means)) if monitor.endswith("loss") and wide(means, 20) else None
        colours = "viridis" if mode == "max" else "viridis_r"
        shade = axis.scatter(*at(good), c=means, cmap=colours, norm=norm, s=45, edgecolors="0.4", linewidths=0.5)
        axis.scatter(*at(good[:1]), s=190, facecolors="none", edgecolors="C3", linewidths=1.8,
                     label=f"best: {means[0]:.4g}")  # fmt: skip
        figure.colorbar(shade, label=literal(monitor))
    if failed:
        axis.plot(*at(failed), "rx", label=_states(failed))
    for name, values, scale in zip((across, up), at(ranked), (axis.set_xscale, axis.set_yscale), strict=True):
        if wide(values, 10) and name not in even:
            scale("log")
    axis.set(xlabel=across, ylabel=up)
    axis.grid(alpha=0.25)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _scatter(
    ranked: Sequence[Point], names: Sequence[str], numeric: Sequence[str], monitor: str, even: Collection[str]
) -> "Figure":
    """Draws the score over each flag; a single flag of words among numbers is shown by colours instead."""
    from matplotlib.ticker import MaxNLocator

    words = [name for name in names if name not in numeric]
    shade = words[0] if len(words) == 1 and numeric else ""
    shown_names = [name for name in names if name != shade]
    columns = min(len(shown_names), 4)
    rows = -(-len(shown_names) // columns)
    figure, axes = new_figure(max(6, 3.4 * columns), 3.6 * rows + 0.4, rows, columns, squeeze=False, sharey=True)
    order = lambda name: sorted({p.flags[name] for p in ranked}, key=lambda v: (v is None, str(v)))
    groups: dict[str, Sequence[Point]] = {}
    if shade:
        groups = {shown(value): [p for p in ranked if p.flags[shade] == value] for value in order(shade)}
    failed = [point for point in ranked if not point.metrics]
    for axis, name in zip(axes.flat, shown_names, strict=False):
        values = [] if name in numeric else order(name)
        place = lambda points: [values.index(p.flags[name]) if values else p.flags[name] for p in points]
        for label, points in (groups or {"": ranked}).items():
            good = [p for p in points if p.metrics]
            means, spreads = _scores(good, monitor)
            bars = spreads if any(spreads) else None
            axis.errorbar(place(good), means, bars, fmt="o", markersize=5, alpha=0.75, label=literal(label))
        if ranked[0].metrics:
            score = _scores(ranked[:1], monitor)[0]
            axis.plot(place(ranked[:1]), score, "*", color="k", markersize=14, markerfacecolor="gold", zorder=5,
                      label=f"best: {score[0]:.4g}")  # fmt: skip
        if failed:
            x = place(failed)
            axis.plot(x, [0.03] * len(x), "rx", transform=axis.get_xaxis_transform(), label=_states(failed))
        if values:
            axis.set_xticks(range(len(values)), [literal(shown(value), 20) for value in values])
            axis.set_xlim(-0.5, len(values) - 0.5)
        elif wide(place(ranked), 10) and name not in even:
            axis.set_xscale("log")
        elif all(isinstance(value, int) for value in place(ranked)):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel(name)
        axis.grid(alpha=0.25)
    for axis in axes.flat[len(shown_names) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel(literal(monitor))
    if monitor.endswith("loss") and wide(_scores([p for p in ranked if p.metrics], monitor)[0], 20):
        axes[0, 0].set_yscale("log")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    kept = [i for i, label in enumerate(labels) if label]
    figure.legend([handles[i] for i in kept], [labels[i] for i in kept], loc="outside lower center",
                  ncols=max(1, len(kept)), fontsize=8, title=shade or None)  # fmt: skip
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
