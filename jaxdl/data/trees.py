"""Pytrees of NumPy arrays, for readers that do not import jax."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any


def children(tree: Any) -> tuple[dict[Any, Any], Callable[[list[Any]], Any]] | None:
    """Returns a container's children by name or index, and a function that rebuilds it from others; None for a leaf."""
    if isinstance(tree, Mapping):
        # | keeps further attributes, such as the default of a defaultdict
        make: Callable[[dict[Any, Any]], Any] = tree.__or__ if isinstance(tree, dict) else type(tree)
        return dict(tree), lambda new: make(dict(zip(tree, new, strict=True)))
    if isinstance(tree, (list, tuple)):
        return dict(enumerate(tree)), lambda new: type(tree)(*new) if hasattr(tree, "_fields") else type(tree)(new)
    if is_dataclass(tree) and not isinstance(tree, type):
        # a static field, as flax.struct and jax.tree_util.register_dataclass mark it, is not part of the data
        names = [f.name for f in fields(tree) if f.metadata.get("pytree_node", not f.metadata.get("static"))]
        inside = {name: getattr(tree, name) for name in names}
        return inside, lambda new: replace(tree, **dict(zip(names, new, strict=True)))
    return None


def leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """Returns (path, leaf) for each leaf of a tree that is not None."""
    inside = children(tree)
    if inside is None:
        return [] if tree is None else [(path, tree)]
    return [leaf for name, one in inside[0].items() for leaf in leaves(one, f"{path}/{name}".lstrip("/"))]


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Returns the same tree with each leaf replaced by function(leaf)."""
    inside = children(tree)
    if inside is None:
        return None if tree is None else function(tree)
    return inside[1]([mapped(function, one) for one in inside[0].values()])
