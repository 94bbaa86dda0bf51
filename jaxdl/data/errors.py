"""What is raised when a user's data are wrong or missing: one line that names the file and what would be right."""

from collections.abc import Collection


def some(names: Collection[str], most: int = 20) -> str:
    """Names for a message: the first of them, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(list(names)[:most]) + more


class DataError(ValueError):
    """A file whose content is wrong: ``FILE: what is wrong at which place; what would be right``."""


class MissingData(FileNotFoundError):
    """A file or folder that is not there: the path looked for and what would be right."""
