"""CIFAR-10 as its Python batches: pickles, read without ever running what a pickle can ask for."""

import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.errors import DataError, MissingData, shown
from jaxdl.data.files import locate, read_bytes

FOLDERS = ("cifar10/cifar-10-batches-py", "cifar-10-batches-py", "cifar10", "")
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LIMIT = 1 << 28  # bytes; a batch of 10,000 images has 31 MB
STEPS = 1_000_000  # of a pickle; a batch of 10,000 images takes some 50,000
PROBLEM = 200  # characters of what the unpickler says, which a pickle can fill
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
    """Reads a pickle of dicts, lists, tuples, bytes, text, numbers, None and arrays of numbers, and nothing else.

    Why this is safe: a pickle can do harm only by calling something, and all it can call is what ``find_class`` gives
    it. Here that is never an object of Python or NumPy: the names under which arrays are pickled lead to the small
    stand-ins below, which check the described array and build it from its bytes with ``np.frombuffer``; every other
    name and every persistent id is refused before anything is called. The pure-Python unpickler is used because the C
    one allocates as much memory as a forged memo index asks for; what it makes is bounded by a number of steps.

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
        problem = " ".join(str(e)[:PROBLEM].split()) or type(e).__name__
        raise DataError(
            f"{path}: not read as a pickle of arrays, lists, dicts, bytes and numbers ({problem}); "
            "the original Python batch is needed"
        ) from e


class _Type:
    """Stands for numpy.dtype: plain numbers only."""

    def __init__(self, code: bytes | str, align: Any = False, copy: Any = False):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or code not in PLAIN:  # never the hash of what may be too deep for Python
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
        if not all(type(n) is int for n in shape):  # a product with bytes would repeat them
            raise pickle.UnpicklingError("an array whose shape is not of whole numbers")
        if len(data) != math.prod(shape) * dtype.dtype.itemsize:
            raise pickle.UnpicklingError(f"{len(data)} bytes for an array {dtype.dtype} {list(shape)}")
        # A view: a pickle can name the same bytes a million times, and copies would add up.
        self.value = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


class _Buffered(_Array):
    """Stands for numpy.core.numeric._frombuffer, which protocol 5 uses."""

    def __init__(self, data: bytes, dtype: _Type, shape: tuple, order: str):
        self.fill(data, dtype, shape, order)


def _bounded(code: int, load: Callable[[Any], None]) -> Callable[[Any], None]:
    """The step of the unpickler that a byte stands for, counted, and with keys that can do no harm."""

    def step(reader: Any) -> None:
        reader.steps += 1
        if reader.steps > STEPS:
            raise pickle.UnpicklingError(f"more than {STEPS:,} steps")
        for key in reader.stack[KEYED[code]] if code in KEYED else ():
            if type(key) not in (str, bytes, int):  # the hash of tuples deep inside each other ends Python
                raise pickle.UnpicklingError(f"a key of type {type(key).__name__}")
        load(reader)

    return step


# Where the keys stand on the stack.
KEYED = {pickle.SETITEM[0]: slice(-2, -1), pickle.SETITEMS[0]: slice(0, None, 2), pickle.DICT[0]: slice(0, None, 2)}
UNREAD = {code[0] for code in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET)}  # sets hash what they hold


class _Reader(pickle._Unpickler):
    steps = 0
    admitted = {
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

    def load_bytearray8(self: Any) -> None:  # Python's makes one as large as the header says, then reads into it
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))


_Reader.dispatch = {
    code: _bounded(code, _Reader.load_bytearray8 if code == pickle.BYTEARRAY8[0] else load)
    for code, load in _Reader.dispatch.items()
    if code not in UNREAD
}


def _dictionary(path: Path) -> dict[str, Any]:
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; a CIFAR-10 batch is a dict")
    text = [(key.decode("utf-8", "replace") if isinstance(key, bytes) else key, v) for key, v in content.items()]
    return {key: value for key, value in text if isinstance(key, str)}


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
            told = f"{label!r:.40}" if isinstance(label, str | bytes | float) else f"of type {type(label).__name__}"
            if isinstance(label, int):  # Python refuses to write out thousands of digits, also inside of a list
                told = "of over 64 bits" if label.bit_length() > 64 else str(label)
            raise DataError(f"{path}: label {told} at image {i}; labels are 0 to 9")
    images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return {"x": np.ascontiguousarray(images), "y": np.array(labels, np.int32)}


def _names(path: Path) -> tuple[str, ...]:
    names = _dictionary(path).get("label_names")
    names = names if isinstance(names, list) else []
    texts = tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names)
    if len(texts) != 10 or not all(isinstance(name, str) and shown(name) == name for name in texts):
        raise DataError(f"{path}: label_names is not a list of 10 names in UTF-8; the original batches.meta has it")
    return texts
