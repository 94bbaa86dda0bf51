"""A folder with one folder of PNG or JPEG images for each class -> arrays."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.errors import DataError, MissingData, shown, some
from jaxdl.data.files import limit, plain
from jaxdl.data.images import Images, counted
from jaxdl.data.splits import check_fraction, hold_out, split

ENDINGS = (".png", ".jpg", ".jpeg")
LITTER = ("thumbs.db", "desktop.ini")  # what file managers leave behind; hidden files are passed over as well
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")  # Pillow's modes of one channel, with or without alpha
TEST_FRACTION = 0.2
LIMIT = 1 << 34  # bytes of one array of pixels
MAX_BYTES = "JAXDL_MAX_IMAGE_BYTES"  # the variable that raises it
SUGGESTED = 256  # the largest size that an error proposes
BAR = 2000  # files from which on a progress bar is worth its line
VALIDATION_FOLDERS = ("valid", "val")  # the first that is there

Part = tuple[list[Path], np.ndarray]  # N files and their classes, int [N]


def load_folder(
    path: str | Path | None, size: int | Sequence[int] | None = None, *, seed: int = 0, valid: float = 0.1
) -> Images:
    """Loads images from class folders: path/train/CLASS/*.png and path/test/CLASS/*.png, or path/CLASS/*.png alone.

    Without ``train`` and ``test`` the seed chooses a fifth of the images for testing, the classes in equal shares. A
    folder ``valid`` or ``val`` beside ``train`` and ``test`` is the validation part; else it is drawn from the training
    images, the classes in equal shares as far as it has room for them.
    Classes are the names of the folders, sorted. The images have 1 channel if all files are grey (by their format, not
    by their colours), else 3. They are turned as their EXIF orientation says; what is transparent is laid on white;
    16 bits become the upper 8. Hidden files and folders are passed over.

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
      DataError: folders that are laid out otherwise, other files among the images, images that cannot be read or whose
        sizes differ, too few images for a validation part; one line that names the file or folder.
      ValueError: a size below 1, valid outside [0, 1).
    """
    check_fraction(valid)
    if not path:
        raise MissingData("images are read from a folder of class folders: set --data_dir or JAXDL_DATA_DIR to it")
    root = Path(path)
    if not root.exists():
        raise MissingData(f"{root}: no such folder; give the folder that holds one folder of images for each class")
    folders = [entry for entry in _entries(root) if entry.is_dir()]
    parts = [folder for folder in folders if folder.name in ("train", "test")]
    if len(parts) == 2 or (parts and any(entry.is_dir() for entry in _entries(parts[0]))):  # else a class "train"
        return _given_parts(root, parts, folders, size, seed, valid)
    files, y, names = _classes(root)
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
    return _images(root, train, validation, _part(test), names, size, source)


def read_images(files: Iterable[str | Path], shape: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """Reads images for a model that was trained on others: brought to their shape as `load_folder` brings them.

    Args:
      files: PNG or JPEG files; a folder stands for the images in it.
      shape: (H, W, C) of the training images; C is 1 or 3, and colours become grey where it is 1.

    Returns:
      (the path of each image, as `shown`; uint8 [N, H, W, C]).

    Raises:
      MissingData: no such file.
      DataError: no images, files that are not images, images that cannot be read.
    """
    height, width, channels = shape
    paths: list[Path] = []
    for file in map(Path, files):
        if file.is_dir():
            paths += _images_in(file)
        elif file.exists():
            with plain(file):  # before others are read
                paths.append(file)
        else:
            raise MissingData(f"{file}: no such file; give PNG or JPEG images, or folders of them")
    if not paths:
        raise DataError("no image files are given; name PNG or JPEG files, or folders of them")
    return list(map(shown, paths)), _read(paths, (height, width), channels)


def _given_parts(
    root: Path, parts: list[Path], folders: list[Path], size: int | Sequence[int] | None, seed: int, valid: float
) -> Images:
    if len(parts) == 1:
        beside = [f"{folder.name}/" for folder in folders if folder not in parts]
        lacking = "test" if parts[0].name == "train" else "train"
        found = f" (but {some(beside)})" if beside else ""
        raise DataError(f"{root}: has {parts[0].name}/ with class folders but no such {lacking}/{found}; both or none")
    test_folder, train_folder = parts
    files, y, names = _classes(train_folder)
    train, test = (files, y), _labelled_as(names, test_folder)
    own = [root / name for name in VALIDATION_FOLDERS if valid and root / name in folders][:1]
    if own:
        held_out: Part | None = _labelled_as(names, own[0])
        source = f"train/, {own[0].name}/ and test/ as they are"
    else:
        train, held_out = _hold_out(train, valid, seed, train_folder)
        source = "train/ and test/ as they are"
        source += f", but {valid:g} of train/ for validation, seed {seed}" if valid else ""
    untested = [names[c] for c in np.setdiff1d(np.arange(len(names)), test[1])]
    source += f"; no test images of {some(untested)}" if untested else ""
    unread = [f"{folder.name}/" for folder in folders if folder not in [*parts, *own]]
    source += f"; not read: {some(unread)}" if unread else ""
    return _images(root, train, held_out, test, names, size, source)


def _hold_out(part: Part, valid: float, seed: int, source: Path) -> tuple[Part, Part | None]:
    files, y = part
    train, held_out = hold_out({"file": np.array(files), "y": y}, valid, seed, str(source), stratify="y")
    return _part(train), None if held_out is None else _part(held_out)


def _part(arrays: dict[str, np.ndarray]) -> Part:
    return list(arrays["file"]), arrays["y"]


def _labelled_as(names: tuple[str, ...], folder: Path) -> Part:
    """The images of a part beside train/, labelled with the classes of train/."""
    files, y, own = _classes(folder)
    classes = {name: c for c, name in enumerate(names)}
    if unknown := [name for name in own if name not in classes]:
        raise DataError(f"{folder / unknown[0]}: a class that train/ lacks; it has {some(names)}")
    return files, np.array([classes[name] for name in own], np.int32)[y]


def _images(
    root: Path,
    train: Part,
    valid: Part | None,
    test: Part,
    names: tuple[str, ...],
    size: int | Sequence[int] | None,
    source: str,
) -> Images:
    """Reads all parts, to one shape and one number of channels."""
    parts = [train, valid or ([], np.zeros(0, np.int32)), test]
    counts = [len(y) for _, y in parts]
    x = _read([file for files, _ in parts for file in files], size)
    pixels = np.split(x, np.cumsum(counts)[:-1])
    made = [{"x": part, "y": y.astype(np.int32)} for part, (_, y) in zip(pixels, parts, strict=True)]
    source += "" if size is None else "; scaled and cut to this size"
    note = f"{root}: {counted(*counts)} images, {'x'.join(map(str, x.shape[1:]))}, {len(names)} classes ({source})"
    return Images(made[0], made[1] if valid else None, made[2], names, shown(note), shown(root), original=True)


def _classes(root: Path) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """(files, y int32 [N], class names) of a folder of class folders."""
    entries = _entries(root)
    for entry in entries:
        if not entry.is_dir():
            image = entry.suffix.lower() in ENDINGS
            right = "put images into one folder for each class" if image else "only class folders belong here"
            raise DataError(f"{entry}: a file beside the class folders; {right}")
        if shown(entry.name) != entry.name:  # a model's classes are kept as JSON
            raise DataError(f"{entry}: a class folder whose name is not UTF-8; rename it")
    if len(entries) < 2:
        found = f"the one class folder {entries[0].name!r}" if entries else "no class folders"
        raise DataError(f"{root}: holds {found}; at least two folders of images are needed, one for each class")
    files = [_images_in(folder) for folder in entries]
    y = np.repeat(np.arange(len(files), dtype=np.int32), [len(part) for part in files])
    return [file for part in files for file in part], y, tuple(folder.name for folder in entries)


def _images_in(folder: Path) -> list[Path]:
    entries = _entries(folder)
    for entry in entries:
        if entry.is_dir():  # not entered: neither deep trees nor links to a folder above make labels clear
            raise DataError(f"{entry}: a folder inside a folder of images; put its images into the one above, or away")
        if entry.suffix.lower() not in ENDINGS:
            raise DataError(f"{entry}: not a PNG or JPEG by its name; convert it or take it away")
        if not entry.is_file():
            raise DataError(f"{entry}: a link that leads nowhere, or no file of data; take it away")
    if not entries:
        raise DataError(f"{folder}: holds no images; put PNG or JPEG files into it or take it away")
    return entries


def _entries(folder: Path) -> list[Path]:
    """What is in a folder and counts, sorted by name."""
    try:
        return sorted(p for p in folder.iterdir() if p.name[0] != "." and p.name.lower() not in LITTER)
    except OSError as e:
        raise DataError(f"{folder}: cannot be read as a folder ({e.strerror or e}); a folder is needed") from e


def _read(files: Sequence[Path], size: int | Sequence[int] | None, channels: int = 0) -> np.ndarray:
    """uint8 [N, H, W, C]; without a size that of the first file, without channels 1 if all are grey, else 3."""
    from tqdm import tqdm

    shape = None if size is None else (size, size) if isinstance(size, int) else (size[0], size[1])
    if shape and min(shape) < 1:
        raise ValueError(f"size={size} must be at least 1")
    bar = tqdm(files, "reading", unit=" images", leave=False, disable=None if len(files) > BAR else True)
    headers = [] if channels else [_header(file) for file in files]
    channels = channels or (1 if all(mode in GREY for _, mode in headers) else 3)
    pixels: Any = None  # filled in place: a second copy of large pictures may not fit
    for i, file in enumerate(bar):
        image = _pixels(file, shape, channels)
        if pixels is None:
            need, most = len(files) * image.size, limit(MAX_BYTES, LIMIT)
            if need > most:
                raise DataError(
                    f"{file}: {len(files):,} images of {_side(image)} are {need:,} bytes, at most {most:,} are read; "
                    f"make them smaller, --image_size={SUGGESTED} for example, or set {MAX_BYTES}={need}"
                )
            pixels = np.empty((len(files), *image.shape), np.uint8)
        if image.shape != pixels.shape[1:]:
            side = min(SUGGESTED, int(np.median([min(size) for size, _ in headers])))
            raise DataError(
                f"{file}: is {_side(image)}, but {files[0]} is {_side(pixels[0])}; --image_size={side} would scale and "
                f"cut all to {side}x{side} (--image_size=N: to NxN)"
            )
        pixels[i] = image
    return pixels


def _side(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"  # width first, as every image program says it


def _header(file: Path) -> tuple[tuple[int, int], str]:
    """((width, height), mode), pixels unread."""
    with _image(file) as image:
        return image.size, image.mode


def _pixels(file: Path, shape: tuple[int, int] | None, channels: int) -> np.ndarray:
    """uint8 [H, W, C]."""
    from PIL import Image, ImageOps

    with _image(file) as image:
        if shape:  # JPEG can be decoded at 1/2, 1/4 or 1/8: a photograph of 12 megapixels in a fifth of the time
            image.draft(None, (2 * max(shape), 2 * max(shape)))
        upright: Any = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        upright = upright.convert("L" if channels == 1 else "RGB")
        if shape:
            upright = ImageOps.fit(upright, (shape[1], shape[0]), Image.Resampling.BILINEAR)
        return np.asarray(upright).reshape(upright.height, upright.width, channels)


@contextmanager
def _image(file: Path) -> Iterator[Any]:
    from PIL import Image, UnidentifiedImageError

    with plain(file) as raw:
        try:
            with warnings.catch_warnings(action="ignore"):
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(raw, formats=("PNG", "JPEG")) as image:
                    yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as e:
            right = f"at most {Image.MAX_IMAGE_PIXELS:,} are read: make it smaller or take it away"
            raise DataError(f"{file}: says that it has more pixels than a picture does; {right}") from e
        except UnidentifiedImageError as e:
            inside = "its content is not PNG or JPEG, whatever its name says" if raw.seek(0, 2) else "is empty"
            raise DataError(f"{file}: {inside}; convert it or take it away") from e
        except Exception as e:  # Pillow's decoders raise a dozen kinds, SyntaxError among them
            problem = " ".join(str(e).split())
            raise DataError(f"{file}: cannot be read ({problem}); copy it again or take it away") from e
