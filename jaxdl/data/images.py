"""Image sets by name: two that come with the installed libraries, four in their original files."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.cifar import read_cifar10
from jaxdl.data.glyphs import CHARACTERS, FONTS, render_glyphs
from jaxdl.data.idx import read_mnist
from jaxdl.data.split import split
from jaxdl.data.usps import read_usps

DIGITS = tuple("0123456789")
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
TEST_FONTS = 5
CIFAR10_TRAINING_IMAGES = 50_000


class Images(NamedTuple):
    """Labelled images: train and test are {"x": [N, H, W, C] uint8 or float32 in 0..1, "y": int32 [N]}."""

    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    names: tuple[str, ...]  # of the classes: y indexes it
    note: str  # one line for the person who runs it: counts, sizes, where from


def load_images(name: str, data_dir: str | Path | None = None, *, seed: int = 0) -> Images:
    """Loads an image set.

    ``digits`` (scikit-learn) and ``glyphs`` (matplotlib's fonts) need no files; the seed chooses their test part: a
    fifth of the digits, 5 of the fonts. The others have the test part of their authors.

    Args:
      name: one of IMAGE_SETS.
      data_dir: the folder with the original files, in it or in folders ``mnist``, ``fashion-mnist``, ``usps``,
        ``cifar10``.
      seed: of the split.

    Raises:
      ValueError: no such set.
      MissingData: files are not there.
      DataError: files are broken.
    """
    if name not in LOADERS:
        near = difflib.get_close_matches(str(name), IMAGE_SETS, 1)
        raise ValueError(
            f"no image set {name!r}{f' (did you mean {near[0]}?)' if near else ''}; there are {', '.join(IMAGE_SETS)}"
        )
    return LOADERS[name](data_dir, seed)


def unit(x: Any) -> Any:
    """Returns pixels in 0..1: uint8 divided by 255 as float32, floats as they are; NumPy or JAX arrays.

    Raises:
      ValueError: other integers, whose range nobody knows.
    """
    if x.dtype == np.uint8:
        return x.astype(np.float32) / 255
    if x.dtype.kind in "biu":
        raise ValueError(f"pixels of type {x.dtype}; uint8 in 0..255 or floats in 0..1 are needed")
    return x


def _digits(data_dir: str | Path | None, seed: int) -> Images:
    from sklearn.datasets import load_digits

    source = load_digits()
    arrays = {"x": (source.images / 16).astype(np.float32)[..., None], "y": source.target.astype(np.int32)}
    train, test = split(arrays, 0.2, seed, stratify="y")
    return _described("digits", train, test, DIGITS, "scikit-learn's, split at random by the seed")


def _glyphs(data_dir: str | Path | None, seed: int) -> Images:
    glyphs = render_glyphs()  # [F, N, H, W]
    order = np.random.default_rng(seed).permutation(len(FONTS))
    held_out, kept = np.sort(order[:TEST_FONTS]), np.sort(order[TEST_FONTS:])

    def part(fonts: np.ndarray) -> dict[str, np.ndarray]:
        labels = np.tile(np.arange(len(CHARACTERS), dtype=np.int32), len(fonts))
        return {"x": glyphs[fonts].reshape(-1, *glyphs.shape[2:], 1), "y": labels}

    test_fonts = ", ".join(FONTS[i] for i in held_out)
    source = f"{len(FONTS)} fonts of matplotlib, held out for testing: {test_fonts}"
    return _described("glyphs", part(kept), part(held_out), tuple(CHARACTERS), source)


def _idx(name: str, classes: tuple[str, ...]) -> Callable[[str | Path | None, int], Images]:
    def load(data_dir: str | Path | None, seed: int) -> Images:
        train, test, paths, original = read_mnist(data_dir, name)
        source = f"{paths[0].parent}{'' if original else '; not the original files'}"
        return _described(name, train, test, classes, source)

    return load


def _usps(data_dir: str | Path | None, seed: int) -> Images:
    train, test, paths = read_usps(data_dir)
    return _described("usps", train, test, DIGITS, " and ".join(map(str, paths)))


def _cifar10(data_dir: str | Path | None, seed: int) -> Images:
    train, test, names, paths = read_cifar10(data_dir)
    source = f"{', '.join(path.name for path in paths)} in {paths[0].parent}"
    return _described("cifar10", train, test, names, source, full=CIFAR10_TRAINING_IMAGES)


def _described(
    name: str,
    train: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    names: tuple[str, ...],
    source: str,
    full: int = 0,
) -> Images:
    count, shape = len(train["y"]), "x".join(map(str, train["x"].shape[1:]))
    part = f"{count:,} of {full:,}" if count < full else f"{count:,}"
    note = f"{name}: {part} training images, {len(test['y']):,} test images, {shape}, {len(names)} classes ({source})"
    return Images(train, test, names, note)


LOADERS: dict[str, Callable[[str | Path | None, int], Images]] = {
    "digits": _digits,
    "glyphs": _glyphs,
    "mnist": _idx("mnist", DIGITS),
    "fashion_mnist": _idx("fashion_mnist", CLOTHES),
    "usps": _usps,
    "cifar10": _cifar10,
}
IMAGE_SETS = tuple(LOADERS)
