"""What is raised when a user's data are wrong or missing: one line that names the file and what would be right."""

import difflib
from collections.abc import Collection, Iterable
from itertools import islice

from jaxdl.streams import Printable

COMPARED = 5000  # names with a misspelled one: a million would take minutes
LONG = 60  # characters of a name; a file that is no table can have one of megabytes


def some(names: Collection[str], most: int = 20) -> str:
    """Names for a message: the first of them, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(name if len(name) <= LONG else name[: LONG - 1] + "…" for name in islice(names, most)) + more


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """The name that is spelled most like this one, "" if none is."""
    short = [other for other in islice(names, COMPARED) if len(other) <= LONG]
    return "".join(difflib.get_close_matches(name[:LONG], short, 1, cutoff))


def shown(path: object) -> str:
    """A path for a note, in characters that can be written: bytes of it that are not UTF-8 as \\udcff."""
    return str(path).encode("utf-8", "backslashreplace").decode()


class DataError(Printable, ValueError):
    """A file whose content is wrong: ``FILE: what is wrong at which place; what would be right``."""


class MissingData(Printable, FileNotFoundError):
    """A file or folder that is not there: the path looked for and what would be right."""
