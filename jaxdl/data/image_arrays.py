"""Converts images in memory, arrays and Pillow images, to a model's shape, as the file readers do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.folder import read_images
from jaxdl.data.image_files import upright
from jaxdl.data.images import pixels01

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's, by number of channels


def encode_images(given: Any, shape: Sequence[int], dtype: Any = np.uint8) -> np.ndarray:
    """Converts images to the shape and dtype of a model's training images, as `read_images` does with files.

    Arrays are uint8 in 0..255 or floats in 0..1 with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels:
    [n, H, W, C]; [n, H, W], grey; [H, W, C], one image; [H, W], one grey image. An array with three axes is one image
    if it has the model's own shape; else n grey images if its last two axes are the model's (H, W); else one image if
    its last axis is at most 4; else n grey images of another size.
    Floats of the model's own shape are unchanged for a model of floats; in all other cases they are rounded to the 256
    levels of a file.

    Args:
      given: an array, a Pillow image, the path of a file or of a folder of images, or a list of any of these.
      shape: (H, W, C) of the model's images; C is 1 or 3.
      dtype: uint8 for pixels in 0..255, or a type of floats for 0..1.

    Returns:
      [n, H, W, C] of that dtype.

    Raises:
      ValueError: pixels have another type or range (the message gives the conversion), other axes, or no images.
      MissingData, DataError: files, as for `read_images`.
    """
    units = list(_units(given))
    if not units:
        raise ValueError("no images given; expected an array, a Pillow image, a path or a list of these")
    if all(isinstance(unit, Path) for unit in units):  # so that one error lists all unreadable files
        return _as_type(read_images(units, shape)[1], dtype)
    return np.concatenate([_encoded(unit, shape, dtype) for unit in units])


def _units(given: Any) -> Any:
    """Yields paths, Pillow images and arrays from lists of any depth."""
    from PIL import Image

    if isinstance(given, str | Path):
        yield Path(given)
    elif isinstance(given, Image.Image):
        yield given
    elif isinstance(given, list | tuple) or (isinstance(given, np.ndarray) and given.dtype.kind in "OUT"):
        for one in given:
            yield from _units(one)
    else:
        yield np.asarray(given)


def _encoded(unit: Any, shape: Sequence[int], dtype: Any) -> np.ndarray:
    if isinstance(unit, Path):
        return _as_type(read_images([unit], shape)[1], dtype)
    if not isinstance(unit, np.ndarray):
        return _as_type(upright(unit, (shape[0], shape[1]), shape[2])[None], dtype)
    x = _batch(unit, shape)
    floats = _floats(x)
    if x.shape[1:] == tuple(shape):
        return _as_type(x if floats is None else floats, dtype)
    return _as_type(np.stack([_brought(image, shape) for image in (x if floats is None else _levels(floats))]), dtype)


def _brought(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    from PIL import Image

    channels = image.shape[-1]
    picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if channels == 1 else image))
    assert picture.mode == MODES[channels]
    return upright(picture, (shape[0], shape[1]), shape[2])


def _batch(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """[n, H, W, C]."""
    if x.ndim == 2:
        x = x[None, ..., None]
    elif x.ndim == 3:
        one = x.shape == tuple(shape) or (x.shape[1:] != tuple(shape[:2]) and x.shape[-1] in MODES)
        if not one and shape[-1] == 3 and len(x) == 3:  # else a colour image of PyTorch's would be three grey ones
            raise ValueError(
                f"an array of shape {list(x.shape)} is ambiguous: pass np.moveaxis(x, 0, -1) for one image [C, H, W], "
                "or x[..., None] for three grey images"
            )
        x = x[None] if one else x[..., None]
    if x.ndim != 4 or x.shape[-1] not in MODES:
        raise ValueError(
            f"an array of shape {list(x.shape)} does not hold images; expected [n, H, W, C], [n, H, W], [H, W, C] or "
            "[H, W] with 1 to 4 channels; np.moveaxis(x, 1, -1) converts [n, C, H, W]"
        )
    if 0 in x.shape:
        raise ValueError(f"an array of shape {list(x.shape)} is empty")
    return x


def _floats(x: np.ndarray) -> np.ndarray | None:
    """Returns floats in 0..1 as float32; None for uint8."""
    if x.dtype == np.uint8:
        return None
    if x.dtype.kind != "f" and x.dtype.name != "bfloat16":
        raise ValueError(f"pixels of type {x.dtype} have no known range; expected uint8 in 0..255 or floats in 0..1")
    x = x.astype(np.float32)
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 1):  # also NaN
        right = "pass uint8 for pixels in 0..255"
        if low >= 0 and high <= 255:
            right = "pass x / 255 if they are in 0..255"
        elif low >= -1 and high <= 1:
            right = "pass (x + 1) / 2 if they are in -1..1"
        raise ValueError(f"float pixels must be in 0..1, got {low:g}..{high:g}; {right}")
    return x


def _levels(x: np.ndarray) -> np.ndarray:
    return np.rint(x * 255).astype(np.uint8)


def _as_type(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Converts pixels, uint8 or float32 in 0..1, to the model's dtype."""
    if np.dtype(dtype) == np.uint8:
        return x if x.dtype == np.uint8 else _levels(x)
    return pixels01(x).astype(dtype)
