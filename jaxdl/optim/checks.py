"""Argument checks that raise errors of one line."""

import difflib
from collections.abc import Collection
from typing import Any


def known(kind: str, name: str, names: Collection[str]) -> None:
    """Raises a ValueError that suggests the closest of `names` unless `name` is one of them."""
    if name not in names:
        nearest = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.0)[0]
        raise ValueError(f"{kind} must be one of {', '.join(names)}, got {name!r}; did you mean {nearest!r}?")


def require(ok: bool, name: str, value: Any, wanted: str) -> None:
    """Raises a ValueError, "{name} must be {wanted}, got {value}", unless `ok`."""
    if not ok:
        raise ValueError(f"{name} must be {wanted}, got {value}")
