"""Letters and digits of the fonts bundled with matplotlib: real images, offline, in a fraction of a second."""

import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxdl.data.errors import MissingData

CHARACTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmti10", "cmss10", "cmtt10", "cmmi10"),
)
SIDE, BOX = 28, 24  # pixels of an image, and of the box into which the tallest and the widest character of a font fit
FINE = 4  # glyphs are drawn 4 times as large and averaged, so that the hinting of the font engine is negligible


def render_glyphs(characters: str = CHARACTERS, fonts: Sequence[str] = FONTS) -> np.ndarray:
    """Draws characters in white on black, all characters of a font at one size and on one baseline.

    So c and C, o and O, s and S differ in size, as in print. The ink of each character is centred horizontally; a font
    is centred vertically as a whole.

    Args:
      characters: N characters; one that a font does not have is drawn as the font's empty box.
      fonts: F file names without ``.ttf`` in matplotlib's font folder.

    Returns:
      uint8 [F, N, 28, 28].

    Raises:
      MissingData: matplotlib does not have a font.
      ValueError: a character is blank.
    """
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return np.stack([_render(folder / f"{font}.ttf", characters) for font in fonts])


def _render(path: Path, characters: str) -> np.ndarray:
    """Renders one font: uint8 [N, 28, 28]."""
    if not path.is_file():
        raise MissingData(
            f"{path}: no such font; reinstall matplotlib's fonts (pip install --force-reinstall matplotlib)"
        )
    trial = float(SIDE * FINE // 2)
    drawn = _draw(path, trial, characters)
    empty = [character for character, glyph in zip(characters, drawn, strict=True) if not glyph.any()]
    if empty:
        raise ValueError(f"character {empty[0]!r} is blank in {path.name}; give visible characters")
    top, bottom, left, right = _ink(drawn)
    extent = max(bottom.max() - top.min(), (right - left).max())
    drawn = _draw(path, trial * BOX * FINE / extent, characters)
    top, bottom, left, right = _ink(drawn)
    first_row = (top.min() + bottom.max() - SIDE * FINE) // 2
    first_columns = (left + right - SIDE * FINE) // 2
    cut = [
        glyph[first_row : first_row + SIDE * FINE, column : column + SIDE * FINE]
        for glyph, column in zip(drawn, first_columns, strict=True)
    ]
    fine = np.stack(cut).reshape(len(characters), SIDE, FINE, SIDE, FINE).astype(np.float32)
    return np.rint(fine.mean(axis=(2, 4))).astype(np.uint8)


def _draw(path: Path, size: float, characters: str) -> np.ndarray:
    """Draws each character with its origin in the middle of a large canvas: uint8 [N, 3·28·4, 3·28·4]."""
    from PIL import Image, ImageDraw, ImageFont

    # The basic layout engine: shaping libraries are optional and must not change the result.
    font = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    side = 3 * SIDE * FINE
    drawn = []
    for character in characters:
        canvas = Image.new("L", (side, side))
        ImageDraw.Draw(canvas).text((side // 2, side // 2), character, fill=255, font=font, anchor="ls")
        drawn.append(np.asarray(canvas))
    return np.stack(drawn)


def _ink(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the range of rows and of columns with ink: first row, end row, first column, end column, int [N]."""
    rows, columns, side = np.any(drawn, axis=2), np.any(drawn, axis=1), drawn.shape[1]
    return rows.argmax(1), side - rows[:, ::-1].argmax(1), columns.argmax(1), side - columns[:, ::-1].argmax(1)
