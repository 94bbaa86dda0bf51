"""What reaches a terminal: nothing but text, and a terminal that is gone ends nothing.

Nothing heavy is imported here: it runs before jax does.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any


def printable(text: object) -> str:
    """`text` with every character that a terminal would obey, and not show, written as an escape: \\x1b, \\n, \\u202e.

    Names of files, folders and classes come from elsewhere; a control sequence in one could repaint the screen, and a
    line break could fake a row of a table.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in str(text)
    )


def shell(words: Sequence[str]) -> str:
    """The words as a line for a shell that gives them back; one that is not printable is written as $'\\x1b'.

    Bytes of a name that are not UTF-8 are given back too.
    """
    return " ".join(shlex.quote(word) if word.isprintable() else f"$'{_escaped(word)}'" for word in words)


def _escaped(word: str) -> str:
    plain = lambda c: c.isprintable() and c not in "\\'"
    errors = lambda c: "surrogateescape" if "\udc80" <= c <= "\udcff" else "surrogatepass"
    coded = lambda c: "".join(f"\\x{byte:02x}" for byte in c.encode("utf-8", errors(c)))
    return "".join(c if plain(c) else coded(c) for c in word)


class Printable:
    """What makes the text of an exception fit to be shown anywhere."""

    def __str__(self) -> str:
        """The text, which may quote names that come from elsewhere, in printable characters."""
        return printable(super().__str__())


class Unfailing:
    """A text stream whose first failing write, on a closed pipe or a full disk, is its last: later ones go nowhere.

    Everything but `write` and `flush` is the stream's own.
    """

    def __init__(self, stream: Any) -> None:
        """Wraps the stream; characters that its encoding lacks are written as escapes."""
        self._stream = stream
        self.failed = ""  # what the system said
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """The length of the text, whatever becomes of it."""
        with self._forgiving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Sends what is buffered."""
        with self._forgiving():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """What the stream has."""
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _forgiving(self) -> Any:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self.failed = self.failed or getattr(error, "strerror", None) or str(error)
            with contextlib.suppress(OSError, ValueError):  # what is still buffered must not fail at the exit again
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self._stream.fileno())
                os.close(nothing)


def open_descriptors() -> None:
    """Opens /dev/null in place of a closed stdin, stdout or stderr: else the next file opened would get its number.

    A daemon's `2>&-` would let a library's message be written into a checkpoint.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115


def keep_streams() -> None:
    """Makes stdout and stderr streams that cannot end the program."""
    open_descriptors()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Unfailing):
            setattr(sys, name, Unfailing(stream))
