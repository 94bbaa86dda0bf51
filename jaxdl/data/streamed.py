"""Batches that flow: loaders, generators and other iterables, as training data and as parts to be evaluated."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from jaxdl.data.batches import narrowed
from jaxdl.data.errors import DataError
from jaxdl.data.trees import children, leaves

Tree = Any
ENDLESS = 2**31  # a length that stands for none


class Stream:
    """An iterable of batches, each pass from its beginning.

    A batch is a pytree of arrays with a leading axis of rows. A pair, as PyTorch's loaders give it, is {"x", "y"};
    whatever `np.asarray` takes, tensors for one, becomes an array of at most 32 bits. A generator can be read once. The
    first batch, which is looked at for shapes, is part of the first pass. `fit` reads on in a thread of its own.
    """

    def __init__(
        self,
        source: Iterable[Any] | Callable[[], Iterable[Any]],
        name: str = "data",
        again: Callable[[], Iterable[Any]] | None = None,
    ) -> None:
        """Looks at the first batch.

        Args:
          source: the iterable, or a function that makes one for each pass, or what has a length and entries by number.
          name: what it is called in messages.
          again: what makes the iterable of each further pass.

        Raises:
          TypeError: it is no iterable.
          DataError: no batch is in it, or the first one is none.
        """
        self.name = name
        self.once: bool = isinstance(source, Iterator) and again is None  # a second pass over it would be empty
        self.batches: int | None = length_of(source)  # of a pass; None where nobody knows
        self._again: Any = again or source
        self._begun: Iterator[Any] | None = self._open(source)
        first = next(self._begun, None)
        if first is None:
            raise DataError(f"{name}: no batch is in this {type(source).__name__}")
        self.example: Any = batch_of(first, f"the first batch of {name}")
        self.batch_size: int = rows_of(self.example)

    def _open(self, source: Any) -> Iterator[Any]:
        if callable(source):
            check_call(source, self.name)
            source = source()
        if not hasattr(source, "__iter__") and (count := length_of(source)):
            return (source[t] for t in range(count))
        if not hasattr(source, "__iter__"):
            raise TypeError(f"{self.name}: {type(source).__name__} has no batches; give an iterable of them")
        return iter(source)

    def __iter__(self) -> Iterator[Any]:
        """A pass over all batches.

        Raises:
          DataError: of a generator, the second time; of batches that are not all alike.
        """
        start = 0
        if self._begun is not None:
            passed, self._begun, start = self._begun, None, 1
            yield self.example
        elif self.once:
            told = "has been read, which it can be once; give a list, a loader, or a function that makes the generator"
            raise DataError(f"{self.name}: this {type(self._again).__name__} {told}")
        else:
            passed = self._open(self._again)
        t = start - 1
        for t, batch in enumerate(passed, start):
            yield self._like_first(batch_of(batch, f"batch {t} of {self.name}"), t)
        if t < 0:
            raise DataError(f"{self.name}: another pass over it has no batch; give what can be read again")

    def _like_first(self, batch: Tree, t: int) -> Tree:
        rows = rows_of(batch)
        if told := unlike(batch, self.example, rows=rows <= self.batch_size):
            raise DataError(f"{self.name}: batch {t} {told}")
        return batch


def unlike(batch: Tree, first: Tree, rows: bool = False) -> str:
    """What a batch has that the first has not, in words; "" if nothing. `rows`: their number may differ."""
    look = lambda tree: sorted((path, x.dtype.name, list(x.shape[rows:])) for path, x in leaves(tree))
    now, before = look(batch), look(first)
    if now == before:
        return ""
    pairs = zip_longest(now, before, fillvalue=("nothing more", "", ""))
    side = lambda one: f"{one[0] or 'an array'} {one[1]}{one[2]}"
    new, old = next(pair for pair in pairs if pair[0] != pair[1])
    return f"has {side(new)}, where the first has {side(old)}"


def rows_of(batch: Tree) -> int:
    """Rows of a batch: the length of its first array."""
    return len(leaves(batch)[0][1])


def batch_of(batch: Any, name: str) -> Any:
    """A batch of an iterable as a pytree of arrays; a pair as {"x", "y"}.

    Raises:
      DataError: no arrays, arrays of objects, one row instead of a batch, or columns of different lengths.
    """
    if isinstance(batch, (list, tuple)) and len(batch) == 2 and not hasattr(batch, "_fields"):
        batch = dict(zip(("x", "y"), batch, strict=True))
    made = _arrays(batch, name)
    check_batch(made, name)
    rows = {path: len(array) for path, array in leaves(made)}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{path} {count}" for path, count in rows.items())
        raise DataError(f"{name}: its arrays have different numbers of rows: {listed}")
    return made


def check_batch(batch: Any, name: str) -> None:
    """Raises DataError for what is no batch: no arrays, arrays of objects, arrays without rows."""
    found = leaves(batch)
    if not found:
        raise DataError(f"{name}: holds no arrays")
    for path, array in found:
        where, dtype = f"{name}: {path or 'it'}", np.asarray(array).dtype
        if dtype.kind in "OUSMm":
            raise DataError(f"{where} has dtype {dtype}; numbers or booleans are needed")
        if np.ndim(array) == 0:
            told = "is a single number, so this is one example and not a batch; put examples into batches"
            raise DataError(f"{where} {told} (a loader, or jaxdl.data.Batches)")
        if len(array) == 0:
            raise DataError(f"{where} has no rows")


def _arrays(tree: Any, name: str, path: str = "") -> Any:
    inside = children(tree)
    if inside is not None and not is_numbers(tree):
        return inside[1]([_arrays(one, name, f"{path}/{key}".lstrip("/")) for key, one in inside[0].items()])
    try:
        return None if tree is None else narrowed(path, tree)
    except ValueError as error:  # ragged lists, integers beyond 32 bits, tensors of a GPU
        raise DataError(
            f"{name}: {path or 'it'} cannot become an array ({' '.join(str(error).split())[:120]})"
        ) from error


def is_numbers(tree: Any) -> bool:
    """Whether lists in lists hold nothing but numbers, so that they are one array and no structure."""
    if type(tree) in (list, tuple):
        return all(map(is_numbers, tree))
    return children(tree) is None and not (hasattr(tree, "__array__") and np.ndim(tree))


def check_call(function: Callable[..., Any], name: str, *args: Any) -> None:
    """Raises TypeError where a function does not take these arguments; what it raises itself is its own."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        needed = "one argument, the seed" if args else "no arguments"
        kind = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"{name}: the function {kind} has to take {needed} ({error})") from None


def length_of(source: Any) -> int | None:
    """len(source), None where it has none or one without end."""
    try:
        count = len(source)
    except (TypeError, NotImplementedError, OverflowError):
        return None
    return count if 0 < count < ENDLESS else None
