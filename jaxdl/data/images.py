"""Image sets by name: two bundled with installed libraries, four from their original files."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.batches import Batches
from jaxdl.data.cifar import read_cifar10
from jaxdl.data.errors import shown
from jaxdl.data.glyphs import CHARACTERS, FONTS, render_glyphs
from jaxdl.data.idx import read_mnist
from jaxdl.data.parts import Data
from jaxdl.data.splits import VALIDATION, check_fraction, hold_out, split
from jaxdl.data.usps import read_usps

DIGITS = tuple("0123456789")
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
TEST_FONTS = 5
CIFAR10_TRAINING_IMAGES = 50_000


class Images(NamedTuple):
    """Labelled images; each part is {"x": [N, H, W, C] uint8 or float32 in 0..1, "y": int32 [N]}.

    No two parts share an image, and those of glyphs share no font.
    """

    train: dict[str, np.ndarray]
    valid: dict[str, np.ndarray] | None  # for choosing a step or a hyperparameter; None: not held out
    test: dict[str, np.ndarray]
    names: tuple[str, ...]  # of the classes: y indexes it
    note: str  # one line for the user: counts, sizes, source
    name: str  # of the set, or the path of the folder
    original: bool  # False if the files' checksums are not the published ones; True also if none are compared

    def data(self, batch_size: int) -> Data:
        """Returns the parts in batches, of at least 256 images for evaluation. Facts: names, original."""
        size = max(batch_size, 256)
        valid = Batches(self.valid, size) if self.valid else None
        facts = {"names": list(self.names), "original": self.original}
        return Data(Batches(self.train, batch_size), valid, Batches(self.test, size), self.note, facts)


Loader = Callable[[str | Path | None, int, float], Images]


def load_images(name: str, data_dir: str | Path | None = None, *, seed: int = 0, valid: float = 0.1) -> Images:
    """Loads an image set.

    ``digits`` (scikit-learn) and ``glyphs`` (matplotlib's fonts) need no files; the seed draws their test part, a fifth
    of the digits or 5 of the fonts. The other sets have a published test part. The validation part is drawn from the
    rest: whole fonts for glyphs, otherwise images stratified by class.

    Args:
      name: one of IMAGE_SETS.
      data_dir: the folder with the original files, in it or in folders ``mnist``, ``fashion-mnist``, ``usps``,
        ``cifar10``; the environment variable JAXDL_DATA_DIR if not given.
      seed: seed of the split; the validation part uses a generator of its own, derived from it.
      valid: fraction of the training images, or of the training fonts, held out for validation, in [0, 1); 0: none.
        The test part does not depend on it.

    Raises:
      ValueError: the set is unknown, or valid is outside [0, 1).
      MissingData: a file does not exist.
      DataError: a file is broken, or there are too few images for a validation part.
    """
    if name not in LOADERS:
        near = difflib.get_close_matches(str(name), IMAGE_SETS, 1)
        raise ValueError(
            f"unknown image set {name!r}{f' (did you mean {near[0]}?)' if near else ''}; known: {', '.join(IMAGE_SETS)}"
        )
    check_fraction(valid)
    return LOADERS[name](data_dir, seed, valid)


def pixels01(x: Any) -> Any:
    """Returns pixels in 0..1: uint8 divided by 255 as float32, floats as they are; NumPy or JAX arrays.

    Raises:
      ValueError: other integers, whose range is unknown.
    """
    if x.dtype == np.uint8:
        return x.astype(np.float32) / 255
    if x.dtype.kind in "biu":
        raise ValueError(f"pixels of type {x.dtype} have no known range; expected uint8 in 0..255 or floats in 0..1")
    return x


def pixels11(x: Any) -> Any:
    """Returns pixels in -1..1: 2 `pixels01` - 1."""
    return 2 * pixels01(x) - 1


def counted(train: int, valid: int, test: int) -> str:
    """Returns the sizes of the parts for a note: "1,293 training, 144 validation and 360 test"."""
    return f"{train:,} training{f', {valid:,} validation' if valid else ''} and {test:,} test"


def _digits(data_dir: str | Path | None, seed: int, valid: float) -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    arrays = {"x": (digits.images / 16).astype(np.float32)[..., None], "y": digits.target.astype(np.int32)}
    train, test = split(arrays, 0.2, seed, stratify="y")
    drawn = "test and validation images" if valid else "test images"
    source = f"from scikit-learn; {drawn} drawn with seed {seed}"
    return _described("digits", *hold_out(train, valid, seed, "digits", stratify="y"), test, DIGITS, source)


def _glyphs(data_dir: str | Path | None, seed: int, valid: float) -> Images:
    glyphs = render_glyphs()  # [F, N, H, W]
    order = np.random.default_rng(seed).permutation(len(FONTS))
    tested, rest = order[:TEST_FONTS], order[TEST_FONTS:]
    validated = min(max(1, round(valid * len(rest))), len(rest) - 1) if valid else 0
    rest = np.random.default_rng((seed, VALIDATION)).permutation(rest)
    fonts = [np.sort(part) for part in (rest[validated:], rest[:validated], tested)]
    assert sorted(np.concatenate(fonts)) == list(range(len(FONTS))), "a font is in two parts"

    def images(fonts: np.ndarray) -> dict[str, np.ndarray]:
        labels = np.tile(np.arange(len(CHARACTERS), dtype=np.int32), len(fonts))
        return {"x": glyphs[fonts].reshape(-1, *glyphs.shape[2:], 1), "y": labels}

    named = [", ".join(FONTS[i] for i in part) for part in fonts]
    source = f"{len(FONTS)} fonts of matplotlib; test fonts: {named[2]}"
    source += f"; validation fonts: {named[1]}" if valid else ""
    held_out = images(fonts[1]) if valid else None
    return _described("glyphs", images(fonts[0]), held_out, images(fonts[2]), tuple(CHARACTERS), source)


def _idx(name: str, classes: tuple[str, ...]) -> Loader:
    def load(data_dir: str | Path | None, seed: int, valid: float) -> Images:
        train, test, paths, original = read_mnist(data_dir, name)
        source = f"{paths[0].parent}{'' if original else '; not the original files'}"
        return _rows(name, train, test, classes, source, seed, valid)._replace(original=original)

    return load


def _usps(data_dir: str | Path | None, seed: int, valid: float) -> Images:
    train, test, paths = read_usps(data_dir)
    return _rows("usps", train, test, DIGITS, " and ".join(map(str, paths)), seed, valid)


def _cifar10(data_dir: str | Path | None, seed: int, valid: float) -> Images:
    train, test, names, paths = read_cifar10(data_dir)
    source = f"{', '.join(path.name for path in paths)} in {paths[0].parent}"
    if (count := len(train["y"])) < CIFAR10_TRAINING_IMAGES:
        source = f"{count:,} of the {CIFAR10_TRAINING_IMAGES:,} training images: {source}"
    return _rows("cifar10", train, test, names, source, seed, valid)


def _rows(
    name: str,
    train: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    names: tuple[str, ...],
    source: str,
    seed: int,
    valid: float,
) -> Images:
    """Returns a set of independent images; the validation part is drawn from train."""
    source += f"; validation images drawn with seed {seed}" if valid else ""
    return _described(name, *hold_out(train, valid, seed, name, stratify="y"), test, names, source)


def _described(
    name: str,
    train: dict[str, np.ndarray],
    valid: dict[str, np.ndarray] | None,
    test: dict[str, np.ndarray],
    names: tuple[str, ...],
    source: str,
) -> Images:
    shape = "x".join(map(str, train["x"].shape[1:]))
    counts = counted(len(train["y"]), len(valid["y"]) if valid else 0, len(test["y"]))
    note = f"{name}: {counts} images, {shape}, {len(names)} classes ({shown(source)})"
    return Images(train, valid, test, names, note, name, original=True)


LOADERS: dict[str, Loader] = {
    "digits": _digits,
    "glyphs": _glyphs,
    "mnist": _idx("mnist", DIGITS),
    "fashion_mnist": _idx("fashion_mnist", CLOTHES),
    "usps": _usps,
    "cifar10": _cifar10,
}
IMAGE_SETS = tuple(LOADERS)
