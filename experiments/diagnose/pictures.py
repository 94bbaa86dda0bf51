"""The figures of the diagnosis."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.diagnose import gap
from jaxdl.methods.diagnosis import Diagnosis
from jaxdl.run import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 20.0  # bars end here


def table(
    counts: np.ndarray, kinds: Sequence[str], names: Sequence[str], expected: Mapping[str, str], gaps: gap.Gaps
) -> "Figure":
    """Draws how often each planted fault was given each diagnosis, and the gap by units, rows and penalty."""
    figure, axes = plots.new_figure(13, 8.2, 3, 2, width_ratios=(2.6, 1))
    left = figure.add_subplot(axes[0, 0].get_gridspec()[:, 0])
    for axis in axes[:, 0]:
        axis.remove()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    left.imshow(share, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    for i, j in zip(*np.nonzero(counts), strict=True):
        right = names[j] == expected.get(kinds[i], names[-1])
        left.text(j, i, str(counts[i, j]), ha="center", va="center", color="black" if right else "C3", weight="bold")
    left.set_xticks(range(len(names)), names, rotation=40, ha="right")
    left.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    left.set(title="First diagnosis of runs with a planted fault (number of runs)", ylabel="planted")
    left.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    left.set_yticks(np.arange(len(kinds) + 1) - 0.5, minor=True)
    left.grid(which="minor", color="0.88")
    left.tick_params(which="minor", length=0)
    shown = (("hidden units", gap.BY_UNITS, 0), ("training rows", gap.BY_ROWS, 1), ("weight decay", gap.BY_DECAY, 2))
    for axis, (label, models, column) in zip(axes[:, 1], shown, strict=True):
        at, places = list(models), range(len(models))
        for name, values, colour in (("training", gaps.train, "C0"), ("test", gaps.test, "C3")):
            axis.plot(places, values[:, at].mean(0), "o-", color=colour, markersize=4, label=f"{name} accuracy")
        axis.fill_between(places, gaps.train[:, at].mean(0), gaps.test[:, at].mean(0), color="0.9", label="gap")
        axis.set_xticks(places, [f"{gap.MODELS[k, column]:g}" for k in at])
        axis.set(xlabel=label, ylim=(0, 1.05))
        axis.grid(alpha=0.25)
    axes[0, 1].set_title("The gap opens with size ...")
    axes[1, 1].set_title("... closes with data ...")
    axes[2, 1].set_title("... and with regularisation")
    axes[0, 1].legend(fontsize=8, loc="lower right")
    return figure


def diagnosis(rows: Sequence[Mapping[str, Any]], found: Sequence[Diagnosis], title: str) -> "Figure":
    """Draws the losses of a run, and the score of every fault: from 1 on it is seen."""
    figure, (left, right) = plots.new_figure(11, 4.4, 1, 2, width_ratios=(1, 1))
    heights = list[float]()
    for part, style in plots.PARTS.items():
        points = [(row["step"], row[f"{part}/loss"]) for row in rows if f"{part}/loss" in row]
        if points:
            left.plot(*zip(*points, strict=True), **style, label=part)
            heights += [y for _, y in points if math.isfinite(y)]
    if plots.wide(heights):
        left.set_yscale("log")
    faults = [one.fault for one in found if one.score >= 1]
    left.set(xlabel="step", title=plots.literal("loss: " + (faults[0] if faults else "no fault found"), 60))
    left.grid(alpha=0.25)
    if heights:
        left.legend()
    ordered = sorted(found, key=lambda one: one.score)
    values = [min(one.score, MOST) for one in ordered]
    right.barh(range(len(ordered)), values, color=["C3" if one.score >= 1 else "0.7" for one in ordered])
    right.set_yticks(range(len(ordered)), [one.fault + (" *" if one.fault in faults[:1] else "") for one in ordered])
    right.axvline(1, color="black", linewidth=1, linestyle="--")
    right.set_xscale("symlog", linthresh=1)
    right.set_xlim(0, MOST)
    right.set_xticks([0, 0.5, 1, 2, 5, 10, MOST], ["0", "0.5", "1", "2", "5", "10", f"{MOST:.0f}+"])
    right.set(xlabel="evidence / threshold: seen from 1 on (* first diagnosis)")
    figure.suptitle(plots.literal(title, 90), fontsize=10)
    return figure
