"""Plots of the GAN experiment from arrays: the ring and images over training, paths between images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl import run
from jaxdl.run import plots
from jaxdl.run.show.pictures import mosaic

SNAPSHOTS = 5
TITLES = {"wgan_gp": "WGAN-GP", "planted": "original (collapsed)", "recovered": "WGAN-GP (collapsed)"}
Seen = Mapping[int, np.ndarray]  # step -> samples


def ring(config: run.RunConfig, data: np.ndarray, seen: Mapping[str, Seen], answers: np.ndarray) -> None:
    """Plots samples at several steps, one row per fit, over the data; as an animation too; and the regression."""
    steps = sorted(set.intersection(*(set(samples) for samples in seen.values())))
    chosen = [steps[round(i)] for i in np.linspace(0, len(steps) - 1, min(SNAPSHOTS, len(steps)))]

    def draw(shown: Sequence[int]) -> Any:
        rows, columns = (len(seen), len(shown)) if len(shown) > 1 else (1, len(seen))
        figure, axes = plots.new_figure(2.4 * columns + 0.3, 2.6 * rows, rows, columns, squeeze=False)
        cells = [(name, step) for name in seen for step in shown]
        for axis, (name, step) in zip(axes.flat, cells, strict=True):
            axis.scatter(*data.T, s=2, color="0.75", linewidths=0)
            axis.scatter(*seen[name][step].T, s=2, color="C3", linewidths=0)
            axis.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=(), yticks=())
            axis.set_title(f"{TITLES.get(name, name)}, step {step:,}", fontsize=9)
        return figure

    def regression() -> Any:
        figure, axis = plots.new_figure(3.6, 4.2)
        axis.scatter(*data.T, s=2, color="0.75", linewidths=0, label="data")
        axis.scatter(*answers.T, s=2, color="C0", linewidths=0, label="regression of y on x")
        axis.set(xlim=(-3, 3), ylim=(-3, 4), aspect="equal", xlabel="x", ylabel="y", title="Regression on the ring")
        axis.legend(markerscale=4, fontsize=8, loc="upper right")
        return figure

    run.save_figure(config, "ring", lambda: draw(chosen))
    run.save_animation(config, "ring", lambda: [draw([step]) for step in steps])
    run.save_figure(config, "regression", regression)


def images(config: run.RunConfig, name: str, seen: Seen, path: np.ndarray, labels: np.ndarray) -> None:
    """Plots the last samples, an animation of samples over training, and paths [rows, n, H, W, C] with labels."""
    last = max(seen)
    run.save_figure(config, f"{name}_samples", lambda: mosaic(seen[last], 8, f"{name}: samples, step {last:,}"))
    frames = lambda: [mosaic(samples, 8, f"{name}, step {step:,}") for step, samples in sorted(seen.items())]
    run.save_animation(config, name, frames)
    rows, n = path.shape[:2]
    flips = np.count_nonzero(np.diff(labels), axis=1).mean()
    title = f"{name}: paths from z to z', {flips:.1f} label changes per path"
    run.save_figure(config, f"{name}_path", lambda: mosaic(path.reshape(rows * n, *path.shape[2:]), n, title))
