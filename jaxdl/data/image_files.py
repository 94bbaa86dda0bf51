"""Reads image files into one array; all files that cannot be used are reported in one error."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jaxdl.data.errors import DataError, MissingData
from jaxdl.data.files import limit, plain

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # the only ones tried, whatever Pillow supports
KINDS = "PNG, JPEG, WebP, BMP, GIF or TIFF"
ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    # other image formats: an error is better than skipping them
    *(".apng", ".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dib", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif"),
    *(".ico", ".j2k", ".jp2", ".jxl", ".nef", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".svg", ".tga", ".xcf"),
)
WIDE = ("I", "I;16", "I;16B", "I;16L")  # Pillow's 16-bit modes
GREY = ("1", "L", "LA", "La", *WIDE)  # modes of one channel, with or without alpha
NAMED = {"1": "1-bit", "P": "palette", "PA": "palette", "L": "grey", **dict.fromkeys(WIDE, "16-bit")}
LIMIT = 1 << 34  # bytes of one array of pixels
MAX_BYTES = "JAXDL_MAX_IMAGE_BYTES"  # the environment variable that raises it
SUGGESTED = 256  # the largest size that an error suggests
BAR = 2000  # more files than this get a progress bar
LISTED = 20  # bad files that an error lists

Found = TypeVar("Found")
Bad = dict[Path, tuple[str, str]]  # file -> (problem, remedy)


class Header(NamedTuple):
    """Facts about an image that are known before its pixels are read."""

    size: tuple[int, int]  # width, height, before the EXIF orientation is applied
    mode: str  # Pillow's
    transparent: bool


def is_image(path: Path) -> bool:
    """Returns whether a file name has an image extension, including those of unsupported formats."""
    return path.suffix.lower() in ENDINGS


def read_files(
    files: Sequence[Path], size: int | Sequence[int] | None, channels: int = 0, root: Path | None = None
) -> tuple[np.ndarray, str]:
    """Reads N files into an array of one shape.

    Args:
      files: images in one of FORMATS, whatever their extensions.
      size: side in pixels, or (H, W), of the resulting images; None: unchanged, all of one size.
      channels: 1 or 3; 0: 1 if all images are grey by their format, else 3.
      root: the folder that contains the files, for messages.

    Returns:
      (uint8 [N, H, W, C], the number of images converted from each mode: "2 RGBA, 1 CMYK").

    Raises:
      DataError: files cannot be read or differ in size from most (the first 20 are listed, each with the reason), or
        there are too many pixels.
      ValueError: the size is below 1.
    """
    from tqdm import tqdm

    shape = None if size is None else (size, size) if isinstance(size, int) else (size[0], size[1])
    if shape and min(shape) < 1:
        raise ValueError(f"size={size} must be at least 1")
    bad: Bad = {}
    headers = {file: found for file in files if (found := _tried(_header, file, bad))}
    channels = channels or (1 if all(header.mode in GREY for header in headers.values()) else 3)
    read: Callable[[Path], np.ndarray] = lambda file: _pixels(file, shape, channels)
    sizes = Counter(header.size for header in headers.values())
    expected = shape if headers else None
    for file in sorted(headers, key=lambda file: -sizes[headers[file].size]):  # the most common size first
        if expected or ((image := _tried(read, file, bad)) is not None and (expected := image.shape[:2])):
            break
    if not expected:
        raise _complaint(bad, files, root)
    need, most = len(files) * expected[0] * expected[1] * channels, limit(MAX_BYTES, LIMIT)
    if need > most:
        raise DataError(
            f"{root or files[0]}: {len(files):,} images of {_side(expected)} pixels need {need:,} bytes, the limit is "
            f"{most:,}; scale them down, for example with --image_size={SUGGESTED}, or set {MAX_BYTES}={need}"
        )
    pixels = np.empty((len(files), *expected, channels), np.uint8)  # filled in place: a second copy may not fit
    side = min(SUGGESTED, int(np.median([min(header.size) for header in headers.values()])))
    scaled = f"set --image_size={side}, or another size, to scale and crop all images"
    for i, file in enumerate(tqdm(files, "reading", unit=" images", leave=False, disable=len(files) <= BAR or None)):
        image = None if file in bad else _tried(read, file, bad)
        if image is None:
            continue
        if image.shape[:2] == expected:
            pixels[i] = image
        else:
            bad[file] = f"is {_side(image.shape)} pixels, but most images are {_side(expected)}", scaled
    if bad:
        raise _complaint(bad, files, root)
    return pixels, _converted([headers[file] for file in files], channels)


def upright(image: Any, shape: tuple[int, int] | None, channels: int) -> np.ndarray:
    """Converts a Pillow image to uint8 [H, W, C].

    Applies the EXIF orientation, composites transparent pixels on white, and keeps the upper 8 of 16 bits. Then scales
    the image, keeping its aspect ratio, until it covers the shape (H, W), and crops the centre.

    Raises:
      ValueError: the range of the pixels is unknown.
    """
    from PIL import Image, ImageOps

    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):  # old Pillow reads 16-bit PNG as I
        raise ValueError("32-bit pixels have no known range")
    image = ImageOps.exif_transpose(image)
    if image.mode in WIDE:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if shape:
        image = ImageOps.fit(image, (shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image.height, image.width, channels)


def _tried(function: Callable[[Path], Found], file: Path, bad: Bad) -> Found | None:
    """Returns function(file), or None for a bad file, which is recorded in `bad`."""
    if not os.path.isfile(file):
        bad[file] = "is a broken link or not a regular file", "remove it"
        return None
    try:
        return function(file)
    except (DataError, MissingData) as e:
        problem, _, right = e.args[0].removeprefix(f"{file}: ").rpartition("; ")
        bad[file] = problem or right, right
    return None


def _complaint(bad: Bad, files: Sequence[Path], root: Path | None) -> DataError:
    if len(bad) == 1:
        file, (problem, right) = next(iter(bad.items()))
        return DataError(f"{file}: {problem}; {right}")
    listed = [f"{file.relative_to(root) if root else file}: {bad[file][0]}" for file in sorted(bad)]
    more = [f"and {len(listed) - LISTED:,} more"] if len(listed) > LISTED else []
    cures = dict.fromkeys(bad[file][1].removesuffix("remove it").removesuffix(" or ") for file in sorted(bad))
    cures = dict.fromkeys(re.sub(r"\bit\b", "them", cure) for cure in [*cures, "or remove it"] if cure)
    where = f"{root}: " if root else ""
    return DataError(
        f"{where}{len(bad):,} of {len(files):,} files cannot be used: {'; '.join(listed[:LISTED] + more)}. "
        f"To fix this: {', '.join(cures)}"
    )


def _converted(headers: Sequence[Header], channels: int) -> str:
    """Counts the converted images by mode, and images of one pixel among larger ones."""
    alpha = lambda header: "transparent " * (header.transparent and header.mode in ("L", "RGB", "P"))
    kinds = Counter(alpha(header) + NAMED.get(header.mode, header.mode) for header in headers)
    kinds["1x1"] = sum(header.size == (1, 1) for header in headers)
    as_they_are = {"RGB", "grey"} if channels == 1 or kinds["RGB"] == 0 else {"RGB"}
    as_they_are |= {"1x1"} if kinds["1x1"] == len(headers) else set()
    return ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common() if n and kind not in as_they_are)


def _side(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"  # width first, as in image programs


def _header(file: Path) -> Header:
    with _image(file) as image:
        return Header(image.size, image.mode, image.has_transparency_data)


def _pixels(file: Path, shape: tuple[int, int] | None, channels: int) -> np.ndarray:
    """uint8 [H, W, C]."""
    with _image(file) as image:
        if shape:  # JPEG can be decoded at 1/2, 1/4 or 1/8: a photograph of 12 megapixels in a fifth of the time
            image.draft(None, (2 * max(shape), 2 * max(shape)))
        return upright(image, shape, channels)


@contextmanager
def _silenced() -> Iterator[None]:
    """Silences file descriptor 2, to which libtiff prints many lines about a broken TIFF."""
    try:
        kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # the descriptor is closed
        yield
        return
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _image(file: Path) -> Iterator[Any]:
    from PIL import Image, UnidentifiedImageError

    with plain(file) as raw:
        loud = raw.read(2) in (b"II", b"MM") and raw.fileno() != 2  # 2: the file itself, if stderr is closed
        raw.seek(0)
        try:
            with warnings.catch_warnings(action="ignore"), _silenced() if loud else nullcontext():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(raw, formats=FORMATS) as image:
                    yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as e:
            most = f"declares too many pixels, the limit is {Image.MAX_IMAGE_PIXELS:,}"
            raise DataError(f"{file}: {most}; scale it down or remove it") from e
        except UnidentifiedImageError as e:
            inside = f"its content is not {KINDS}" if raw.seek(0, 2) else "is empty"
            raise DataError(f"{file}: {inside}; convert it or remove it") from e
        except Exception as e:  # Pillow's decoders raise a dozen types, among them SyntaxError
            problem = " ".join(str(e).split())
            raise DataError(f"{file}: cannot be read ({problem}); replace it or remove it") from e
