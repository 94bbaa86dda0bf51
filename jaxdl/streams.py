"""Output streams: only text reaches a terminal, and a closed terminal does not end the program.

This module imports nothing heavy: it runs before jax does.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any


def printable(text: object) -> str:
    """Returns `text` with every control character written as an escape: \\x1b, \\n, \\u202e.

    Names of files, folders and classes are untrusted: a control sequence could repaint the screen, and a line break
    could fake a row of a table.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in str(text)
    )


def shell(words: Sequence[str]) -> str:
    """Joins words into a line that a shell splits into the same words; unprintable ones are written as $'\\x1b'.

    Bytes of a name that are not UTF-8 are preserved.
    """
    return " ".join(shlex.quote(word) if word.isprintable() else f"$'{_escaped(word)}'" for word in words)


def _escaped(word: str) -> str:
    plain = lambda c: c.isprintable() and c not in "\\'"
    errors = lambda c: "surrogateescape" if "\udc80" <= c <= "\udcff" else "surrogatepass"
    coded = lambda c: "".join(f"\\x{byte:02x}" for byte in c.encode("utf-8", errors(c)))
    return "".join(c if plain(c) else coded(c) for c in word)


class Printable:
    """Makes the text of an exception safe to print."""

    def __str__(self) -> str:
        """Returns the text, which may quote untrusted names, in printable characters."""
        return printable(super().__str__())


class Unfailing:
    """A text stream that writes nothing more after its first failed write, to a closed pipe or a full disk.

    Everything except `write` and `flush` is the stream's own.
    """

    def __init__(self, stream: Any) -> None:
        """Wraps the stream; characters that its encoding lacks are written as escapes."""
        self._stream = stream
        self.failed = ""  # the system's message
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Writes the text and returns its length, even if writing fails."""
        with self._forgiving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes the buffer."""
        with self._forgiving():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Returns the stream's attribute."""
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _forgiving(self) -> Any:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self.failed = self.failed or getattr(error, "strerror", None) or str(error)
            with contextlib.suppress(OSError, ValueError):  # buffered text must not fail again at exit
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self._stream.fileno())
                os.close(nothing)


def open_descriptors() -> None:
    """Opens /dev/null in place of a closed stdin, stdout or stderr: else the next opened file would get its number.

    With a daemon's `2>&-`, a library's message could otherwise be written into a checkpoint.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115


def keep_streams() -> None:
    """Replaces stdout and stderr by streams that cannot end the program."""
    open_descriptors()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Unfailing):
            setattr(sys, name, Unfailing(stream))
