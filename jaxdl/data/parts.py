"""What an experiment reads: its training, validation and test part, and what is worth remembering of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
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
        return _mapped(lambda one: one.example, train)
    return None if train is None else _mapped(np.asarray, (train(0) if callable(train) else train)[0])


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
