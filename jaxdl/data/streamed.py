"""Streams of batches: loaders, generators and other iterables, for training and evaluation."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from jaxdl.data.batches import narrowed
from jaxdl.data.errors import DataError
from jaxdl.data.trees import children, leaves

Tree = Any
ENDLESS = 2**31  # a length from which an iterable counts as infinite


class Stream:
    """An iterable of batches; each pass starts at its beginning.

    A batch is a pytree of arrays with a leading axis of rows. A pair, as from PyTorch's loaders, becomes {"x", "y"};
    everything that `np.asarray` accepts, such as tensors, becomes an array of at most 32 bits. A generator can be read
    once. The first batch, which is read for its shapes, is part of the first pass. `fit` reads ahead in a thread.
    """

    def __init__(
        self,
        source: Iterable[Any] | Callable[[], Iterable[Any]],
        name: str = "data",
        again: Callable[[], Iterable[Any]] | None = None,
    ) -> None:
        """Reads the first batch.

        Args:
          source: an iterable, a function that returns one for each pass, or an object with a length and indices.
          name: name in messages.
          again: a function that returns the iterable of each further pass.

        Raises:
          TypeError: the source is not iterable.
          DataError: the source is empty, or its first entry is not a batch.
        """
        self.name = name
        self.once: bool = isinstance(source, Iterator) and again is None  # a second pass over it would be empty
        self.batches: int | None = length_of(source)  # of a pass; None if unknown
        self._again: Any = again or source
        self._begun: Iterator[Any] | None = self._open(source)
        first = next(self._begun, None)
        if first is None:
            raise DataError(f"{name}: this {type(source).__name__} contains no batch; at least one is needed")
        self.example: Any = batch_of(first, f"the first batch of {name}")
        self.batch_size: int = rows_of(self.example)

    def _open(self, source: Any) -> Iterator[Any]:
        if callable(source):
            check_call(source, self.name)
            source = source()
        if not hasattr(source, "__iter__") and (count := length_of(source)):
            return (source[t] for t in range(count))
        if not hasattr(source, "__iter__"):
            raise TypeError(f"{self.name}: {type(source).__name__} is not iterable; give an iterable of batches")
        return iter(source)

    def __iter__(self) -> Iterator[Any]:
        """Yields all batches of a pass.

        Raises:
          DataError: a generator is read a second time, or a batch has other arrays than the first.
        """
        start = 0
        if self._begun is not None:
            passed, self._begun, start = self._begun, None, 1
            yield self.example
        elif self.once:
            told = "can be read only once; give a list, a loader, or a function that returns the generator"
            raise DataError(f"{self.name}: this {type(self._again).__name__} {told}")
        else:
            passed = self._open(self._again)
        t = start - 1
        for t, batch in enumerate(passed, start):
            yield self._like_first(batch_of(batch, f"batch {t} of {self.name}"), t)
        if t < 0:
            raise DataError(f"{self.name}: a second pass has no batch; give data that can be read again")

    def _like_first(self, batch: Tree, t: int) -> Tree:
        rows = rows_of(batch)
        if told := unlike(batch, self.example, rows=rows <= self.batch_size):
            raise DataError(f"{self.name}: batch {t} {told}")
        return batch


def unlike(batch: Tree, first: Tree, rows: bool = False) -> str:
    """Describes how a batch differs from the first; "" if it does not. `rows`: the number of rows may differ."""
    look = lambda tree: sorted((path, x.dtype.name, list(x.shape[rows:])) for path, x in leaves(tree))
    now, before = look(batch), look(first)
    if now == before:
        return ""
    pairs = zip_longest(now, before, fillvalue=("no further array", "", ""))
    side = lambda one: f"{one[0] or 'an array'} {one[1]}{one[2]}"
    new, old = next(pair for pair in pairs if pair[0] != pair[1])
    return f"has {side(new)}, but the first has {side(old)}"


def rows_of(batch: Tree) -> int:
    """Returns the number of rows of a batch: the length of its first array."""
    return len(leaves(batch)[0][1])


def batch_of(batch: Any, name: str) -> Any:
    """Converts a batch of an iterable to a pytree of arrays, and a pair to {"x", "y"}.

    Raises:
      DataError: no arrays, arrays of objects, one row instead of a batch, or arrays of different lengths.
    """
    if isinstance(batch, (list, tuple)) and len(batch) == 2 and not hasattr(batch, "_fields"):
        batch = dict(zip(("x", "y"), batch, strict=True))
    made = _arrays(batch, name)
    check_batch(made, name)
    rows = {path: len(array) for path, array in leaves(made)}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{path} {count}" for path, count in rows.items())
        raise DataError(f"{name}: arrays differ in length: {listed}; all must have the same number of rows")
    return made


def check_batch(batch: Any, name: str) -> None:
    """Raises DataError if this is not a batch: no arrays, arrays of objects, arrays without rows."""
    found = leaves(batch)
    if not found:
        raise DataError(f"{name}: contains no arrays; a batch needs at least one")
    for path, array in found:
        where, dtype = f"{name}: {path or 'it'}", np.asarray(array).dtype
        if dtype.kind in "OUSMm":
            raise DataError(f"{where} has dtype {dtype}; expected numbers or booleans")
        if np.ndim(array) == 0:
            told = "is a single number, so this is one example and not a batch; batch the examples"
            raise DataError(f"{where} {told} with a loader or jaxdl.data.Batches")
        if len(array) == 0:
            raise DataError(f"{where} has no rows; a batch needs at least one")


def _arrays(tree: Any, name: str, path: str = "") -> Any:
    inside = children(tree)
    if inside is not None and not is_numbers(tree):
        return inside[1]([_arrays(one, name, f"{path}/{key}".lstrip("/")) for key, one in inside[0].items()])
    try:
        return None if tree is None else narrowed(path, tree)
    except ValueError as error:  # ragged lists, integers beyond 32 bits, GPU tensors
        raise DataError(
            f"{name}: {path or 'it'} cannot be converted to an array ({' '.join(str(error).split())[:120]})"
        ) from error


def is_numbers(tree: Any) -> bool:
    """Returns whether nested lists contain only numbers, so that they are one array and not a structure."""
    if type(tree) in (list, tuple):
        return all(map(is_numbers, tree))
    return children(tree) is None and not (hasattr(tree, "__array__") and np.ndim(tree))


def check_call(function: Callable[..., Any], name: str, *args: Any) -> None:
    """Raises TypeError if a function does not accept these arguments; does not call it."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        needed = "one argument, the seed" if args else "no arguments"
        kind = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"{name}: the function {kind} must accept {needed} ({error})") from None


def length_of(source: Any) -> int | None:
    """Returns len(source); None if it has no length or an infinite one."""
    try:
        count = len(source)
    except (TypeError, NotImplementedError, OverflowError):
        return None
    return count if 0 < count < ENDLESS else None
