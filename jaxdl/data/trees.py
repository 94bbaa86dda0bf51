"""Pytrees of NumPy's arrays, for readers that do without jax.tree."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any


def children(tree: Any) -> tuple[dict[Any, Any], Callable[[list[Any]], Any]] | None:
    """What a container holds, by name or number, and how it is made of others; None of a leaf."""
    if isinstance(tree, Mapping):
        # | keeps what else a dict has, as a defaultdict's default
        make: Callable[[dict[Any, Any]], Any] = tree.__or__ if isinstance(tree, dict) else type(tree)
        return dict(tree), lambda new: make(dict(zip(tree, new, strict=True)))
    if isinstance(tree, (list, tuple)):
        return dict(enumerate(tree)), lambda new: type(tree)(*new) if hasattr(tree, "_fields") else type(tree)(new)
    if is_dataclass(tree) and not isinstance(tree, type):
        # a static field, as flax.struct and jax.tree_util.register_dataclass mark it, is no part of the data
        names = [f.name for f in fields(tree) if f.metadata.get("pytree_node", not f.metadata.get("static"))]
        inside = {name: getattr(tree, name) for name in names}
        return inside, lambda new: replace(tree, **dict(zip(names, new, strict=True)))
    return None


def leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """(path, leaf) of everything in a tree but None."""
    inside = children(tree)
    if inside is None:
        return [] if tree is None else [(path, tree)]
    return [leaf for name, one in inside[0].items() for leaf in leaves(one, f"{path}/{name}".lstrip("/"))]


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same tree with function(leaf) in the place of each leaf."""
    inside = children(tree)
    if inside is None:
        return None if tree is None else function(tree)
    return inside[1]([mapped(function, one) for one in inside[0].values()])
