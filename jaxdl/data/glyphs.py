"""Letters and digits of the text fonts that matplotlib brings: real images, offline, in a fraction of a second."""

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
SIDE, BOX = 28, 24  # pixels of an image, and of the box that the tallest and the widest character of a font fit in
FINE = 4  # glyphs are drawn 4 times as large and averaged, which makes the hinting of the font engine negligible


def render_glyphs(characters: str = CHARACTERS, fonts: Sequence[str] = FONTS) -> np.ndarray:
    """Draws characters in white on black, all characters of a font at one size and on one baseline.

    So c and C, o and O, s and S differ in size as they do in print. Each character is centred by its ink from left to
    right; up and down a font is centred as a whole.

    Args:
      characters: N characters.
      fonts: F file names without ``.ttf`` in matplotlib's font folder.

    Returns:
      uint8 [F, N, 28, 28].

    Raises:
      MissingData: matplotlib does not bring such a font.
    """
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return np.stack([_render(folder / f"{font}.ttf", characters) for font in fonts])


def _render(path: Path, characters: str) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    if not path.is_file():
        raise MissingData(f"{path}: no such font; matplotlib's own fonts are needed (pip install --force matplotlib)")

    def boxes(size: float) -> tuple[ImageFont.FreeTypeFont, np.ndarray]:
        # The basic layout engine: shaping libraries are optional, and must not change what is drawn.
        font = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
        return font, np.array([font.getbbox(c, anchor="ls") for c in characters])

    def extent(box: np.ndarray) -> float:
        return max((box[:, 2] - box[:, 0]).max(), box[:, 3].max() - box[:, 1].min())

    trial = 32.0 * FINE
    font, box = boxes(trial * BOX * FINE / extent(boxes(trial)[1]))
    baseline = (SIDE * FINE - box[:, 1].min() - box[:, 3].max()) / 2
    glyphs = []
    for character, (left, _, right, _) in zip(characters, box, strict=True):
        canvas = Image.new("L", (SIDE * FINE, SIDE * FINE))
        place = ((SIDE * FINE - left - right) / 2, baseline)
        ImageDraw.Draw(canvas).text(place, character, fill=255, font=font, anchor="ls")
        glyphs.append(np.asarray(canvas.reduce(FINE)))
    return np.stack(glyphs)
