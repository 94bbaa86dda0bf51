"""What an experiment reads: its training, validation and test part, and what is worth remembering of them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from os import PathLike
from typing import Any

import numpy as np

from jaxdl.data.batches import Batches
from jaxdl.data.streamed import Stream, check_batch, length_of


def is_batches(x: Any) -> bool:
    """Whether this is a leaf of a pytree of training data."""
    return isinstance(x, Batches)


@dataclass(frozen=True)
class Data:
    """Three parts, no unit in two of them, and what a finished run has to know of them.

    train: `Batches`, or a pytree of them (a batch is then the same pytree); or a dict of arrays of equal length, which
      `fit` makes batches of; or anything whose `train[t]` is batch t (a `grain.MapDataset`, a list of batches); or an
      iterable of batches (a `torch` DataLoader, a `grain.IterDataset`, a generator), which `Stream` describes; or a
      function from a seed to any of these; or None where a step needs none.
    valid: what chooses a step or a hyperparameter looks at: `Batches`, a dict of arrays, an iterable of batches or a
      function that makes one, or several of these by name, or None.
    test: read once, when everything has been chosen; as `valid`.
    note: one line for the person who runs it: counts, sizes, where from.
    facts: what `build` and the use of a finished run need of the data, in values that JSON can hold: class names, a
      vocabulary, scales.
    example: one batch of `train`, for its shapes; taken from `train` if not given.
    """

    train: Any = None
    valid: Any = None
    test: Any = None
    note: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    example: Any = None

    def __post_init__(self) -> None:
        """Takes the example from the training data where it is not given.

        Raises:
          TypeError, ValueError: parts of another kind, or without a batch.
        """
        object.__setattr__(self, "train", training(self.train))
        for name in ("valid", "test"):
            object.__setattr__(self, name, part(getattr(self, name), name))
        if self.example is None and self.train is not None:
            object.__setattr__(self, "example", example_of(self.train))

    def batched(self, size: int) -> "Data":
        """The same data with batches of `size` in the place of dicts of arrays."""
        made = {name: _batched(getattr(self, name), size) for name in ("train", "valid", "test")}
        return replace(self, **made)


def training(train: Any) -> Any:
    """Training data as `Data` describes them; iterables become a `Stream`."""
    if train is None or in_memory(train) or is_arrays(train) or callable(train) or isinstance(train, Stream):
        return train
    _refuse(train, "train")
    if hasattr(train, "__getitem__") and not isinstance(train, Mapping):
        return train
    if isinstance(train, Iterable) and not isinstance(train, Mapping):
        return Stream(train, "train")
    raise TypeError(f"train: {_kind(train)} is no training data; {KINDS}")


def part(data: Any, name: str) -> Any:
    """A part to evaluate as `Data` describes them; iterables become a `Stream`."""
    if data is None or isinstance(data, (Batches, Stream)) or is_arrays(data):
        return data
    if isinstance(data, Mapping) and data:
        return {key: part(one, f"{name} {key}") for key, one in data.items()}
    _refuse(data, name)
    if callable(data) or isinstance(data, Iterable):
        return Stream(data, name)
    raise TypeError(f"{name}: {_kind(data)} is no part to evaluate; {KINDS}")


KINDS = "give Batches, a dict of arrays of equal length, or an iterable of batches"


def is_arrays(data: Any) -> bool:
    """Whether this is a dict of arrays, a column of rows each."""
    return (
        isinstance(data, Mapping) and bool(data) and all(hasattr(x, "__array__") and np.ndim(x) for x in data.values())
    )


def _refuse(data: Any, name: str) -> None:
    """TypeError for what has entries, but no batches."""
    wrong = isinstance(data, (str, bytes, PathLike, set)) or hasattr(data, "__array__") or hasattr(data, "columns")
    if wrong:
        raise TypeError(f"{name}: {_kind(data)} is not in batches; {KINDS}")
    if isinstance(data, (list, tuple)) and not data:
        raise ValueError(f"{name}: an empty {type(data).__name__} has no batch")


def _kind(data: Any) -> str:
    kind = type(data)
    return f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.")


def _batched(data: Any, size: int) -> Any:
    if is_arrays(data):
        return Batches({name: np.asarray(values) for name, values in data.items()}, size)
    if isinstance(data, Mapping) and not in_memory(data):
        return {name: _batched(one, size) for name, one in data.items()}
    return data


def item(train: Any, t: int) -> Any:
    """Batch t of what is indexed: where it has fewer, from its beginning again."""
    try:
        return train[t]
    except IndexError:
        if (count := length_of(train)) is None or t < count:
            raise
        return train[t % count]


def batches_in(train: Any) -> float | None:
    """Batches of a pass over training data, the longest; None where nobody knows."""
    found = _leaves(train)
    if in_memory(train):
        return max(x.length / x.batch_size for x in found)
    return train.batches if isinstance(train, Stream) else None if callable(train) else length_of(train)


def example_of(train: Any) -> Any:
    """A batch of training data as `Data` describes them; None of None."""
    if in_memory(train):
        return _mapped(lambda one: one.example, train)
    if train is None or is_arrays(train):
        return None
    train = training(train(0)) if callable(train) else train
    if in_memory(train) or isinstance(train, Stream):
        return _mapped(lambda one: one.example, train)
    try:
        found = _mapped(np.asarray, item(train, 0))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        told = f"batch 0, train[0], cannot be had ({type(error).__name__}: {error})"
        raise TypeError(f"train: of {_kind(train)} {' '.join(told.split())[:160]}; {KINDS}") from None
    check_batch(found, "train[0]")
    return found


def in_memory(train: Any) -> bool:
    """Whether training data are `Batches`, or a pytree of nothing else."""
    found = _leaves(train)
    return bool(found) and all(map(is_batches, found))


def _children(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]] | None:
    """What a container holds, and how it is made of others; None of a leaf. NumPy's readers do without jax.tree."""
    if isinstance(tree, Mapping):
        # | keeps what else a dict has, as a defaultdict's default
        make: Callable[[dict[Any, Any]], Any] = tree.__or__ if isinstance(tree, dict) else type(tree)
        return list(tree.values()), lambda new: make(dict(zip(tree, new, strict=True)))
    if isinstance(tree, (list, tuple)):
        return list(tree), lambda new: type(tree)(*new) if hasattr(tree, "_fields") else type(tree)(new)
    if is_dataclass(tree) and not isinstance(tree, type):
        # a static field, as flax.struct and jax.tree_util.register_dataclass mark it, is no part of the data
        names = [f.name for f in fields(tree) if f.metadata.get("pytree_node", not f.metadata.get("static"))]
        return [getattr(tree, name) for name in names], lambda new: replace(tree, **dict(zip(names, new, strict=True)))
    return None


def _leaves(tree: Any) -> list[Any]:
    inside = _children(tree)
    if inside is None:
        return [] if tree is None else [tree]
    return [leaf for one in inside[0] for leaf in _leaves(one)]


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    inside = _children(tree)
    if inside is None:
        return None if tree is None else function(tree)
    return inside[1]([_mapped(function, one) for one in inside[0]])
