"""Reads a folder that has one folder of images for each class into arrays."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdl.data.errors import DataError, MissingData, shown, some
from jaxdl.data.files import plain
from jaxdl.data.image_files import KINDS, is_image, read_files
from jaxdl.data.images import Images, counted
from jaxdl.data.splits import check_fraction, hold_out, split

TEST_FRACTION = 0.2
VALIDATION_FOLDERS = ("valid", "val")  # the first that exists

Part = tuple[list[Path], np.ndarray]  # N files and their classes, int [N]


class Classes(NamedTuple):
    """The content of a folder of class folders."""

    files: list[Path]  # N
    y: np.ndarray  # int32 [N]
    names: tuple[str, ...]
    strays: list[Path]  # files without an image extension


class Labelled(NamedTuple):
    """Images and their classes, x uint8 [N, H, W, C] and y int32 [N], and one line that describes them."""

    arrays: dict[str, np.ndarray]
    note: str


def load_folder(
    path: str | Path | None, size: int | Sequence[int] | None = None, *, seed: int = 0, valid: float = 0.1
) -> Images:
    """Loads images from class folders: path/train/CLASS/*.png and path/test/CLASS/*.png, or path/CLASS/*.png alone.

    Without ``train`` and ``test``, the seed draws a fifth of the images for testing, stratified by class. A folder
    ``valid`` or ``val`` next to ``train`` and ``test`` is the validation part; without one, it is drawn from the
    training images, stratified by class as far as its size allows.
    Classes are the sorted names of the folders. The images have 1 channel if all files are grey (by their format, not
    by their colours), else 3. The EXIF orientation is applied, transparent pixels are composited on white, 16-bit
    pixels keep their upper 8 bits, and of several frames the first is read. Hidden files and folders are ignored, and
    so are files without an image extension, which the note lists.

    Args:
      path: the folder.
      size: side in pixels, or (H, W), of the resulting images: each is scaled, keeping its aspect ratio, until it
        covers the size, and its centre is cropped. None: unchanged, all of one size.
      seed: seed of the split; the validation part uses a generator of its own, derived from it.
      valid: fraction of the training images held out for validation, in [0, 1), if there is no folder for it; 0: no
        validation part.

    Returns:
      Images with uint8 pixels [N, H, W, C].

    Raises:
      MissingData: the folder is not given or does not exist.
      DataError: the layout is another one, images cannot be read or differ in size (the first 20 are listed), or
        there are too few images for a validation part; one line that names the files or the folder.
      ValueError: size is below 1, or valid outside [0, 1).
    """
    check_fraction(valid)
    if not path:
        raise MissingData("images are read from a folder of class folders: set --data_dir or JAXDL_DATA_DIR to it")
    root = Path(path)
    if not root.exists():
        raise MissingData(f"{root}: no such folder; give the folder that holds one folder of images for each class")
    parts = _parts(root)
    if parts:
        return _given_parts(root, parts, size, seed, valid)
    files, y, names, strays = _classes(root)
    counts = np.bincount(y)
    if counts.min() < 2:
        single = root / names[int(counts.argmin())]
        raise DataError(f"{single}: contains only one image; at least two are needed, one to train and one to test")
    held_out = math.ceil(TEST_FRACTION * len(y))
    if held_out < len(names):
        raise DataError(
            f"{root}: {len(y)} images of {len(names)} classes; the test part, a fifth of them ({held_out}), cannot "
            "contain every class; add images, or sort them into train/ and test/"
        )
    rest, test = split({"file": np.array(files), "y": y}, TEST_FRACTION, seed, stratify="y")
    train, validation = _hold_out(_part(rest), valid, seed, root)
    drawn = f" and {valid:g} of the rest for validation" if valid else ""
    source = f"a fifth of each class held out for testing{drawn}, seed {seed}"
    return _images(root, train, validation, _part(test), names, size, source, strays)


def load_labelled(path: str | Path, names: Sequence[str], shape: Sequence[int]) -> Labelled:
    """Loads all images of class folders for a trained model, in the shape of its training images.

    Reads path/test/CLASS if there is a folder ``test``, with or without ``train``, else path/CLASS. Not all classes of
    the model need a folder.

    Args:
      path: the folder.
      names: the model's classes: y indexes them.
      shape: (H, W, C) of the model's images, as for `read_images`.

    Raises:
      MissingData: the folder does not exist.
      DataError: the model does not have a class, there is ``train`` without ``test``, or as for `load_folder`.
    """
    root = Path(path)
    if not root.exists():
        raise MissingData(f"{root}: no such folder; give the folder that holds one folder of images for each class")
    parts = _parts(root)
    if parts and parts[-1].name != "test":
        raise DataError(f"{root}: has train/ but no test/; pass {parts[0]} to evaluate on the training images")
    folder = parts[-1] if parts else root
    files, y, own, strays = _classes(folder, least=1)
    y = _among(own, tuple(names), folder, "the model")[y]
    x, converted = read_files(files, shape[:2], shape[2], folder)
    source = f"all images of {'test/' if parts else 'the folder'}" + _said(converted, strays, root)
    counts = _counts(np.bincount(y, minlength=len(names)), names)
    classes = "1 class" if len(own) == 1 else f"{len(own)} classes"
    note = f"{folder}: {len(y):,} images, {'x'.join(map(str, shape))}, of {classes}: {counts} ({source})"
    return Labelled({"x": x, "y": y}, shown(note))


def read_images(files: Iterable[str | Path], shape: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """Reads images for a trained model, in the shape of its training images, as `load_folder` does.

    Args:
      files: images, or folders of images.
      shape: (H, W, C) of the training images; C is 1 (colours become grey) or 3.

    Returns:
      (the path of each image, as `shown`; uint8 [N, H, W, C]).

    Raises:
      MissingData: a file does not exist.
      DataError: there are no images, or files are not images or cannot be read (the first 20 are listed).
    """
    height, width, channels = shape
    paths: list[Path] = []
    for file in map(Path, files):
        if file.is_dir():
            paths += _images_in(file)[0]
        elif file.exists():
            with plain(file):  # opened to fail before any image is decoded
                paths.append(file)
        else:
            raise MissingData(f"{file}: no such file; give images, or folders of them")
    if not paths:
        raise DataError("no image files given; give images, or folders of them")
    return list(map(shown, paths)), read_files(paths, (height, width), channels)[0]


def _parts(root: Path) -> list[Path]:
    """Returns [train/], [test/] or [train/, test/] if a folder holds such parts; [] if its folders are classes."""
    parts = [root / name for name in ("train", "test") if (root / name).is_dir()]
    split_up = len(parts) == 2 or (parts and any(entry.is_dir() for entry in _entries(parts[0])))
    return parts if split_up else []  # [] for a class that is called "train"


def _given_parts(root: Path, parts: list[Path], size: int | Sequence[int] | None, seed: int, valid: float) -> Images:
    entries = _entries(root)
    folders = [entry for entry in entries if entry.is_dir()]
    if len(parts) == 1:
        others = [f"{folder.name}/" for folder in folders if folder not in parts]
        lacking = "test" if parts[0].name == "train" else "train"
        found = f" (other folders: {some(others)})" if others else ""
        raise DataError(f"{root}: has {parts[0].name}/ but no {lacking}/; both are needed, or neither{found}")
    train_folder, test_folder = parts
    files, y, names, strays = _classes(train_folder)
    train, test = (files, y), _labelled_as(names, test_folder, strays)
    own = [root / name for name in VALIDATION_FOLDERS if valid and root / name in folders][:1]
    if own:
        held_out: Part | None = _labelled_as(names, own[0], strays)
        source = f"parts from train/, {own[0].name}/ and test/"
    else:
        train, held_out = _hold_out(train, valid, seed, train_folder)
        source = "parts from train/ and test/"
        source += f", {valid:g} of train/ held out for validation, seed {seed}" if valid else ""
    untested = [names[c] for c in np.setdiff1d(np.arange(len(names)), test[1])]
    source += f"; no test images of {some(untested)}" if untested else ""
    return _images(root, train, held_out, test, names, size, source, _without(entries, [*parts, *own]) + strays)


def _hold_out(part: Part, valid: float, seed: int, source: Path) -> tuple[Part, Part | None]:
    files, y = part
    train, held_out = hold_out({"file": np.array(files), "y": y}, valid, seed, str(source), stratify="y")
    return _part(train), None if held_out is None else _part(held_out)


def _part(arrays: dict[str, np.ndarray]) -> Part:
    return list(arrays["file"]), arrays["y"]


def _labelled_as(names: tuple[str, ...], folder: Path, strays: list[Path]) -> Part:
    """Returns the images of a part next to train/, with the labels of train/; adds its stray files to `strays`."""
    files, y, own, other = _classes(folder)
    strays += other
    return files, _among(own, names, folder, "train/")[y]


def _among(own: Sequence[str], names: tuple[str, ...], folder: Path, owner: str) -> np.ndarray:
    """Returns the index in `names` of each of a folder's own classes, int32."""
    classes = {name: c for c, name in enumerate(names)}
    if unknown := [name for name in own if name not in classes]:
        raise DataError(f"{folder / unknown[0]}: {owner} has no class of this name; its classes are {some(names)}")
    return np.array([classes[name] for name in own], np.int32)


def _images(
    root: Path,
    train: Part,
    valid: Part | None,
    test: Part,
    names: tuple[str, ...],
    size: int | Sequence[int] | None,
    source: str,
    unread: list[Path],
) -> Images:
    """Reads all parts with one shape and one number of channels."""
    parts = [train, valid or ([], np.zeros(0, np.int32)), test]
    counts = [len(y) for _, y in parts]
    x, converted = read_files([file for files, _ in parts for file in files], size, root=root)
    pixels = np.split(x, np.cumsum(counts)[:-1])
    made = [{"x": part, "y": y.astype(np.int32)} for part, (_, y) in zip(pixels, parts, strict=True)]
    source += "" if size is None else "; scaled and cropped to this size"
    source += _said(converted, unread, root)
    classes = _counts(np.bincount(np.concatenate([y for _, y in parts]), minlength=len(names)), names)
    sizes = "x".join(map(str, x.shape[1:]))
    note = f"{root}: {counted(*counts)} images, {sizes}, {len(names)} classes: {classes} ({source})"
    return Images(made[0], made[1] if valid else None, made[2], names, shown(note), shown(root), original=True)


def _counts(counts: np.ndarray, names: Sequence[str]) -> str:
    """Returns the classes that have images, with their counts, as text."""
    return some([f"{some([name])} {n:,}" for name, n in zip(names, counts, strict=True) if n])


def _said(converted: str, unread: Sequence[Path], root: Path) -> str:
    """Returns the note's part on converted images and on files and folders that were not read."""
    names = [f"{path.relative_to(root)}{'/' if path.is_dir() else ''}" for path in sorted(unread)]
    return (f"; converted: {converted}" if converted else "") + (f"; ignored: {some(names)}" if names else "")


def _classes(root: Path, least: int = 2) -> Classes:
    """Returns the content of a folder with at least `least` class folders."""
    entries = _entries(root)
    folders = [entry for entry in entries if entry.is_dir()]
    strays = _without(entries, folders)
    for entry in strays:
        if is_image(entry):
            raise DataError(f"{entry}: is an image outside of class folders; put images into one folder per class")
    for folder in folders:
        if shown(folder.name) != folder.name:  # class names are stored as JSON
            raise DataError(f"{folder}: the name of this class folder is not UTF-8; rename it")
    if len(folders) < least:
        found = f"only the class folder {folders[0].name!r}" if folders else "no class folders"
        needed = "at least two folders of images are needed" if least == 2 else "a folder of images is needed"
        raise DataError(f"{root}: contains {found}; {needed}, one for each class")
    files = []
    for folder in folders:
        images, others = _images_in(folder)
        files.append(images)
        strays += others
    y = np.repeat(np.arange(len(files), dtype=np.int32), [len(part) for part in files])
    return Classes([file for part in files for file in part], y, tuple(folder.name for folder in folders), strays)


def _images_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the files with an image extension, and the other files."""
    entries = _entries(folder)
    for entry in entries:
        if entry.is_dir():  # not searched: deep trees and links to a parent folder would make labels unclear
            raise DataError(f"{entry}: is a folder inside a folder of images; move its images one folder up, or away")
    images = [entry for entry in entries if is_image(entry)]
    others = _without(entries, images)
    if not images:
        found = f"no images, only {some([other.name for other in others])}" if others else "no images"
        raise DataError(f"{folder}: contains {found}; put {KINDS} files into it or remove it")
    return images, others


def _without(paths: Sequence[Path], some_of_them: Iterable[Path]) -> list[Path]:
    left_out = set(some_of_them)
    return [path for path in paths if path not in left_out]


def _entries(folder: Path) -> list[Path]:
    """Returns what a folder contains, except hidden files, sorted by name."""
    try:
        return sorted(p for p in folder.iterdir() if p.name[0] != ".")
    except OSError as e:
        raise DataError(f"{folder}: cannot be read ({e.strerror or e}); expected a folder") from e
