"""Figures: an error in drawing or writing one does not end a run, and titles are not cut off."""

import warnings
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text

from jaxdl.run import RunConfig, pictures, plots, save_animation, save_figure
from tests.budget import first


def figure(title="A"):
    made, axis = plots.new_figure(1, 1)
    axis.set_title(title)
    return made


def failing():
    raise ZeroDivisionError("no points\nat all")


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (failing, "(ZeroDivisionError: no points)"),
        (lambda: figure("$50_to_$100"), "(ValueError: "),
    ],
)
def test_what_cannot_be_drawn_is_a_warning(draw, told, tmp_path, capfd):
    config = RunConfig(workdir=str(tmp_path))
    assert save_figure(config, "one", draw) is None
    said = capfd.readouterr().err
    assert said.startswith(f"warning: {tmp_path}/one.png: ")
    assert told in said
    assert said.count("\n") == 1
    assert save_animation(config, "two", lambda: [figure(), failing()]) is None
    assert f"warning: {tmp_path}/two.gif: " in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_in_its_place_is_a_warning_and_the_file_is_kept_else(tmp_path, capfd):
    config = RunConfig(workdir=str(tmp_path))
    kept = save_figure(config, "one", figure).read_bytes()
    assert kept[:4] == b"\x89PNG"
    save_figure(config, "one", failing)
    assert (tmp_path / "one.png").read_bytes() == kept
    (tmp_path / "two.png").mkdir()
    assert save_figure(config, "two", figure()) is None
    assert "DataError" in (told := capfd.readouterr().err)
    assert "two.png: " in told


def test_names_from_elsewhere_are_drawn_as_they_are(tmp_path, capfd):
    path = save_figure(RunConfig(workdir=str(tmp_path)), "one", lambda: figure(plots.literal("$50_to_$100")))
    assert path.is_file()
    assert capfd.readouterr().err == ""


def with_font(characters, path):
    """A font with squares for these characters only."""
    builder = pytest.importorskip("fontTools.fontBuilder").FontBuilder(1000, isTTF=True)
    pen = pytest.importorskip("fontTools.pens.ttGlyphPen").TTGlyphPen(None)
    for k, point in enumerate(((0, 0), (0, 900), (900, 900), (900, 0))):
        (pen.lineTo if k else pen.moveTo)(point)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"uni{ord(c):04X}" for c in characters)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): name for c, name in zip(characters, names[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900)
    builder.setupPost()
    builder.save(path)


def test_a_class_name_in_another_script(tmp_path, capfd, monkeypatch):
    """A name is drawn in a font that has its characters, else escaped, without warnings."""
    from matplotlib import font_manager

    name, y = "蘑 菇", np.array([0, 1, 1])
    draw = lambda: pictures.confusion(y, y, ["ünï", name])
    labels = lambda figure: {text.get_text(): text for text in figure.findobj(Text)}
    config = RunConfig(workdir=str(tmp_path))
    own = [font for font in font_manager.fontManager.ttflist if font.fname.startswith(matplotlib.get_data_path())]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)  # no font has these characters
    plots.font_of.cache_clear()
    assert plots.literal(name) == r"\u8611 \u83c7"
    assert plots.literal("ünï $5") == r"ünï \$5"
    assert plots.literal(name, 9) == r"\u8611 \…"
    with_font("蘑菇", tmp_path / "squares.ttf")
    own += [font_manager.ttfFontProperty(font_manager.get_font(tmp_path / "squares.ttf"))]
    plots.font_of.cache_clear()
    with warnings.catch_warnings(action="error"):
        figure = draw()
        assert save_figure(config, "one", figure).is_file()
        assert name in labels(figure)
        assert all("Squares" in text.get_fontfamily() for text in labels(figure).values())
        plots.font_of.cache_clear()
        own.pop()
        assert save_figure(config, "two", draw).is_file()
        assert save_animation(config, "three", lambda: [draw()]).is_file()
    plots.font_of.cache_clear()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("wrong", [0, 1, 2, 3, 11])
def test_titles_of_mistakes_are_whole(wrong, tmp_path):
    names, y = ["a rather long name of a class", "$5", "bcd"], np.arange(13) % 3
    p = np.eye(3)[np.where(np.arange(13) < wrong, (y + 1) % 3, y)]
    figure = pictures.mistakes(np.zeros((13, 5, 7, 3), np.uint8), y, p, names)
    figure.canvas.draw()
    renderer, width = figure.canvas.get_renderer(), figure.bbox.width
    texts = [figure._suptitle, *(axis.title for axis in figure.axes)]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    assert len(boxes) == 1 + wrong
    assert texts[0].get_text().count("\n") <= 1
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= width  # noqa: PT018
    for box, after in pairwise(boxes[1:]):
        assert box.x1 <= after.x0 or box.y0 > after.y1


LONG = "samples after 12,345 steps from fixed noise, one row for each of the ten classes, left to right"


def several(title):
    made, axes = plots.new_figure(5, 2, 1, 3)
    for axis in axes:
        axis.set_title(title)
    return made


@pytest.mark.parametrize("title", first(["7", LONG, "without_a_space_" * 9, f"{LONG}\n{LONG}"], 2))
@pytest.mark.parametrize(
    "draw",
    [
        lambda title: pictures.mosaic(np.zeros((1, 8, 8, 1)), 1, title),
        lambda title: pictures.image_grid(np.zeros((1, 8, 8, 1)), title=title),
        lambda title: pictures.image_grid(np.zeros((3, 8, 8, 1)), [title] * 3),
        several,
    ],
)
def test_a_title_is_drawn_inside_of_its_figure(draw, title, tmp_path):
    """Measures the drawn text: one image with a long title, and titles side by side."""
    figure = draw(title)
    assert save_figure(RunConfig(workdir=str(tmp_path)), "one", figure).is_file()
    figure.canvas.draw()
    texts = [figure._suptitle, *(axis.title for axis in figure.axes)]
    boxes = [text.get_window_extent(figure.canvas.get_renderer()) for text in texts if text and text.get_text()]
    assert boxes
    for box in boxes:
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    for box, after in pairwise(boxes):
        assert box.x1 <= after.x0
    for axis in figure.axes:
        assert axis.get_window_extent().height > 20  # the title leaves room for the image


def test_frames_with_titles_of_other_lengths_have_one_size(tmp_path):
    frames = [pictures.mosaic(np.zeros((1, 8, 8, 1)), 1, title) for title in ("7", LONG)]
    path = save_animation(RunConfig(workdir=str(tmp_path)), "one", frames)
    sizes = {tuple(frame.get_size_inches()) for frame in frames}
    assert len(sizes) == 1
    assert path.is_file()
