"""Figures that several experiments draw, as matplotlib figures from arrays."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.data import Batches, pixels01
from jaxdl.metrics import confusion_matrix
from jaxdl.run.engine.result import Result
from jaxdl.run.show.plots import literal, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def image_grid(
    images: np.ndarray, titles: Sequence[str] = (), *, columns: int = 8, diverging: bool = False, title: str = ""
) -> "Figure":
    """Draws images [N, H, W, C] in a grid; values in 0..1, or, if `diverging`, of either sign with 0 in white."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width = max(2.6, columns * 1.25) if title else columns * 1.25
    title, titles = literal(title, 120, int(12 * width)), [literal(each, width=17) for each in titles]
    lines = max((each.count("\n") + 1 for each in titles), default=0)
    height = rows * (1.25 + 0.12 * lines + 0.1 * bool(lines)) + (0.2 + 0.2 * (title.count("\n") + 1)) * bool(title)
    figure, axes = new_figure(width, height, rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        if image.shape[-1] == 1:
            image = image[..., 0]
        bound = float(np.abs(images).max()) or 1.0
        colours = (
            {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound} if diverging else {"cmap": "gray", "vmin": 0, "vmax": 1}
        )
        axis.imshow(image, interpolation="nearest", **colours)
        if titles:
            axis.set_title(titles[i], fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def confusion(y: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> "Figure":
    """Draws the confusion matrix of classes y [N] as fractions of each true class, with the counts if they fit."""
    matrix = confusion_matrix(y, predictions, len(names))
    n, names = len(names), [literal(name, 30) for name in names]
    figure, axis = new_figure(max(4.5, 0.45 * n if n <= 20 else 0.2 * n) + 1, max(4, 0.45 * n if n <= 20 else 0.2 * n))
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    picture = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="predicted", ylabel="true", xticks=range(n), yticks=range(n))
    axis.set_xticklabels(names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=8 if n <= 20 else 5)
    axis.set_yticklabels(names, fontsize=8 if n <= 20 else 5)
    if n <= 20:
        for i, j in zip(*np.nonzero(matrix), strict=True):
            axis.text(
                j, i, f"{matrix[i, j]:g}", ha="center", va="center", fontsize=7, color="w" if share[i, j] > 0.5 else "k"
            )
    figure.colorbar(picture, label="share of the true class", shrink=0.8)
    axis.set_title(f"{np.trace(matrix):g} of {matrix.sum():g} correct")
    return figure


def mistakes(x: np.ndarray, y: np.ndarray, p: np.ndarray, names: Sequence[str], most: int = 32) -> "Figure":
    """Draws the misclassified images [N, H, W, C] whose class y [N] has the lowest probability in p [N, K]."""
    predictions = p.argmax(-1)
    wrong = np.flatnonzero(predictions != y)
    worst = wrong[np.argsort(p[wrong, y[wrong]], kind="stable")][:most]
    if not len(worst):
        return image_grid(pixels01(x[:1]), title="no mistakes; shown: the first test image")
    titles = [f"{names[y[i]]} as {names[predictions[i]]}" for i in worst]
    return image_grid(
        pixels01(x[worst]), titles, title=f"{len(worst)} worst of {len(wrong)} mistakes: true class as predicted"
    )


def tiles(
    axis: Any, images: np.ndarray, columns: Sequence[str] = (), rows: Sequence[str] = (), *, between: float = 0.4,
    **labels: str,
) -> None:  # fmt: skip
    """Draws images [R, C, H, W, 1 or 3] in 0..1 as one picture on an axis, with a label for each column and row.

    between: grey level of the lines between them, one pixel wide.
    """
    cells = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=between)
    R, C, H, W, channels = cells.shape
    picture = np.clip(cells, 0, 1).transpose(0, 2, 1, 3, 4).reshape(R * H, C * W, channels)[:-1, :-1]
    picture = picture[..., 0] if channels == 1 else picture
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks(W * (np.arange(len(columns)) + 0.5) - 1, columns)
    axis.set_yticks(H * (np.arange(len(rows)) + 0.5) - 1, rows)
    axis.tick_params(length=0, labelsize=7)
    axis.set(**labels)


def mosaic(images: np.ndarray, columns: int, title: str = "") -> "Figure":
    """Draws images [N, H, W, C] in 0..1 side by side as one picture, white between them and in empty cells."""
    rows = -(-len(images) // columns)
    sheet = np.ones((rows * columns, *images.shape[1:]), np.float32)
    sheet[: len(images)] = images
    figure, axis = new_figure(0.6 * columns, 0.6 * rows + 0.35 * bool(title))
    tiles(axis, sheet.reshape(rows, columns, *images.shape[1:]), between=1.0)
    axis.set_axis_off()
    axis.set_title(title, fontsize=9)
    return figure


def errors(truth: np.ndarray, values: np.ndarray, target: str) -> "Figure":
    """Draws predicted values [N] over the true ones, and their errors."""
    from matplotlib.ticker import MaxNLocator

    off, target = values - truth, literal(target)
    figure, (left, right) = new_figure(9.5, 4.2, 1, 2)
    few = len(truth) < 1000
    left.scatter(truth, values, s=14 if few else 4, alpha=0.7 if few else 0.25, linewidths=0)
    ends = [min(truth.min(), values.min()), max(truth.max(), values.max())]
    left.plot(ends, ends, color="k", linestyle="--", linewidth=1, label="predicted = true")
    left.set(xlabel=f"true {target}", ylabel=f"predicted {target}", title=f"{len(truth):,} test rows")
    left.legend(fontsize=8)
    right.hist(off, bins=40 if few else 80)
    right.axvline(0, color="k", linestyle="--", linewidth=1)
    for axis in (left.xaxis, right.xaxis):
        axis.set_major_locator(MaxNLocator(5))
    title = f"RMSE {np.sqrt(np.mean(off**2)):,.5g}, median error {np.median(np.abs(off)):,.5g}"
    right.set(xlabel=f"predicted - true {target}", ylabel="test rows", title=title)
    return figure


def perplexity(fits: Mapping[str, Result], rows: Mapping[str, np.ndarray], counted: Mapping[str, float]) -> "Figure":
    """Draws the perplexity of language models over training, and the loss over the number of preceding characters.

    Args:
      fits: by name; lines are training batches, dots the validation part, or the test part if there is none.
      rows: x and y [n, T] of the test part, tokens and their successors.
      counted: perplexity of count-based models on the part with the dots.
    """
    figure, (left, right) = new_figure(11, 4.4, 1, 2)
    for name, fit in fits.items():
        steps, loss = fit.curve("train/loss")
        (line,) = left.plot(steps, np.exp(loss), label=name.replace("_", " "))
        seen = fit.curve("valid/perplexity")
        left.plot(*(seen if seen[0] else fit.curve("test/perplexity")), "o", color=line.get_color(), markersize=4)
        found = fit.predict(Batches({"x": rows["x"]}, 256))
        loss = -np.take_along_axis(found, rows["y"][..., None], -1)[..., 0].mean(0)
        right.plot(np.arange(1, len(loss) + 1), loss)
    for name, height in counted.items():
        left.axhline(height, color="gray", linestyle="--", linewidth=1)
        left.annotate(name, (1, height), (-2, 2), ("axes fraction", "data"), "offset points", ha="right", fontsize=8)
    left.set(xlabel="step", ylabel="perplexity (lines: training, dots: validation)", yscale="log")
    left.yaxis.set_minor_formatter("{x:g}")
    left.yaxis.set_major_formatter("{x:g}")
    right.set(xlabel="characters read since the state was reset", ylabel="loss (nats per character)", xscale="log")
    right.xaxis.set_major_formatter("{x:g}")
    for axis in (left, right):
        axis.grid(alpha=0.25, which="both")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def lines(x: np.ndarray, y: np.ndarray, wrong: np.ndarray, fitted: Mapping[str, Any], title: str) -> "Figure":
    """Draws points x and y [N, 1], outliers marked, and lines {label: (slope, intercept)}, the last one dashed."""
    figure, axis = new_figure(6, 4.2)
    axis.scatter(x[~wrong], y[~wrong], s=12, color="0.6", label="data")
    if wrong.any():
        axis.scatter(x[wrong], y[wrong], s=40, marker="x", color="k", label="outliers")
    ends = np.array([x.min(), x.max()])
    for i, (label, (slope, intercept)) in enumerate(fitted.items()):
        style = {"color": "k", "linestyle": "--"} if i == len(fitted) - 1 else {}
        axis.plot(ends, slope * ends + intercept, label=label, **style)
    axis.set(xlabel="x", ylabel="y", title=title)
    axis.legend()
    return figure
