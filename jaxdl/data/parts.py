"""The data of an experiment: training, validation and test part, and the facts that a run keeps of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from jaxdl.data.batches import Batches
from jaxdl.data.streamed import ENDLESS, Stream, batch_of, check_batch, check_call, is_numbers, length_of
from jaxdl.data.trees import leaves, mapped


def is_batches(x: Any) -> bool:
    """Returns whether x is a leaf of a pytree of training data."""
    return isinstance(x, Batches)


@dataclass(frozen=True)
class Data:
    """Three parts that share no unit, and the facts that a finished run needs.

    train: None if a step needs no data, or one of
      - `Batches`, or a pytree of them; a batch then has the same structure;
      - a dict of arrays of equal length, from which `fit` makes batches;
      - a list of batches; a pair in it is {"x", "y"};
      - an object whose `train[t]` is batch t: a `grain.MapDataset`, a class with `__getitem__`;
      - an iterable of batches: a `torch` DataLoader, a `grain.IterDataset`, a generator (see `Stream`);
      - a function from a seed to any of these.
      Data that end before the last step are read again; a smaller last batch of a list or an iterable is dropped.
    valid: for choosing a step or a hyperparameter, evaluated completely each time: `Batches`, a dict of arrays, an
      iterable of batches, a function without arguments that returns one, a dict of several of these, or None.
    test: as `valid`, or a generator; read once, when everything has been chosen.
    note: one line for the user: counts, sizes, source.
    facts: what `build` and `inference` need to know about the data, JSON-serializable: class names, a vocabulary,
      scales.
    example: one batch of `train`, for its shapes; taken from `train` if not given.
    """

    train: Any = None
    valid: Any = None
    test: Any = None
    note: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    example: Any = None

    def __post_init__(self) -> None:
        """Takes the example from the training data if it is not given.

        Raises:
          TypeError, ValueError: a part has an unsupported type or no batch.
        """
        object.__setattr__(self, "train", training(self.train))
        for name in ("valid", "test"):
            object.__setattr__(self, name, part(getattr(self, name), name))
        if self.example is None and self.train is not None:
            object.__setattr__(self, "example", example_of(self.train))

    def batched(self, size: int) -> "Data":
        """Returns the same data with dicts of arrays replaced by batches of `size`."""
        function = callable(self.train) and getattr(self.train, "func", None) is not of_seed
        train = partial(of_seed, self.train, size) if function else _batched(self.train, size)
        return replace(self, train=train, valid=_batched(self.valid, size), test=_batched(self.test, size))


def training(train: Any) -> Any:
    """Normalizes training data for `Data`: an iterable becomes a `Stream`, batches of a list become arrays."""
    if train is None or in_memory(train) or is_arrays(train) or callable(train) or isinstance(train, Stream):
        return train
    _refuse(train, "train")
    if isinstance(train, (list, tuple)):
        return [batch_of(batch, f"train[{t}]") for t, batch in enumerate(train)]
    if hasattr(train, "__getitem__"):
        return train
    if isinstance(train, Iterable):
        return Stream(train, "train")
    raise TypeError(f"train: {_kind(train)} cannot be used as training data; {KINDS}")


def of_seed(train: Callable[[int], Any], size: int | None, seed: int) -> Any:
    """Returns the training data that a function makes from a seed; a dict of arrays in batches of `size`."""
    check_call(train, "train", seed)
    found = train(seed)
    if isinstance(found, Iterator):
        return Stream(found, "train", again=partial(train, seed))
    return _batched(training(found), size)


def part(data: Any, name: str) -> Any:
    """Normalizes a part to evaluate for `Data`: an iterable becomes a `Stream`, whose batches must be dicts."""
    if data is None or isinstance(data, Batches) or is_arrays(data):
        return data
    columns = lambda: all(isinstance(one, (list, tuple)) and is_numbers(one) for one in data.values())
    if isinstance(data, Mapping) and not columns():
        return {key: part(one, f"{name} {key}") for key, one in data.items()}
    if not isinstance(data, Stream):
        _refuse(data, name)
        counted = hasattr(data, "__getitem__") and hasattr(data, "__len__")
        if not (callable(data) or isinstance(data, Iterable) or counted):
            raise TypeError(f"{name}: {_kind(data)} cannot be evaluated; {KINDS}")
        if hasattr(data, "__len__") and len(data) >= ENDLESS:
            raise ValueError(f"{name}: this {_kind(data)} never ends; give a finite one")
        data = Stream(data, name)
    if not isinstance(data.example, Mapping):
        kind = type(data.example).__name__
        raise TypeError(f'{name}: a batch is a {kind} without names; give {{"x": ..., "y": ...}}')
    return data


KINDS = "give Batches, a dict of arrays of equal length, or an iterable of batches"


def is_arrays(data: Any) -> bool:
    """Returns whether this is a non-empty dict of arrays, each with a leading axis of rows."""
    return (
        isinstance(data, Mapping) and bool(data) and all(hasattr(x, "__array__") and np.ndim(x) for x in data.values())
    )


def _refuse(data: Any, name: str) -> None:
    """Raises TypeError or ValueError for containers that do not hold batches."""
    if isinstance(data, Mapping):
        kinds = ", ".join(f"{key} is a {type(one).__name__}" for key, one in list(data.items())[:4]) or "it is empty"
        raise TypeError(f"{name}: a dict must hold arrays of rows (convert with np.asarray), but {kinds}")
    wrong = isinstance(data, (str, bytes, PathLike, set)) or hasattr(data, "__array__") or hasattr(data, "columns")
    if wrong:
        raise TypeError(f"{name}: {_kind(data)} does not provide batches; {KINDS}")
    if isinstance(data, tuple) and all(hasattr(one, "__array__") for one in data):
        raise TypeError(f'{name}: a tuple of {len(data)} arrays has no names; give {{"x": ..., "y": ...}}')
    if isinstance(data, (list, tuple)) and not data:
        raise ValueError(f"{name}: the {type(data).__name__} is empty; {KINDS}")


def _kind(data: Any) -> str:
    kind = type(data)
    return f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.")


def _batched(data: Any, size: int | None) -> Any:
    if size is None:
        return data
    if is_arrays(data):
        return Batches(data, size)
    if isinstance(data, Mapping) and not in_memory(data):
        return {name: _batched(one, size) for name, one in data.items()}
    return data


def item(train: Any, t: int) -> Any:
    """Returns batch t of an indexable source, which starts again after its last batch."""
    try:
        return train[t]
    except IndexError:
        if (count := length_of(train)) is None or t < count:
            raise
        return train[t % count]


def batches_in(train: Any, size: int) -> float | None:
    """Returns the number of batches in a pass over training data, the largest of several; None if unknown.

    size: batch size for a dict of arrays.
    """
    train = of_seed(train, size, 0) if callable(train) else _batched(train, size)
    if in_memory(train):
        return max(x.length / x.batch_size for _, x in leaves(train))
    if isinstance(train, Stream):
        return train.batches
    return None if isinstance(train, Mapping) else length_of(train)


def example_of(train: Any) -> Any:
    """Returns a batch of training data; None for None and for a dict of arrays, which has no batches yet."""
    train = of_seed(train, None, 0) if callable(train) else train
    if in_memory(train):
        return mapped(lambda one: one.example, train)
    if train is None or is_arrays(train):
        return None
    if isinstance(train, Stream):
        return train.example
    try:
        found = mapped(np.asarray, item(train, 0))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        told = f"train[0] of {_kind(train)} raises {type(error).__name__}: {error}"
        raise TypeError(f"train: {' '.join(told.split())[:180]}; {KINDS}") from error
    check_batch(found, "train[0]")
    return found


def in_memory(train: Any) -> bool:
    """Returns whether training data are `Batches` or a pytree of `Batches`."""
    found = leaves(train)
    return bool(found) and all(is_batches(x) for _, x in found)
