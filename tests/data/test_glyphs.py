"""The glyphs of matplotlib's fonts: their content, their split, and that no two look the same."""

import re

import matplotlib.ft2font
import numpy as np
import pytest

from jaxdl.data import MissingData, load_images, render_glyphs
from jaxdl.data.glyphs import CHARACTERS, FONTS
from tests.budget import first


@pytest.fixture(scope="module")
def glyphs():
    return render_glyphs()


def test_22_fonts_of_62_characters(glyphs):
    assert glyphs.shape == (22, 62, 28, 28)
    assert glyphs.dtype == np.uint8
    assert len(set(FONTS)) == 22
    assert len(set(CHARACTERS)) == 62


def test_every_font_has_every_character():
    for font in FONTS:
        path = f"{matplotlib.get_data_path()}/fonts/ttf/{font}.ttf"
        assert set(map(ord, CHARACTERS)) <= set(matplotlib.ft2font.FT2Font(path).get_charmap()), font


def test_ink_is_inside_and_centred(glyphs):
    assert (glyphs.reshape(22, 62, -1).max(-1) > 100).all()
    for border in (glyphs[:, :, 0], glyphs[:, :, -1], glyphs[:, :, :, 0], glyphs[:, :, :, -1]):
        assert not border.any()
    for glyph in glyphs.reshape(-1, 28, 28):
        columns = np.flatnonzero(glyph.any(axis=0))
        assert abs(columns[0] + columns[-1] - 27) <= 1


def test_fonts_fill_the_box(glyphs):
    for font in glyphs:
        rows, columns = np.flatnonzero(font.any(axis=(0, 2))), np.flatnonzero(font.any(axis=(0, 1)))
        assert 23 <= max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 <= 26


def test_no_two_characters_of_a_font_look_the_same(glyphs):
    for name, font in zip(FONTS, glyphs.reshape(22, 62, -1).astype(float), strict=True):
        distance = np.abs(font[:, None] - font[None]).sum(-1) / 255  # in full pixels
        distance[np.diag_indices(62)] = np.inf
        a, b = np.unravel_index(distance.argmin(), distance.shape)
        # The closest are l and 1 of STIXGeneral, 4 full pixels, then i and l of DejaVu Sans, 5.
        assert distance.min() > 3, f"{CHARACTERS[a]} and {CHARACTERS[b]} of {name}"


@pytest.mark.parametrize("letter", "cosvwxz")
def test_small_letters_are_smaller_than_capitals(glyphs, letter):
    def height(character: str) -> np.ndarray:
        rows = glyphs[:, CHARACTERS.index(character)].any(axis=-1)
        return rows.sum(axis=-1)

    assert (height(letter.upper()) - height(letter) >= 3).all()


def test_letters_share_one_baseline(glyphs):
    for font in glyphs:
        bottoms = [np.flatnonzero(font[CHARACTERS.index(c)].any(axis=1))[-1] for c in "HhEmnx"]
        assert max(bottoms) - min(bottoms) <= 1


def test_rendering_is_deterministic(glyphs):
    np.testing.assert_array_equal(render_glyphs(), glyphs)


def test_other_characters_and_fonts_can_be_drawn():
    assert render_glyphs("αβγδε", ["DejaVuSans", "DejaVuSerif"]).shape == (2, 5, 28, 28)
    with pytest.raises(MissingData, match=r"Nonesuch.ttf: "):
        render_glyphs("a", ["Nonesuch"])
    with pytest.raises(ValueError, match=r"' ' .*DejaVuSans.ttf"):
        render_glyphs("a b", ["DejaVuSans"])


TESTED = (  # the same with and without a validation part
    ["DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif-Italic", "cmr10", "cmss10"],
    ["DejaVuSans-Bold", "DejaVuSansMono-BoldOblique", "DejaVuSerif-BoldItalic", "STIXGeneralBolIta", "cmtt10"],
    ["STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta", "cmb10", "cmtt10"],
)


@pytest.mark.parametrize("seed", first([0, 1, 2]))
def test_split_by_font(glyphs, seed):
    images = load_images("glyphs", seed=seed)
    noted = re.search(r"test fonts: (.*); validation fonts: (.*)\)$", images.note)
    tested, validated = (fonts.split(", ") for fonts in noted.groups())
    kept = [font for font in FONTS if font not in (*tested, *validated)]
    assert tested == TESTED[seed]
    assert (len(kept), len(validated)) == (15, 2)
    assert not set(tested) & set(validated)
    for part, fonts in ((images.train, kept), (images.valid, validated), (images.test, tested)):
        expected = np.concatenate([glyphs[FONTS.index(font)] for font in fonts])
        np.testing.assert_array_equal(part["x"][..., 0], expected)
        assert "".join(images.names[y] for y in part["y"]) == CHARACTERS * len(fonts)


@pytest.mark.parametrize(("valid", "fonts"), first([(0.1, 2), (0, 0), (0.001, 1), (0.5, 8), (0.99, 16)]))
def test_whole_fonts_are_held_out_for_validation(glyphs, valid, fonts):
    images, without = load_images("glyphs", valid=valid), load_images("glyphs", valid=0)
    assert without.valid is None
    assert len(images.train["y"]) == 62 * (17 - fonts)
    assert (len(images.valid["y"]) if fonts else images.valid) == (62 * fonts or None)
    np.testing.assert_array_equal(images.test["x"], without.test["x"])
    kept = [glyphs[i] for i, font in enumerate(FONTS) if font not in TESTED[0]]
    np.testing.assert_array_equal(without.train["x"][..., 0], np.concatenate(kept))
    counts = (f"{62 * (17 - fonts):,} training, {62 * fonts} validation", "1,054 training")
    assert images.note.startswith(f"glyphs: {counts[not fonts]} and 310 test images, 28x28x1, 62 classes (22 ")


@pytest.mark.claims
def test_seeds_hold_out_different_fonts():
    parts = [load_images("glyphs", seed=seed) for seed in range(3)]
    assert len({images.test["x"].tobytes() for images in parts}) == 3
    assert len({images.valid["x"].tobytes() for images in parts}) == 3
