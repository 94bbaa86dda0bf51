"""The figure of the experiment."""

from typing import Any

import numpy as np

from experiments.cross_validation.estimating import Estimates, root_mean_square
from experiments.cross_validation.samples import SIZES
from experiments.cross_validation.searching import Nested
from jaxdl.run import plots


def picture(config: Any, found: Estimates, one: Nested, noise: Nested) -> Any:
    """Draws the errors of both estimates, their fall with n, the search, and the scores on noise."""
    figure, ((left, right), (low, last)) = plots.new_figure(11, 8, 2, 2)
    i, sizes = SIZES.index(1), [int(size * config.sample) for size in SIZES]
    single, both = (100 * error for error in found.errors())
    ends = np.abs(single[i]).max() * 1.05
    bins = np.linspace(-ends, ends, 22)
    for values, label in ((single[i].ravel(), "one held-out part"), (both[i], f"{config.folds}-fold cross-validation")):
        label = f"{label}: ±{root_mean_square(values):.1f} points"
        left.hist(values, bins, weights=np.full(len(values), 1 / len(values)), alpha=0.6, label=label)
    left.axvline(0, color="k", linestyle="--", linewidth=1)
    title = f"Accuracy estimated from {config.sample} rows, {config.splits} samples"
    left.set(xlabel="estimate - accuracy on all other rows (points)", ylabel="share of the estimates", title=title)

    few = 100 * np.sqrt(np.mean(found.rest * (1 - found.rest), (1, 2)) * config.folds / sizes)
    right.plot(sizes, root_mean_square(single, (1, 2)), "o-", label="one held-out part")
    right.plot(sizes, root_mean_square(both, 1), "s-", label=f"{config.folds}-fold cross-validation")
    far = np.array([sizes[0], 10_000])
    right.plot(far, few[-1] * np.sqrt(sizes[-1] / far), "k:", linewidth=1, label="sqrt(a (1 - a) K / n)")
    right.axvline(10_000, color="0.7", linewidth=1)
    right.annotate("one split is enough", (10_000, 1), (-4, -4), ("data", "axes fraction"), "offset points",
                   rotation=90, ha="right", va="top", fontsize=8, color="0.4")  # fmt: skip
    right.set(xscale="log", yscale="log", xlabel="rows n", ylabel="root mean square error (points)",
              title="The error of an estimate falls with the rows")  # fmt: skip
    for axis in (right.yaxis, right.xaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    right.set_yticks([0.5, 1, 2, 5])

    rates = [flags["learning_rate"] for flags in one.trials.values()]
    shade = low.scatter(rates, one.inner[0].mean(0), c=[flags["penalty"] for flags in one.trials.values()], s=34,
                        norm="log", cmap="viridis", label="inner folds", zorder=3)  # fmt: skip
    low.plot(rates, one.outer[0].mean(0), "kx", markersize=5, label="outer folds")
    low.axhline(one.nested()[0], color="C3", linewidth=1, label=f"chosen, outer folds: {one.nested()[0]:.3f}")
    low.set(xscale="log", xlabel="learning_rate", ylabel="accuracy", title=f"{len(rates)} trials of a search")
    figure.colorbar(shade, ax=low, label="penalty")

    scores = ((noise.best(), "best inner score"), (noise.nested(), "nested estimate"))
    bins = np.linspace(min(v.min() for v, _ in scores) - 0.01, max(v.max() for v, _ in scores) + 0.01, 16)
    for values, label in scores:
        last.hist(values, bins, alpha=0.6, label=f"{label}: {values.mean():.3f}")
    last.axvline(0.5, color="k", linestyle="--", linewidth=1, label="chance")
    last.set(xlabel="accuracy", ylabel="draws of the labels", title=f"Labels are coins: best of {len(rates)} trials")
    for axis in (left, right, low, last):
        axis.legend(fontsize=8)
        axis.grid(alpha=0.25)
    return figure
