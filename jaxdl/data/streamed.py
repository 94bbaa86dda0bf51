"""Batches that flow: loaders, generators and other iterables, as training data and as parts to be evaluated."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np

Tree = Any


class Stream:
    """An iterable of batches, each pass from its beginning.

    A batch is a pytree of arrays with a leading axis of rows. A pair, as PyTorch's loaders give it, is {"x", "y"};
    whatever `np.asarray` takes, tensors for one, becomes an array. A generator can be read once; its first batch, which
    is looked at for shapes, is part of that pass.
    """

    def __init__(self, source: Iterable[Any] | Callable[[], Iterable[Any]], name: str = "data") -> None:
        """Looks at the first batch.

        Args:
          source: the iterable, or a function that makes one for each pass.
          name: what it is called in messages.

        Raises:
          ValueError: no batch is in it.
        """
        self.name = name
        self.once: bool = isinstance(source, Iterator)  # a second pass over it would be empty
        self._source: Any = source
        self._begun: Iterator[Any] | None = self._open()
        first = next(self._begun, None)
        if first is None:
            raise ValueError(f"{name}: no batch is in this {type(source).__name__}")
        self.example: Any = batch_of(first, f"the first batch of {name}")
        self.batch_size: int = rows_of(self.example)

    def _open(self) -> Iterator[Any]:
        return iter(self._source() if callable(self._source) else self._source)

    @property
    def batches(self) -> int | None:
        """How many batches a pass has; None where nobody knows."""
        return length_of(self._source)

    def __iter__(self) -> Iterator[Any]:
        """A pass over all batches.

        Raises:
          ValueError: of a generator, the second time; of batches that are not all alike.
        """
        if not self.once:
            self._begun, passed = None, self._open()
        elif self._begun is None:
            told = "has been read, which it can be once; give a list, a loader, or a function that makes the generator"
            raise ValueError(f"{self.name}: this {type(self._source).__name__} {told}")
        else:
            passed, self._begun = self._begun, None
            yield self.example
        for t, batch in enumerate(passed, int(self.once)):
            yield self._like_first(batch_of(batch, f"batch {t} of {self.name}"), t)

    def _like_first(self, batch: Tree, t: int) -> Tree:
        rows = rows_of(batch)
        if told := unlike(batch, self.example, rows=rows <= self.batch_size):
            raise ValueError(f"{self.name}: batch {t} {told}")
        return batch


def unlike(batch: Tree, first: Tree, rows: bool = False) -> str:
    """What a batch has that the first has not, in words; "" if nothing. `rows`: their number may differ."""
    look = lambda tree: [(path, x.dtype.name, list(x.shape[rows:])) for path, x in leaves(tree)]
    now, before = look(batch), look(first)
    if now == before:
        return ""
    pairs = zip_longest(now, before, fillvalue=("nothing more", "", ""))
    side = lambda one: f"{one[0] or 'an array'} {one[1]}{one[2]}"
    new, old = next(pair for pair in pairs if pair[0] != pair[1])
    return f"has {side(new)}, where the first has {side(old)}"


def leaves(tree: Tree, path: str = "") -> list[tuple[str, Any]]:
    """(path, leaf) of dicts, lists and tuples."""
    if isinstance(tree, Mapping):
        return [leaf for name in sorted(tree, key=str) for leaf in leaves(tree[name], f"{path}/{name}".lstrip("/"))]
    if isinstance(tree, (list, tuple)):
        return [leaf for i, one in enumerate(tree) for leaf in leaves(one, f"{path}/{i}".lstrip("/"))]
    return [] if tree is None else [(path, tree)]


def rows_of(batch: Tree) -> int:
    """Rows of a batch: the length of its first array."""
    return len(leaves(batch)[0][1])


def batch_of(batch: Any, name: str) -> Any:
    """A batch of an iterable as dicts, lists and tuples of arrays; a pair as {"x", "y"}.

    Raises:
      ValueError: no arrays, arrays of objects, or one row instead of a batch.
    """
    if isinstance(batch, (list, tuple)) and len(batch) == 2 and not hasattr(batch, "_fields"):
        batch = dict(zip(("x", "y"), batch, strict=True))
    made = _arrays(batch, name)
    check_batch(made, name)
    return made


def check_batch(batch: Any, name: str) -> None:
    """Raises ValueError for what is no batch: no arrays, arrays of objects, arrays without rows."""
    found = leaves(batch)
    if not found:
        raise ValueError(f"{name}: holds no arrays")
    for path, array in found:
        where = f"{name}: {path or 'it'}"
        if np.asarray(array).dtype.kind in "OUSMm":
            raise ValueError(f"{where} has dtype {np.asarray(array).dtype}; numbers or booleans are needed")
        if np.ndim(array) == 0:
            told = "is a single number, so this is one example and not a batch; put examples into batches"
            raise ValueError(f"{where} {told} (a loader, or jaxdl.data.Batches)")
        if len(array) == 0:
            raise ValueError(f"{where} has no rows")


def _arrays(tree: Any, name: str) -> Any:
    if isinstance(tree, Mapping):
        return {key: _arrays(value, name) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)) and any(isinstance(x, Mapping) or hasattr(x, "__array__") for x in tree):
        made = [_arrays(one, name) for one in tree]
        return type(tree)(*made) if hasattr(tree, "_fields") else type(tree)(made)
    try:
        return np.asarray(tree)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors that have a gradient
        raise ValueError(f"{name}: cannot become an array ({' '.join(str(error).split())[:100]})") from None


def length_of(source: Any) -> int | None:
    """len(source), None where it has none or one without end."""
    try:
        count = len(source)
    except (TypeError, NotImplementedError, OverflowError):
        return None
    return count if 0 < count < 2**31 else None
