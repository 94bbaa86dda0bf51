"""Errors about wrong or missing user data: one line that names the file, the problem and the fix."""

import difflib
from collections.abc import Collection, Iterable
from itertools import islice

from jaxdl.streams import Printable

COMPARED = 5000  # names that are compared with a misspelled one; a million would take minutes
LONG = 60  # characters shown of a name; a file that is not a table can have a name of megabytes


def some(names: Collection[str], most: int = 20) -> str:
    """Returns names as text for a message: the first ones, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(name if len(name) <= LONG else name[: LONG - 1] + "…" for name in islice(names, most)) + more


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Returns the name with the closest spelling, "" if none is close."""
    short = [other for other in islice(names, COMPARED) if len(other) <= LONG]
    return "".join(difflib.get_close_matches(name[:LONG], short, 1, cutoff))


def shown(path: object) -> str:
    """Returns a path as text that can be encoded: bytes that are not UTF-8 appear as \\udcff."""
    return str(path).encode("utf-8", "backslashreplace").decode()


class DataError(Printable, ValueError):
    """A file has wrong content: ``FILE: place and problem; what would be right``."""


class MissingData(Printable, FileNotFoundError):
    """A file or folder does not exist: its path and what would be right."""
