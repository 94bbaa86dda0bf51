"""Figures in matplotlib; `save_figure` writes one into the run's folder. matplotlib is imported when used."""

import contextlib
import functools
import itertools
import math
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.run.engine.distributed import is_first
from jaxdl.run.show.report import Row, curve, log
from jaxdl.run.store.files import replacing
from jaxdl.streams import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxdl.run.command.config import RunConfig

ABREAST = 4  # panels of curves in a row
WIDE = 4.0  # inches to which a figure may be widened for a title before the title is wrapped
DPI = 120
MARGIN = 0.06  # inches on both sides of a title
PARTS: dict[str, dict[str, Any]] = {
    "train": {"color": "C0", "alpha": 0.5, "linewidth": 1},
    "valid": {"color": "C1", "marker": "o", "markersize": 3.5},
    "test": {"color": "C3", "marker": "D", "markersize": 5, "linestyle": ""},
}


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple["Figure", Any]:
    """Returns a figure of the given size in inches, without a window manager, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def literal(text: object, most: int = 60, width: int = 0) -> str:
    """Returns a name from data, flags or folders as matplotlib is to show it.

    Dollars do not start a formula, long names are cut, and characters that no installed font has are written as
    escapes, \\u8611. With a width, lines have at most that many characters.
    """
    drawn = "".join(c if c.isascii() or font_of(c) else ascii(c)[1:-1] for c in printable(text))
    drawn = drawn if len(drawn) <= most else f"{drawn[: most - 1]}…"
    return (textwrap.fill(drawn, width) if width else drawn).replace("$", r"\$")


@functools.cache
def font_of(character: str) -> str:
    """Returns the name of an installed font with the character, preferably matplotlib's own; "" if there is none."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    default = FontProperties()
    for path, name in [(findfont(default), default.get_name()), *((f.fname, f.name) for f in fontManager.ttflist)]:
        if "Last Resort" not in name and ord(character) in _characters(path):
            return name
    return ""


@functools.cache  # hundreds of fonts may be installed
def _characters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # removed, or damaged
        return frozenset()


def _in_fonts(figure: "Figure") -> "Figure":
    """Adds the fonts for characters that matplotlib's own font lacks to the texts of a figure."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

    texts: list[Any] = figure.findobj(Text)
    fonts = {font_of(c) for text in texts for c in text.get_text() if not c.isascii()}
    if more := sorted(fonts - {"", FontProperties().get_name()}):
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *more])
    return figure


def prepared(figure: "Figure") -> "Figure":
    """Makes a figure ready to save: its characters have fonts, and no title is cut off or covers another.

    A narrow figure is widened for its titles, up to WIDE inches; a title that is still too wide is wrapped, and the
    figure grows by the new lines. Legends outside of the axes widen the figure as much as they need.
    """
    figure = _in_fonts(figure)
    texts = [figure._suptitle, *(axis.title for axis in figure.axes)]  # type: ignore[attr-defined]
    titles = [text for text in texts if text is not None and text.get_text()]
    canvas: Any = figure.canvas
    extent = lambda artist: artist.get_window_extent(canvas.get_renderer())
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    boxes = [extent(title) for title in titles]
    missing = [box.width - room for box, room in zip(boxes, _rooms(figure, boxes), strict=True)]
    needed = max([width, *(extent(legend).width / figure.dpi + 2 * MARGIN for legend in figure.legends)])
    needed = max(needed, min(WIDE, width + max(missing, default=0) / figure.dpi))
    if needed > width:
        figure.set_size_inches(needed, height)
        figure.draw_without_rendering()
        boxes = [extent(title) for title in titles]
    taller = dict[int, float]()  # by the height of a row of titles
    for title, box, room in zip(titles, boxes, _rooms(figure, boxes), strict=True):
        text, most = title.get_text(), len(title.get_text())
        while extent(title).width > room and most > 1:
            most -= 1
            title.set_text("\n".join(textwrap.fill(line, most) for line in text.split("\n")))
        taller[round(box.y0)] = max(taller.get(round(box.y0), 0.0), extent(title).height - box.height)
    if any(taller.values()):
        figure.set_size_inches(needed, height + sum(taller.values()) / figure.dpi)
        figure.draw_without_rendering()
    for _ in range(3):  # axes of images have a fixed shape: they move again, and titles with them
        if all(extent(title).y1 <= figure.bbox.height for title in titles):
            break
        figure.draw_without_rendering()
    figure.set_layout_engine("none")  # keeps the layout
    return figure


def _rooms(figure: "Figure", boxes: Sequence[Any]) -> list[float]:
    """Returns the widths in pixels that centred titles may take, up to the figure's edges and the next titles."""
    found, middles = list[float](), [(box.x0 + box.x1) / 2 for box in boxes]
    for box, middle in zip(boxes, middles, strict=True):
        row = [at for at, other in zip(middles, boxes, strict=True) if other.y0 < box.y1 and other.y1 > box.y0]
        left = max([0.0, *((at + middle) / 2 for at in row if at < middle)])
        right = min([figure.bbox.width, *((at + middle) / 2 for at in row if at > middle)])
        found.append(2 * min(middle - left, right - middle) - 2 * MARGIN * figure.dpi)
    return found


def save_figure(config: "RunConfig", name: str, figure: "Figure | Callable[[], Figure]") -> Path | None:
    """Writes `name`.png into the run's folder, if the run has one.

    A figure never ends a run: an error in drawing or saving is logged as a warning, and None is returned. Pass a
    function that draws, so that this includes the drawing.
    """
    if not (config.workdir and is_first()):
        return None
    path = Path(config.workdir) / f"{name}.png"
    with _optional(path), replacing(path) as file:
        drawn = figure() if callable(figure) else figure
        drawn.set_dpi(DPI)  # before the layout, which depends on it
        _picture(prepared(drawn)).save(file, "PNG")
        return path
    return None


def save_animation(
    config: "RunConfig", name: str, frames: "Sequence[Figure] | Callable[[], Sequence[Figure]]", seconds: float = 4.0
) -> Path | None:
    """Writes `name`.gif into the run's folder, if the run has one; the last frame is shown a second longer.

    Args:
      config: of the run.
      name: of the file.
      frames: figures from `new_figure`, all of one size, or a function that draws them; see `save_figure`.
      seconds: total time of all frames but the last.
    """
    if not (config.workdir and is_first()):
        return None
    from PIL import Image

    def picture(figure: Any, size: tuple[float, float]) -> Any:
        if tuple(figure.get_size_inches()) != size:
            figure.set_layout_engine("constrained")
            figure.set_size_inches(size)
        return _picture(figure).convert("P", palette=Image.Palette.ADAPTIVE)

    path = Path(config.workdir) / f"{name}.gif"
    with _optional(path), replacing(path) as file:
        figures = [prepared(figure) for figure in (frames() if callable(frames) else frames)]
        widths, heights = zip(*(figure.get_size_inches() for figure in figures), strict=True)
        pictures = [picture(figure, (max(widths), max(heights))) for figure in figures]
        each = round(1000 * seconds / len(pictures))
        times = [each] * (len(pictures) - 1) + [each + 1000]
        pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0)
        return path
    return None


def _picture(figure: "Figure") -> Any:
    """Draws a figure once (`savefig` draws twice) as an image of Pillow's."""
    from PIL import Image

    canvas: Any = figure.canvas
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba()))


@contextlib.contextmanager
def _optional(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # class names may be in any script
            yield
    except Exception as error:  # matplotlib's parsers and Pillow raise many types
        reason = str(error).strip().partition("\n")[0]
        log(f"warning: {path}: could not be drawn ({type(error).__name__}: {reason}); continuing without it")


def panels(histories: Iterable[Sequence[Row]]) -> list[str]:
    """Returns the metrics to draw, the loss first; no norms, and no constant learning rate."""
    names, changes = dict[str, None](), False
    for rows in histories:
        keys = (key for row in rows for key in row if "/" in key and "/norm/" not in key)
        names |= dict.fromkeys(key.partition("/")[2] for key in keys)
        changes |= len(set(curve(rows, "train/learning_rate")[1])) > 1
    if not changes:
        names.pop("learning_rate", None)
    return sorted(names, key=lambda name: {"loss": -1, "learning_rate": 1}.get(name, 0))


def curves(
    histories: Mapping[str, Sequence[Sequence[Row]]],
    *,
    names: Sequence[str] | None = None,
    over: Sequence[str] = ("step",),
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> "Figure":
    """Draws metrics over training, one panel each: training faint, validation as dots, the test part as a diamond.

    Args:
      histories: the rows of every seed, by label; seeds with one label look the same.
      names: the metrics; None: those of `panels`.
      over: "step", "seconds" or both, one below the other.
      looks: colour and line style by label; None: one colour per label. A single label has one colour per part.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    names = panels(rows for seeds in histories.values() for rows in seeds) if names is None else names
    looks = looks or {label: {"color": f"C{i}"} for i, label in enumerate(histories)}
    columns, blocks = max(1, min(len(names), ABREAST)), max(1, -(-len(names) // ABREAST))
    labels = [textwrap.fill(literal(label, 300), 100) for label in histories]
    height = 3.4 * blocks * len(over) + 0.25 + 0.2 * sum(1 + label.count("\n") for label in labels)
    figure, axes = new_figure(max(5.5, 4.6 * columns), height, blocks * len(over), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, name in enumerate(names):
        for j, clock in enumerate(over):
            axis, heights = axes[i // ABREAST * len(over) + j, i % ABREAST], list[float]()
            for label, seeds in histories.items():
                for rows, (part, style) in itertools.product(seeds, PARTS.items()):
                    x, y = curve(rows, f"{part}/{name}", clock)
                    heights += [value for value in y if math.isfinite(value)]
                    points = thinned(x, y) if part == "train" else (x, y)
                    if x:
                        axis.plot(*points, **style | (looks[label] if len(histories) > 1 else {}))
            axis.set_axis_on()
            axis.set(xlabel=clock, title="" if j else literal(name.replace("_", " ")))
            if clock == "step":
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            if name != "learning_rate" and wide(heights):
                axis.set_yscale("log")
            axis.grid(alpha=0.25)
    if len(histories) > 1:
        marks = [Line2D([], [], marker="o", markersize=3, **looks[label]) for label in histories]
        figure.suptitle("faint: training; dots: validation; diamonds: test", fontsize=9)
    else:
        drawn = {key.partition("/")[0] for seeds in histories.values() for rows in seeds for row in rows for key in row}
        labels = [part for part in PARTS if part in drawn]
        marks = [Line2D([], [], **PARTS[part]) for part in labels]
    figure.legend(
        marks, labels, loc="outside lower center", ncols=len(labels) if len(histories) == 1 else 1, fontsize=8
    )
    return figure


def wide(values: Sequence[float], span: float = 20) -> bool:
    """Returns whether to use a logarithmic axis: all values positive, the largest over `span` times the smallest."""
    return bool(len(values)) and min(values) > 0 and max(values) > span * min(values)


def thinned(steps: Sequence[int], values: Sequence[float], most: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Averages blocks of neighbours so that fewer than twice `most` points are left -> (steps, values)."""
    block = max(1, len(steps) // most)
    mean = lambda x: np.asarray(x[: len(x) // block * block], float).reshape(-1, block).mean(1)
    return mean(steps), mean(values)
