"""Arguments out of range, in one line that names the nearest right one."""

import difflib
from collections.abc import Collection
from typing import Any


def known(kind: str, name: str, names: Collection[str]) -> None:
    """Raises ValueError for a name that is none of these, with the nearest."""
    if name not in names:
        nearest = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.0)[0]
        raise ValueError(f"no {kind} {name!r}; did you mean {nearest!r}? There are {', '.join(names)}")


def require(ok: bool, name: str, value: Any, wanted: str) -> None:
    """Raises ValueError unless `ok`."""
    if not ok:
        raise ValueError(f"{name}={value} must be {wanted}")
