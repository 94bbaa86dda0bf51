"""IDX files, the format of MNIST and Fashion-MNIST: a big-endian header (magic, sizes), then the numbers."""

import hashlib
import math
from pathlib import Path

import numpy as np

from jaxdl.data.errors import DataError
from jaxdl.data.files import AGAIN, FileSet, opened, read_at_most

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
LIMIT = 4 << 30  # bytes of data; the largest original file has 47 MB

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SETS = {name: FileSet(name, (name.replace("_", "-"), ""), FILES) for name in ("mnist", "fashion_mnist")}
# MD5 of the published files after decompression, so that it does not depend on how a file was packed. It identifies
# the original data; it does not protect against forgery.
ORIGINALS = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion_mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}


def read_idx(path: str | Path) -> np.ndarray:
    """Reads an IDX file, plain or gzipped.

    Args:
      path: the file, of any IDX dtype (uint8, int8, int16, int32, float32, float64) and 1 to 8 axes.

    Returns:
      The array in native byte order, with the shape given in the header.

    Raises:
      MissingData: the file does not exist.
      DataError: the file is not an IDX file, is truncated or too long, or its gzip stream is broken.
    """
    return _read(path)[0]


def read_mnist(
    data_dir: str | Path | None, name: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[Path], bool]:
    """Reads the four files of ``mnist`` or ``fashion_mnist``.

    Args:
      data_dir: the folder of the files, or one with a folder ``mnist`` or ``fashion-mnist`` for them.
      name: ``mnist`` or ``fashion_mnist``.

    Returns:
      train and test, each {"x": uint8 [N, 28, 28, 1], "y": int32 [N]}; the files read; whether they are the originals.

    Raises:
      MissingData: a file does not exist.
      DataError: a file is broken, holds other images or labels, or belongs to the other data set.
    """
    paths = SETS[name].paths(data_dir)
    read = [_read(path) for path in paths]
    sums = tuple(digest for _, digest in read)
    for other, originals in ORIGINALS.items():
        for path, digest, original in zip(paths, sums, originals, strict=True):
            if other != name and digest == original:
                raise DataError(f"{path}: is a file of {other}, not of {name}; set --dataset={other}")
    train, test = (_checked(read[i][0], read[i + 1][0], paths[i], paths[i + 1]) for i in (0, 2))
    return train, test, paths, sums == ORIGINALS[name]


def _checked(images: np.ndarray, labels: np.ndarray, images_path: Path, labels_path: Path) -> dict[str, np.ndarray]:
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise DataError(f"{images_path}: holds {images.dtype} {list(images.shape)}; expected uint8 [N, 28, 28]")
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(f"{labels_path}: holds {labels.dtype} {list(labels.shape)}; expected uint8 [N]")
    if len(images) == 0:
        raise DataError(f"{images_path}: contains no images; at least one is needed")
    if len(labels) != len(images):
        raise DataError(
            f"{labels_path}: {len(labels):,} labels for {len(images):,} images in {images_path.name}; "
            "the counts must agree"
        )
    wrong = np.flatnonzero(labels > 9)
    if len(wrong):
        raise DataError(f"{labels_path}: image {wrong[0]} has label {labels[wrong[0]]}; labels must be 0 to 9")
    return {"x": images[..., None], "y": labels.astype(np.int32)}


def _read(path: str | Path) -> tuple[np.ndarray, str]:
    """Returns the array and the MD5 of the whole decompressed file."""
    with opened(path) as stream:
        magic = stream.read(4)
        if len(magic) < 4:
            raise DataError(f"{path}: only {len(magic)} bytes; an IDX file starts with a 4-byte magic number")
        if magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 1 <= magic[3] <= 8:
            raise DataError(
                f"{path}: not an IDX file: magic number 0x{magic.hex()}; expected 0x0000, a type byte (08, 09, 0b, 0c, "
                "0d or 0e) and the number of axes, 1 to 8"
            )
        dtype, rank = np.dtype(DTYPES[magic[2]]), magic[3]
        header = stream.read(4 * rank)
        if len(header) < 4 * rank:
            raise DataError(f"{path}: truncated at byte {4 + len(header)} of the {4 + 4 * rank}-byte header; {AGAIN}")
        shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4))
        size = math.prod(shape) * dtype.itemsize
        if size > LIMIT:
            raise DataError(f"{path}: the header declares {list(shape)}, {size:,} bytes; the limit is {LIMIT:,}")
        # One byte more than declared: detects trailing bytes and limits a gzip bomb.
        data = read_at_most(stream, size + 1)
    declared = f"the header declares {list(shape)} {dtype.name}, {size:,} bytes of data"
    if len(data) < size:
        raise DataError(f"{path}: truncated: {declared}, but only {len(data):,} follow; {AGAIN}")
    if len(data) > size:
        raise DataError(f"{path}: too long: {declared}, but more follow; {AGAIN}")
    digest = hashlib.md5(magic + header, usedforsecurity=False)
    digest.update(data)
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False), digest.hexdigest()
