"""Pictures as matplotlib figures; `save_figure` puts one into the run's folder. matplotlib is imported when used."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.run.engine.distributed import is_first
from jaxdl.run.show.report import log
from jaxdl.run.store.files import replacing
from jaxdl.streams import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxdl.run.command.config import RunConfig

ABREAST = 4  # panels of curves in a row


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple["Figure", Any]:
    """A figure of the given size in inches that no window manager knows of, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def literal(text: object, most: int = 60) -> str:
    """A name from data, flags or folders as matplotlib is to show it: no formula between dollars, not over-long."""
    shown = printable(text)
    return (shown if len(shown) <= most else f"{shown[: most - 1]}…").replace("$", r"\$")


def save_figure(config: "RunConfig", name: str, figure: "Figure | Callable[[], Figure]") -> Path | None:
    """Writes `name`.png into the run's folder, if the run has one.

    A picture never costs a run its end: what goes wrong in drawing or saving it is a warning, and None is returned.
    Hand over a function that draws, and this holds for the drawing too.
    """
    if not (config.workdir and is_first()):
        return None
    path = Path(config.workdir) / f"{name}.png"
    with _optional(path), replacing(path) as file:
        (figure() if callable(figure) else figure).savefig(file, format="png", dpi=120)
        return path
    return None


def save_animation(
    config: "RunConfig", name: str, frames: "Sequence[Figure] | Callable[[], Sequence[Figure]]", seconds: float = 4.0
) -> Path | None:
    """Writes `name`.gif into the run's folder, if the run has one; the last frame stands for a second more.

    Args:
      config: of the run.
      name: of the file.
      frames: figures as `new_figure` makes them, all of one size, or a function that draws them; as for `save_figure`.
      seconds: how long all frames but the last take together.
    """
    if not (config.workdir and is_first()):
        return None
    from PIL import Image

    def picture(figure: Any) -> Any:
        figure.canvas.draw()
        return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("P", palette=Image.Palette.ADAPTIVE)

    path = Path(config.workdir) / f"{name}.gif"
    with _optional(path), replacing(path) as file:
        pictures = [picture(figure) for figure in (frames() if callable(frames) else frames)]
        each = round(1000 * seconds / len(pictures))
        times = [each] * (len(pictures) - 1) + [each + 1000]
        pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0)
        return path
    return None


@contextlib.contextmanager
def _optional(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # class names in any script
            yield
    except Exception as error:  # matplotlib's parsers and Pillow raise many kinds
        reason = str(error).strip().partition("\n")[0]
        log(f"warning: {path}: could not be drawn ({type(error).__name__}: {reason}); the run goes on without it")


def curves(histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> "Figure":
    """Every metric over the steps: training as a line, evaluations as lines with dots, one panel a metric.

    Args:
      histories: the rows of every seed, by the name of the fit; the seeds of a fit are drawn in one colour.
    """
    from matplotlib.ticker import MaxNLocator

    runs = [(name, rows) for name, seeds in histories.items() for rows in seeds]
    keys = {
        key: None
        for _, rows in runs
        for row in rows
        for key in row
        if key not in ("step", "seconds") and "/norm/" not in key
    }
    rates = {row["train/learning_rate"] for _, rows in runs for row in rows if "train/learning_rate" in row}
    if len(rates) == 1:
        keys.pop("train/learning_rate")
    order = {"loss": -1, "learning_rate": 1}
    panels = sorted(dict.fromkeys(key.rpartition("/")[2] for key in keys), key=lambda panel: order.get(panel, 0))
    count = max(1, len(panels))
    columns, lines = min(count, ABREAST), -(-count // ABREAST)
    figure, axes = new_figure(4.6 * columns, 3.6 * lines, lines, columns, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    colours = {name: f"C{i}" for i, name in enumerate(histories)}
    kinds = {"train": "C0", "valid": "C1", "test": "C3"}
    for axis, panel in zip(axes.flat, panels, strict=False):
        heights: list[float] = []
        for key in (k for k in keys if k.rpartition("/")[2] == panel):
            kind, labelled = key.partition("/")[0], set[str]()
            for name, rows in runs:
                steps, values = zip(*[(row["step"], row[key]) for row in rows if key in row] or [((), ())], strict=True)
                if steps == ((),):
                    continue
                heights += values
                label = None if name in labelled else literal(f"{name} {key.rpartition('/')[0]}".strip())
                labelled.add(name)
                colour = colours[name] if len(histories) > 1 else kinds.get(kind, "C2")
                if kind == "train":
                    axis.plot(*thinned(steps, values), color=colour, label=label, alpha=0.55, linewidth=1)
                else:  # the test part, read once, is one mark at the end
                    style = {"marker": "o", "markersize": 3.5} if len(steps) > 1 else {"marker": "D", "markersize": 5}
                    axis.plot(steps, values, color=colour, label=label, **style)
        axis.set(xlabel="step", title=literal(panel.replace("_", " ")))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if panel != "learning_rate" and wide(heights):
            axis.set_yscale("log")
        axis.grid(alpha=0.25)
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=8)
    return figure


def wide(values: Sequence[float], span: float = 20) -> bool:
    """Whether values are drawn on a logarithmic axis: all above 0, the greatest more than `span` times the least."""
    return bool(len(values)) and min(values) > 0 and max(values) > span * min(values)


def thinned(steps: Sequence[int], values: Sequence[float], most: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values), each the mean of as many neighbours as leaves fewer than twice `most` points."""
    block = max(1, len(steps) // most)
    mean = lambda x: np.asarray(x[: len(x) // block * block], float).reshape(-1, block).mean(1)
    return mean(steps), mean(values)
