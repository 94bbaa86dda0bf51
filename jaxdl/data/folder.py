"""A folder with one folder of images for each class -> arrays."""

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
VALIDATION_FOLDERS = ("valid", "val")  # the first that is there

Part = tuple[list[Path], np.ndarray]  # N files and their classes, int [N]


class Classes(NamedTuple):
    """What a folder of class folders holds."""

    files: list[Path]  # N
    y: np.ndarray  # int32 [N]
    names: tuple[str, ...]
    strays: list[Path]  # files that are no images by their names


class Labelled(NamedTuple):
    """Images and their classes: x uint8 [N, H, W, C] and y int32 [N], and one line that says what was read."""

    arrays: dict[str, np.ndarray]
    note: str


def load_folder(
    path: str | Path | None, size: int | Sequence[int] | None = None, *, seed: int = 0, valid: float = 0.1
) -> Images:
    """Loads images from class folders: path/train/CLASS/*.png and path/test/CLASS/*.png, or path/CLASS/*.png alone.

    Without ``train`` and ``test`` the seed chooses a fifth of the images for testing, the classes in equal shares. A
    folder ``valid`` or ``val`` beside ``train`` and ``test`` is the validation part; else it is drawn from the training
    images, the classes in equal shares as far as it has room for them.
    Classes are the names of the folders, sorted. The images have 1 channel if all files are grey (by their format, not
    by their colours), else 3. They are turned as their EXIF orientation says; what is transparent is laid on white;
    16 bits become the upper 8; of several frames the first counts. Hidden files and folders are passed over, and so are
    files that are no images by their names, which the note lists.

    Args:
      path: the folder.
      size: pixels of a side, or (H, W), to which every image is brought, its proportions kept: scaled until it covers
        the size, then the middle is cut out. None: as they are, all of one size.
      seed: of the split; for the validation part a generator of its own is made of it.
      valid: the part of the training images that is held out as the validation part, in [0, 1), where it has no folder;
        0: no validation part.

    Returns:
      Images with uint8 pixels [N, H, W, C].

    Raises:
      MissingData: no folder is given or there.
      DataError: folders that are laid out otherwise, images that cannot be read or whose sizes differ (the first 20
        are listed), too few images for a validation part; one line that names the files or the folder.
      ValueError: a size below 1, valid outside [0, 1).
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
        raise DataError(f"{single}: holds one image; at least two are needed, one to train and one to test")
    held_out = math.ceil(TEST_FRACTION * len(y))
    if held_out < len(names):
        raise DataError(
            f"{root}: {len(y)} images of {len(names)} classes; a fifth of them, {held_out}, cannot test every class: "
            "add images, or make train/ and test/"
        )
    rest, test = split({"file": np.array(files), "y": y}, TEST_FRACTION, seed, stratify="y")
    train, validation = _hold_out(_part(rest), valid, seed, root)
    drawn = f", then {valid:g} of the rest for validation" if valid else ""
    source = f"a fifth of each class held out for testing{drawn}, seed {seed}"
    return _images(root, train, validation, _part(test), names, size, source, strays)


def load_labelled(path: str | Path, names: Sequence[str], shape: Sequence[int]) -> Labelled:
    """Loads all images of class folders for a model that was trained on others, brought to their shape.

    Where the folder has ``test``, with or without ``train``, those are the images of path/test/CLASS, else all of
    path/CLASS. The class folders may be some of the model's classes.

    Args:
      path: the folder.
      names: the model's classes: y indexes them.
      shape: (H, W, C) of its images, as for `read_images`.

    Raises:
      MissingData: no such folder.
      DataError: a class that the model does not know, no ``test`` beside ``train``, and as for `load_folder`.
    """
    root = Path(path)
    if not root.exists():
        raise MissingData(f"{root}: no such folder; give the folder that holds one folder of images for each class")
    parts = _parts(root)
    if parts and parts[-1].name != "test":
        raise DataError(f"{root}: has train/ but no such test/; name {parts[0]} to be scored on the images of training")
    folder = parts[-1] if parts else root
    files, y, own, strays = _classes(folder, least=1)
    y = _among(own, tuple(names), folder, "the model")[y]
    x, converted = read_files(files, shape[:2], shape[2], folder)
    source = f"all of {'test/' if parts else 'the folder'}" + _said(converted, strays, root)
    counts = _counts(np.bincount(y, minlength=len(names)), names)
    classes = "1 class" if len(own) == 1 else f"{len(own)} classes"
    note = f"{folder}: {len(y):,} images, {'x'.join(map(str, shape))}, of {classes}: {counts} ({source})"
    return Labelled({"x": x, "y": y}, shown(note))


def read_images(files: Iterable[str | Path], shape: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """Reads images for a model that was trained on others: brought to their shape as `load_folder` brings them.

    Args:
      files: images; a folder stands for the images in it.
      shape: (H, W, C) of the training images; C is 1 or 3, and colours become grey where it is 1.

    Returns:
      (the path of each image, as `shown`; uint8 [N, H, W, C]).

    Raises:
      MissingData: no such file.
      DataError: no images, files that are not images, images that cannot be read: the first 20 are listed.
    """
    height, width, channels = shape
    paths: list[Path] = []
    for file in map(Path, files):
        if file.is_dir():
            paths += _images_in(file)[0]
        elif file.exists():
            with plain(file):  # before others are read
                paths.append(file)
        else:
            raise MissingData(f"{file}: no such file; give images, or folders of them")
    if not paths:
        raise DataError("no image files are given; name images, or folders of them")
    return list(map(shown, paths)), read_files(paths, (height, width), channels)[0]


def _parts(root: Path) -> list[Path]:
    """[train/], [test/] or [train/, test/] of a folder that holds such parts; [] if its folders are classes."""
    parts = [root / name for name in ("train", "test") if (root / name).is_dir()]
    split_up = len(parts) == 2 or (parts and any(entry.is_dir() for entry in _entries(parts[0])))
    return parts if split_up else []  # else a class that is called "train"


def _given_parts(root: Path, parts: list[Path], size: int | Sequence[int] | None, seed: int, valid: float) -> Images:
    entries = _entries(root)
    folders = [entry for entry in entries if entry.is_dir()]
    if len(parts) == 1:
        beside = [f"{folder.name}/" for folder in folders if folder not in parts]
        lacking = "test" if parts[0].name == "train" else "train"
        found = f" (but {some(beside)})" if beside else ""
        raise DataError(f"{root}: has {parts[0].name}/ with class folders but no such {lacking}/{found}; both or none")
    train_folder, test_folder = parts
    files, y, names, strays = _classes(train_folder)
    train, test = (files, y), _labelled_as(names, test_folder, strays)
    own = [root / name for name in VALIDATION_FOLDERS if valid and root / name in folders][:1]
    if own:
        held_out: Part | None = _labelled_as(names, own[0], strays)
        source = f"train/, {own[0].name}/ and test/ as they are"
    else:
        train, held_out = _hold_out(train, valid, seed, train_folder)
        source = "train/ and test/ as they are"
        source += f", but {valid:g} of train/ for validation, seed {seed}" if valid else ""
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
    """The images of a part beside train/, labelled with the classes of train/; its stray files are added."""
    files, y, own, other = _classes(folder)
    strays += other
    return files, _among(own, names, folder, "train/")[y]


def _among(own: Sequence[str], names: tuple[str, ...], folder: Path, owner: str) -> np.ndarray:
    """int32: which of `names` each of a folder's own classes is."""
    classes = {name: c for c, name in enumerate(names)}
    if unknown := [name for name in own if name not in classes]:
        raise DataError(f"{folder / unknown[0]}: a class that {owner} lacks; it has {some(names)}")
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
    """Reads all parts, to one shape and one number of channels."""
    parts = [train, valid or ([], np.zeros(0, np.int32)), test]
    counts = [len(y) for _, y in parts]
    x, converted = read_files([file for files, _ in parts for file in files], size, root=root)
    pixels = np.split(x, np.cumsum(counts)[:-1])
    made = [{"x": part, "y": y.astype(np.int32)} for part, (_, y) in zip(pixels, parts, strict=True)]
    source += "" if size is None else "; scaled and cut to this size"
    source += _said(converted, unread, root)
    classes = _counts(np.bincount(np.concatenate([y for _, y in parts]), minlength=len(names)), names)
    sizes = "x".join(map(str, x.shape[1:]))
    note = f"{root}: {counted(*counts)} images, {sizes}, {len(names)} classes: {classes} ({source})"
    return Images(made[0], made[1] if valid else None, made[2], names, shown(note), shown(root), original=True)


def _counts(counts: np.ndarray, names: Sequence[str]) -> str:
    """The classes that have images, with their counts."""
    return some([f"{some([name])} {n:,}" for name, n in zip(names, counts, strict=True) if n])


def _said(converted: str, unread: Sequence[Path], root: Path) -> str:
    """What a note says of images that were changed, and of files and folders that were not read."""
    names = [f"{path.relative_to(root)}{'/' if path.is_dir() else ''}" for path in sorted(unread)]
    return (f"; converted: {converted}" if converted else "") + (f"; not read: {some(names)}" if names else "")


def _classes(root: Path, least: int = 2) -> Classes:
    """What a folder of class folders holds, of which there are `least` or more."""
    entries = _entries(root)
    folders = [entry for entry in entries if entry.is_dir()]
    strays = _without(entries, folders)
    for entry in strays:
        if is_image(entry):
            raise DataError(f"{entry}: an image beside the class folders; put images into one folder for each class")
    for folder in folders:
        if shown(folder.name) != folder.name:  # a model's classes are kept as JSON
            raise DataError(f"{folder}: a class folder whose name is not UTF-8; rename it")
    if len(folders) < least:
        found = f"the one class folder {folders[0].name!r}" if folders else "no class folders"
        needed = "at least two folders of images are needed" if least == 2 else "a folder of images is needed"
        raise DataError(f"{root}: holds {found}; {needed}, one for each class")
    files = []
    for folder in folders:
        images, others = _images_in(folder)
        files.append(images)
        strays += others
    y = np.repeat(np.arange(len(files), dtype=np.int32), [len(part) for part in files])
    return Classes([file for part in files for file in part], y, tuple(folder.name for folder in folders), strays)


def _images_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """What are images by their names, and the other files."""
    entries = _entries(folder)
    for entry in entries:
        if entry.is_dir():  # not entered: neither deep trees nor links to a folder above make labels clear
            raise DataError(f"{entry}: a folder inside a folder of images; put its images into the one above, or away")
    images = [entry for entry in entries if is_image(entry)]
    others = _without(entries, images)
    if not images:
        found = f"no images but {some([other.name for other in others])}" if others else "no images"
        raise DataError(f"{folder}: holds {found}; put {KINDS} files into it or take it away")
    return images, others


def _without(paths: Sequence[Path], some_of_them: Iterable[Path]) -> list[Path]:
    left_out = set(some_of_them)
    return [path for path in paths if path not in left_out]


def _entries(folder: Path) -> list[Path]:
    """What is in a folder and counts, sorted by name."""
    try:
        return sorted(p for p in folder.iterdir() if p.name[0] != ".")
    except OSError as e:
        raise DataError(f"{folder}: cannot be read as a folder ({e.strerror or e}); a folder is needed") from e
