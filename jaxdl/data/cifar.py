"""CIFAR-10 as its Python batches: pickles, read without ever running what a pickle can ask for."""

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.errors import DataError, MissingData
from jaxdl.data.files import locate, read_bytes

FOLDERS = ("cifar10/cifar-10-batches-py", "cifar-10-batches-py", "cifar10", "")
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LIMIT = 1 << 28  # bytes; a batch of 10,000 images has 31 MB
PLAIN = {"b1", "?", *(kind + size for kind in "iu" for size in "1248"), "f2", "f4", "f8"}


def read_cifar10(
    data_dir: str | Path | None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], tuple[str, ...], list[Path]]:
    """Reads ``test_batch`` and those of ``data_batch_1`` ... ``data_batch_5`` that lie beside it.

    Returns:
      train and test, each {"x": uint8 [N, 32, 32, 3], "y": int32 [N]}; the class names, from ``batches.meta`` where
      it is there; the files read.

    Raises:
      MissingData: no ``test_batch``, or no training batch beside it.
      DataError: a file that is not such a batch, or a pickle that asks for more than numbers, text and arrays.
    """
    test = locate(data_dir, FOLDERS, "test_batch", "cifar10")
    batches = [path for i in range(1, 6) if (path := test.parent / f"data_batch_{i}").exists()]
    if not batches:
        raise MissingData(f"{test.parent}: no data_batch_1 to data_batch_5 beside test_batch; at least one is needed")
    parts = [_batch(path) for path in batches]
    train = {name: np.concatenate([part[name] for part in parts]) for name in ("x", "y")}
    meta = test.parent / "batches.meta"
    return train, _batch(test), _names(meta) if meta.exists() else NAMES, [*batches, test]


def read_pickle(path: str | Path) -> Any:
    """Reads a pickle of dicts, lists, tuples, sets, bytes, text, numbers, None and arrays of numbers, and nothing else.

    Why this is safe: a pickle can do harm only by calling something, and all it can call is what ``find_class`` gives
    it. Here that is never an object of Python or NumPy: the names under which arrays are pickled lead to the small
    stand-ins below, which check the described array and build it from its bytes with ``np.frombuffer``; every other
    name and every persistent id is refused before anything is called. The pure-Python unpickler is used because the C
    one allocates as much memory as a forged memo index asks for.

    Returns:
      The content, with text of Python 2 as bytes, and arrays as stand-ins whose ``value`` is the array.

    Raises:
      MissingData: there is no such file.
      DataError: not a pickle, cut off, or one that asks for anything else.
    """
    content = read_bytes(path, LIMIT)
    try:
        return _Reader(io.BytesIO(content), encoding="bytes").load()
    except Exception as e:  # a forged pickle can make the unpickler fail in any way; every one means the same
        problem = " ".join(str(e).split()) or type(e).__name__
        raise DataError(
            f"{path}: not read as a pickle of arrays, lists, dicts, bytes and numbers ({problem}); "
            "the original Python batch is needed"
        ) from e


class _Type:
    """Stands for numpy.dtype: plain numbers only."""

    def __init__(self, code: bytes | str, align: Any = False, copy: Any = False):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if code not in PLAIN:
            raise pickle.UnpicklingError(f"an array of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        _version, order, subarray, names, fields, *_ = state
        if order not in (b"<", b">", b"|", b"=", "<", ">", "|", "=") or (subarray, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("an array of a compound type")
        if order in (b">", ">"):
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """Stands for numpy.core.multiarray._reconstruct: an empty array that its state fills."""

    value: np.ndarray

    def __init__(self, subtype: str, shape: tuple, code: bytes):
        pass

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: bytes, dtype: _Type, shape: tuple, order: str) -> None:
        """Makes the array; whatever is no bytes, no type or no shape fails in these lines."""
        if len(data) != math.prod(shape) * dtype.dtype.itemsize:
            raise pickle.UnpicklingError(f"{len(data)} bytes for an array {dtype.dtype} {list(shape)}")
        # A view: a pickle can name the same bytes a million times, and copies would add up.
        self.value = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


class _Buffered(_Array):
    """Stands for numpy.core.numeric._frombuffer, which protocol 5 uses."""

    def __init__(self, data: bytes, dtype: _Type, shape: tuple, order: str):
        self.fill(data, dtype, shape, order)


class _Reader(pickle._Unpickler):
    admitted = {  # noqa: RUF012 - a constant
        ("numpy", "dtype"): _Type,
        ("numpy", "ndarray"): "ndarray",  # only ever handed to _reconstruct; text cannot be called
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy.core.numeric", "_frombuffer"): _Buffered,
        ("numpy._core.numeric", "_frombuffer"): _Buffered,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.admitted[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for a persistent id")


def _dictionary(path: Path) -> dict[str, Any]:
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; a CIFAR-10 batch is a dict")
    return {key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key): v for key, v in content.items()}


def _batch(path: Path) -> dict[str, np.ndarray]:
    content = _dictionary(path)
    lacking = [name for name in ("data", "labels") if name not in content]
    if lacking:
        raise DataError(f"{path}: no {' and no '.join(lacking)} in it; a CIFAR-10 batch has data and labels")
    data = getattr(content["data"], "value", None)
    if data is None or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072 or len(data) == 0:
        found = type(content["data"]).__name__ if data is None else f"{data.dtype} {list(data.shape)}"
        raise DataError(f"{path}: data is {found}; uint8 [N, 3072] is needed, 32 x 32 pixels in three colours")
    labels = content["labels"]
    if not isinstance(labels, list) or len(labels) != len(data):
        found = f"{len(labels):,}" if isinstance(labels, list) else f"a {type(labels).__name__} of"
        raise DataError(f"{path}: {found} labels for {len(data):,} images; a list of the same length is needed")
    for i, label in enumerate(labels):
        if type(label) is not int or not 0 <= label <= 9:
            large = (
                isinstance(label, int) and label.bit_length() > 64
            )  # Python refuses to write out thousands of digits
            told = "of over 64 bits" if large else f"{label!r:.40}"
            raise DataError(f"{path}: label {told} at image {i}; labels are 0 to 9")
    images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return {"x": np.ascontiguousarray(images), "y": np.array(labels, np.int32)}


def _names(path: Path) -> tuple[str, ...]:
    names = _dictionary(path).get("label_names")
    if not isinstance(names, list) or len(names) != 10 or not all(isinstance(name, bytes | str) for name in names):
        raise DataError(f"{path}: label_names is not a list of 10 names; the original batches.meta has it")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names)
