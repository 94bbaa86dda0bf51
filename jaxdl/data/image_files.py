"""Files of images, one by one or many -> arrays of one shape; all that cannot be used are told of at once."""

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

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # no others are tried, whatever Pillow was built with
KINDS = "PNG, JPEG, WebP, BMP, GIF or TIFF"
ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    # images of other formats, which nobody would want to be passed over
    *(".apng", ".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dib", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif"),
    *(".ico", ".j2k", ".jp2", ".jxl", ".nef", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".svg", ".tga", ".xcf"),
)
WIDE = ("I", "I;16", "I;16B", "I;16L")  # Pillow's modes of 16 bits
GREY = ("1", "L", "LA", "La", *WIDE)  # those of one channel, with or without alpha
NAMED = {"1": "1-bit", "P": "palette", "PA": "palette", "L": "grey", **dict.fromkeys(WIDE, "16-bit")}
LIMIT = 1 << 34  # bytes of one array of pixels
MAX_BYTES = "JAXDL_MAX_IMAGE_BYTES"  # the variable that raises it
SUGGESTED = 256  # the largest size that an error proposes
BAR = 2000  # files from which on a progress bar is worth its line
TOLD = 20  # bad files that an error lists

Found = TypeVar("Found")
Bad = dict[Path, tuple[str, str]]  # what is wrong with a file, and what would be right


class Header(NamedTuple):
    """What a file says of its image before a pixel is read."""

    size: tuple[int, int]  # width, height, not yet turned as its EXIF orientation says
    mode: str  # Pillow's
    transparent: bool


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name, also where its format is none of those that are read."""
    return path.suffix.lower() in ENDINGS


def read_files(
    files: Sequence[Path], size: int | Sequence[int] | None, channels: int = 0, root: Path | None = None
) -> tuple[np.ndarray, str]:
    """Reads N files to one shape.

    Args:
      files: of the formats in FORMATS, whatever their names say.
      size: pixels of a side, or (H, W), to which every image is brought; None: as they are, all of one size.
      channels: 1 or 3; 0: 1 if all images are grey by their format, else 3.
      root: the folder that they are in, for messages.

    Returns:
      (uint8 [N, H, W, C], how many were converted from what: "2 RGBA, 1 CMYK").

    Raises:
      DataError: files that cannot be read or have another size than most; the first 20 are listed, each with the
        reason; too many pixels.
      ValueError: a size below 1.
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
    for file in sorted(headers, key=lambda file: -sizes[headers[file].size]):  # those of the commonest size first
        if expected or ((image := _tried(read, file, bad)) is not None and (expected := image.shape[:2])):
            break
    if not expected:
        raise _complaint(bad, files, root)
    need, most = len(files) * expected[0] * expected[1] * channels, limit(MAX_BYTES, LIMIT)
    if need > most:
        raise DataError(
            f"{root or files[0]}: {len(files):,} images of {_side(expected)} are {need:,} bytes, at most {most:,} are "
            f"read; make them smaller, --image_size={SUGGESTED} for example, or set {MAX_BYTES}={need}"
        )
    pixels = np.empty((len(files), *expected, channels), np.uint8)  # filled in place: a second copy may not fit
    side = min(SUGGESTED, int(np.median([min(header.size) for header in headers.values()])))
    scaled = f"--image_size={side} would scale and cut all to {side}x{side} (--image_size=N: to NxN)"
    for i, file in enumerate(tqdm(files, "reading", unit=" images", leave=False, disable=len(files) <= BAR or None)):
        image = None if file in bad else _tried(read, file, bad)
        if image is None:
            continue
        if image.shape[:2] == expected:
            pixels[i] = image
        else:
            bad[file] = f"is {_side(image.shape)}, but most are {_side(expected)}", scaled
    if bad:
        raise _complaint(bad, files, root)
    return pixels, _converted([headers[file] for file in files], channels)


def upright(image: Any, shape: tuple[int, int] | None, channels: int) -> np.ndarray:
    """What a Pillow image is for a network: uint8 [H, W, C].

    It is turned as its EXIF orientation says, laid on white where it is transparent, 16 bits become the upper 8; then,
    its proportions kept, scaled until it covers the shape (H, W), and the middle is cut out.

    Raises:
      ValueError: pixels whose range is not known.
    """
    from PIL import Image, ImageOps

    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):  # an older Pillow's for 16 bits of a PNG
        raise ValueError("pixels of 32 bits, whose range is not known")
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
    """What the function finds; None if the file is bad, which is written down."""
    if not os.path.isfile(file):
        bad[file] = "a link that leads nowhere, or no file of data", "take it away"
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
    more = [f"and {len(listed) - TOLD:,} more"] if len(listed) > TOLD else []
    cures = dict.fromkeys(bad[file][1].removesuffix("take it away").removesuffix(" or ") for file in sorted(bad))
    cures = dict.fromkeys(re.sub(r"\bit\b", "them", cure) for cure in [*cures, "or take it away"] if cure)
    where = f"{root}: " if root else ""
    return DataError(
        f"{where}{len(bad):,} of {len(files):,} files cannot be used: {'; '.join(listed[:TOLD] + more)}. "
        f"What to do: {', '.join(cures)}"
    )


def _converted(headers: Sequence[Header], channels: int) -> str:
    """What images were that had to be changed, and images of one pixel among larger ones."""
    alpha = lambda header: "transparent " * (header.transparent and header.mode in ("L", "RGB", "P"))
    kinds = Counter(alpha(header) + NAMED.get(header.mode, header.mode) for header in headers)
    kinds["1x1"] = sum(header.size == (1, 1) for header in headers)
    as_they_are = {"RGB", "grey"} if channels == 1 or kinds["RGB"] == 0 else {"RGB"}
    as_they_are |= {"1x1"} if kinds["1x1"] == len(headers) else set()
    return ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common() if n and kind not in as_they_are)


def _side(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"  # width first, as every image program says it


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
def _unheard() -> Iterator[None]:
    """Without what is written to file descriptor 2, where libtiff tells of a broken TIFF in many lines."""
    try:
        kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # it is closed, and nothing is heard
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
        loud = raw.read(2) in (b"II", b"MM") and raw.fileno() != 2  # which the file gets where stderr is closed
        raw.seek(0)
        try:
            with warnings.catch_warnings(action="ignore"), _unheard() if loud else nullcontext():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(raw, formats=FORMATS) as image:
                    yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as e:
            most = f"says that it has more pixels than a picture does, at most {Image.MAX_IMAGE_PIXELS:,} are read"
            raise DataError(f"{file}: {most}; make it smaller or take it away") from e
        except UnidentifiedImageError as e:
            inside = f"its content is not {KINDS}, whatever its name says" if raw.seek(0, 2) else "is empty"
            raise DataError(f"{file}: {inside}; convert it or take it away") from e
        except Exception as e:  # Pillow's decoders raise a dozen kinds, SyntaxError among them
            problem = " ".join(str(e).split())
            raise DataError(f"{file}: cannot be read ({problem}); copy it again or take it away") from e
