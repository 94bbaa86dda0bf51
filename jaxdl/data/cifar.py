"""CIFAR-10 as its Python batches: pickles, read as data; a pickle cannot call anything."""

import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.errors import DataError, MissingData
from jaxdl.data.files import FileSet, locate, read_bytes

FOLDERS = ("cifar10/cifar-10-batches-py", "cifar-10-batches-py", "cifar10", "")
CIFAR10 = FileSet("cifar10", FOLDERS, (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"))
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LIMIT = 1 << 28  # bytes; a batch of 10,000 images has 31 MB
STEPS = 1_000_000  # of a pickle; a batch of 10,000 images takes some 30,000
CONSTANTS = ("BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING", "GLOBAL", "NONE")


def read_cifar10(
    data_dir: str | Path | None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], tuple[str, ...], list[Path]]:
    """Reads ``test_batch`` and the existing files of ``data_batch_1`` ... ``data_batch_5`` next to it.

    Returns:
      train and test, each {"x": uint8 [N, 32, 32, 3], "y": int32 [N]}; the class names, from ``batches.meta`` if
      it exists; the files read.

    Raises:
      MissingData: there is no ``test_batch``, or no training batch next to it.
      DataError: a file is not such a batch.
    """
    test = locate(data_dir, FOLDERS, "test_batch", "cifar10")
    batches = [path for i in range(1, 6) if (path := test.parent / f"data_batch_{i}").exists()]
    if not batches:
        raise MissingData(f"{test.parent}: no data_batch_1 to data_batch_5 next to test_batch; at least one is needed")
    parts = [_batch(path) for path in batches]
    train = {name: np.concatenate([part[name] for part in parts]) for name in ("x", "y")}
    meta = test.parent / "batches.meta"
    return train, _batch(test), _names(meta) if meta.exists() else NAMES, [*batches, test]


def read_pickle(path: str | Path) -> Any:
    """Reads a pickle of protocol 2, as Python 2 wrote the original files: dicts, lists, tuples, text, whole numbers.

    A pickle is a program for a stack machine, and only operations that call something are dangerous. This machine
    has only the operations that such dicts need and calls nothing: a global becomes its name, a call the pair (name,
    arguments), an object the pair (call, state).

    Returns:
      The content; text is decoded from Latin-1, one character per byte.

    Raises:
      MissingData: the file does not exist.
      DataError: the file is not a pickle, is truncated, or has another operation.
    """
    content = read_bytes(path, LIMIT)
    try:
        return _run(content)
    except Exception as e:  # a forged pickle can make the machine fail in any way
        problem = " ".join(str(e)[:200].split()) or type(e).__name__
        raise DataError(f"{path}: cannot be read as a pickle ({problem}); use the original Python batch") from e


def _run(content: bytes) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def popped(height: int) -> list[Any]:
        items = stack[height:]
        del stack[height:]
        return items

    for step, (operation, value, _) in enumerate(pickletools.genops(content)):
        name = operation.name
        if step == STEPS:
            raise ValueError(f"more than {STEPS:,} steps")
        if name in CONSTANTS:
            stack.append(value)
        elif name == "NEWFALSE":
            stack.append(False)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(popped(marks.pop())))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(popped(-int(name[-1]))))
        elif name in ("REDUCE", "BUILD"):
            stack.append(tuple(popped(-2)))
        elif name == "APPENDS":
            items = popped(marks.pop())
            stack[-1].extend(items)
        elif name == "SETITEMS":
            items = popped(marks.pop())
            if not all(type(key) is str for key in items[::2]):  # the hash of a deep tuple crashes Python
                raise ValueError("a key is not text")
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "STOP":
            return stack.pop()
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[value] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name != "PROTO":
            raise ValueError(f"the operation {name} does not occur in the original files")
    raise ValueError("no STOP operation")


def _batch(path: Path) -> dict[str, np.ndarray]:
    match read_pickle(path):
        case {
            "data": (_, (_, (int(count), 3072), ((_, ("u1", *_)), _), False, str(pixels))),
            "labels": list(labels),
        } if len(pixels) == count * 3072 > 0:
            pass
        case _:
            raise DataError(f"{path}: is not a CIFAR-10 batch; expected data, uint8 [N, 3072], and a list of labels")
    if len(labels) != count:
        raise DataError(f"{path}: {len(labels):,} labels for {count:,} images; the counts must agree")
    for i, label in enumerate(labels):
        if type(label) is not int or not 0 <= label <= 9:
            told = f"label {label}" if type(label) is int else f"a label of type {type(label).__name__}"
            raise DataError(f"{path}: image {i} has {told}; labels must be 0 to 9")
    images = np.frombuffer(pixels.encode("latin-1"), np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return {"x": np.ascontiguousarray(images), "y": np.array(labels, np.int32)}


def _names(path: Path) -> tuple[str, ...]:
    match read_pickle(path):
        case {"label_names": list(names)} if len(names) == 10 and all(isinstance(name, str) for name in names):
            return tuple(names)
    raise DataError(f"{path}: label_names must be a list of 10 names, as in the original batches.meta")
