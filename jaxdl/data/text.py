"""Texts as characters: one bundled with Python, two from original files, any file; windows and streams over them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.batches import Batches
from jaxdl.data.errors import DataError, shown
from jaxdl.data.files import CHUNK, FileSet, read_text
from jaxdl.data.splits import check_fraction

TEST_PART = 0.1  # the end of a text without a test part of its own: nanoGPT's split of Tiny Shakespeare
TINYSHAKESPEARE = FileSet("Tiny Shakespeare", ("tinyshakespeare", ""), ("input.txt",))
WIKITEXT2 = FileSet(
    "WikiText-2 (train.txt, valid.txt, test.txt)", ("wikitext-2",), ("train.txt", "valid.txt", "test.txt")
)
SHORTEST = 1000  # characters of a text; fewer are too few for training and testing


class Text(NamedTuple):
    """A text as tokens: token i is the character vocabulary[i]."""

    train: np.ndarray  # int32 [N]
    valid: np.ndarray | None  # int32 [L], for choosing a step or a hyperparameter; None: not held out
    test: np.ndarray  # int32 [M]
    vocabulary: str  # the V characters of all parts, sorted
    note: str  # one line for the user: counts, source

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens int32 [T]; ValueError for a character that is not in the vocabulary."""
        unknown = sorted(set(text) - set(self.vocabulary))
        if unknown:
            raise ValueError(f"character {unknown[0]!r} is not in the vocabulary {self.vocabulary!r}")
        return _encode(text, self.vocabulary)

    def decode(self, tokens: Any) -> str:
        """Returns the text of tokens [T]."""
        return "".join(self.vocabulary[token] for token in np.asarray(tokens))


Parts = tuple[str, str | None, str, str]  # training, validation and test part, source


def _python_docs(data_dir: str | Path | None, valid: float) -> Parts:
    from pydoc_data.topics import topics

    version = ".".join(map(str, sys.version_info[:3]))
    return *_ends("\n".join(topics[name] for name in sorted(topics)), valid), f"pydoc_data.topics of Python {version}"


def _tinyshakespeare(data_dir: str | Path | None, valid: float) -> Parts:
    (path,) = TINYSHAKESPEARE.paths(data_dir)
    return *_ends(read_text(path), valid), str(path)


def _wikitext2(data_dir: str | Path | None, valid: float) -> Parts:
    train, held_out, test = WIKITEXT2.paths(data_dir)
    return read_text(train), read_text(held_out) if valid else None, read_text(test), str(train.parent)


LOADERS: dict[str, Callable[[str | Path | None, float], Parts]] = {
    "python_docs": _python_docs,
    "tinyshakespeare": _tinyshakespeare,
    "wikitext2": _wikitext2,
}
TEXTS = tuple(LOADERS)


def load_text(
    name: str = "python_docs",
    data_dir: str | Path | None = None,
    *,
    file: str | Path | None = None,
    valid: float = 0.1,
) -> Text:
    """Loads a text by name, or any UTF-8 `file`, with its last tenth as the test part.

    ``python_docs`` is the reference documentation of CPython for `help()` and needs no files; it differs slightly
    between versions of Python. The others are read from data_dir: ``tinyshakespeare/input.txt``, with its last tenth
    as the test part, and ``wikitext-2/train.txt``, ``valid.txt`` and ``test.txt``, one file per part.

    Args:
      name: one of TEXTS.
      data_dir: the folder with the original files; the environment variable JAXDL_DATA_DIR if not given.
      file: a text to read instead of a named one.
      valid: fraction of the training text, at its end, held out for validation, in [0, 1); 0: none. WikiText-2 has a
        validation part of whole articles, which is used completely for any other number.

    Raises:
      ValueError: the text is unknown, or valid is outside [0, 1).
      MissingData: a file does not exist.
      DataError: a file is not UTF-8, or too short.
    """
    check_fraction(valid)
    if file is not None:
        train, held_out, test, source = *_ends(read_text(file), valid), str(file)
    elif name in LOADERS:
        train, held_out, test, source = LOADERS[name](data_dir, valid)
    else:
        raise ValueError(f"unknown text {name!r}; known: {', '.join(TEXTS)}")
    parts = (train, held_out or "", test)
    if (length := sum(map(len, parts))) < SHORTEST:
        raise DataError(f"{source}: only {length} characters; at least {SHORTEST:,} are needed")
    vocabulary = "".join(sorted(set().union(*parts)))
    validated = "" if held_out is None else f", {len(held_out):,} validation"
    counts = f"{len(train):,} training{validated} and {len(test):,} test characters"
    note = f"{counts}, {len(vocabulary)} different ones; {shown(source)}"
    tokens = [_encode(part, vocabulary) for part in parts]
    return Text(tokens[0], None if held_out is None else tokens[1], tokens[2], vocabulary, note)


def _ends(text: str, valid: float) -> tuple[str, str | None, str]:
    """Splits off the end of the text for testing, and the end of the rest for validation."""
    rest, test = _cut(text, TEST_PART)
    return (*_cut(rest, valid), test) if valid else (rest, None, test)


def _cut(text: str, last: float) -> tuple[str, str]:
    cut = int((1 - last) * len(text))
    return text[:cut], text[cut:]


def _encode(text: str, vocabulary: str) -> np.ndarray:
    points = lambda s: np.frombuffer(s.encode("utf-32-le"), np.uint32)
    tokens, known = np.empty(len(text), np.int32), points(vocabulary)
    for at in range(0, len(text), CHUNK):  # in chunks, because searchsorted needs three times the memory
        tokens[at : at + CHUNK] = np.searchsorted(known, points(text[at : at + CHUNK]))
    return tokens


def windows(tokens: np.ndarray, length: int, batch_size: int, *, stride: int = 1) -> Batches:
    """Returns windows: row i is {"x": tokens[i s : i s + T], "y": tokens[i s + 1 : i s + T + 1]}, int32 [B, T].

    With stride s = 1 every full window is a row. With stride T every token except the first is predicted once; a
    shorter last window is padded, and its `mask` [B, T] is 0 there.

    Args:
      tokens: integers [N], N >= 2.
      length: T.
      batch_size: B.
      stride: s, 1 or T.

    Raises:
      ValueError: there are too few tokens.
    """
    N, T = len(tokens), length
    rows = N - T if stride == 1 else -(-(N - 1) // stride)
    if rows < 1 or N < 2:
        needed = T + 1 if stride == 1 else 2
        raise ValueError(f"{N:,} tokens are too few for windows of {T}; {needed:,} are needed")
    ragged = (rows - 1) * stride + T + 1 > N

    def take(arrays: Any, row: Any) -> dict[str, Any]:
        at = row[:, None] * stride + np.arange(T + 1)[None]
        found = arrays["tokens"][at.clip(max=N - 1)]
        batch = {"x": found[:, :-1], "y": found[:, 1:]}
        return batch | {"mask": (at[:, 1:] < N).astype(np.float32)} if ragged else batch

    return Batches({"tokens": tokens}, batch_size, take=take, length=rows)


def first_windows(tokens: np.ndarray, length: int, most: int) -> dict[str, np.ndarray]:
    """Returns up to `most` windows from the start of tokens [N], without overlap: x and y [n, T] as in `windows`."""
    every = windows(tokens, length, 1, stride=length)
    return every.take(every.arrays, np.arange(min(most, max(1, (len(tokens) - 1) // length))))


def streams(tokens: np.ndarray, length: int, batch_size: int) -> Batches:
    """Returns B parallel streams for truncated back-propagation: row b of batch t + 1 continues row b of batch t.

    The text is split into B equal parts of n windows of length T. Row b n + w is window w of part b, and batch t holds
    window t mod n of every part, for every seed. In addition to "x" and "y", as in `windows`, a batch has "fresh",
    bool [B]: the window is the first of its part, so the model's memory must be reset. Up to B T tokens at the end are
    dropped.

    Args:
      tokens: integers [N].
      length: T.
      batch_size: B.

    Raises:
      ValueError: there are too few tokens for one window in each part.
    """
    n = (len(tokens) - 1) // (batch_size * length)
    if n < 1:
        needed = batch_size * length + 1
        raise ValueError(
            f"{len(tokens):,} tokens are too few for {batch_size} windows of {length}; {needed:,} are needed"
        )
    every = windows(tokens[: batch_size * n * length + 1], length, batch_size, stride=length)
    first = np.arange(batch_size, dtype=np.int32) * n
    return Batches(
        every.arrays,
        batch_size,
        order=lambda seed, t: first + np.int32(t % n),
        take=lambda arrays, row: every.take(arrays, row) | {"fresh": row % n == 0},
        length=every.length,
    )
