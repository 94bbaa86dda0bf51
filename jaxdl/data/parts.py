"""What an experiment reads: its training, validation and test part, and what is worth remembering of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxdl.data.batches import Batches


def is_batches(x: Any) -> bool:
    """Whether this is a leaf of a pytree of training data."""
    return isinstance(x, Batches)


@dataclass(frozen=True)
class Data:
    """Three parts, no unit in two of them, and what a finished run has to know of them.

    train: `Batches`, or a pytree of them (a batch is then the same pytree), or anything whose `train[t]` is batch t
      (a `grain.MapDataset` for example), or a function from a seed to such data, or None where a step needs none.
    valid: what chooses a step or a hyperparameter looks at: `Batches`, or several by name, or None.
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
        """Takes the example from the training data where it is not given."""
        if self.example is None and self.train is not None:
            object.__setattr__(self, "example", example_of(self.train))


def example_of(train: Any) -> Any:
    """A batch of training data as `Data` describes them; None of None."""
    if in_memory(train):
        return _examples(train)
    return None if train is None else _arrays((train(0) if callable(train) else train)[0])


def in_memory(train: Any) -> bool:
    """Whether training data are `Batches`, or dicts, lists and tuples of nothing else."""
    if isinstance(train, Mapping):
        train = tuple(train.values())
    return is_batches(train) or (isinstance(train, (list, tuple)) and len(train) > 0 and all(map(in_memory, train)))


def _examples(train: Any) -> Any:
    if isinstance(train, Mapping):
        return {name: _examples(one) for name, one in train.items()}
    return train.example if is_batches(train) else type(train)(map(_examples, train))


def _arrays(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return {name: _arrays(one) for name, one in batch.items()}
    return type(batch)(map(_arrays, batch)) if isinstance(batch, (list, tuple)) else np.asarray(batch)
