"""Texts as characters: one that comes with Python, two in original files, any file; windows and streams of them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data.batches import Batches
from jaxdl.data.errors import DataError, shown
from jaxdl.data.files import CHUNK, FileSet, read_text
from jaxdl.data.splits import check_fraction

TEST_PART = 0.1  # of a text without a test part of its own, its end: nanoGPT's split of Tiny Shakespeare
TINYSHAKESPEARE = FileSet("Tiny Shakespeare", ("tinyshakespeare", ""), ("input.txt",))
WIKITEXT2 = FileSet(
    "WikiText-2 (train.txt, valid.txt, test.txt)", ("wikitext-2",), ("train.txt", "valid.txt", "test.txt")
)
SHORTEST = 1000  # characters of a text from which anything can be learned and tested


class Text(NamedTuple):
    """A text as numbers: token i is the character vocabulary[i]."""

    train: np.ndarray  # int32 [N]
    valid: np.ndarray | None  # int32 [L], for whatever chooses, a step or a hyperparameter; None: none is held out
    test: np.ndarray  # int32 [M]
    vocabulary: str  # the V characters of all parts, sorted
    note: str  # one line for the person who runs it: counts, where from

    def encode(self, text: str) -> np.ndarray:
        """Tokens int32 [T]; ValueError names a character that the text does not have."""
        unknown = sorted(set(text) - set(self.vocabulary))
        if unknown:
            raise ValueError(f"character {unknown[0]!r} is not in this text; it has {self.vocabulary!r}")
        return _encode(text, self.vocabulary)

    def decode(self, tokens: Any) -> str:
        """The text of tokens [T]."""
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
    """Loads a text by name, or any UTF-8 `file`, whose last tenth is the test part.

    ``python_docs`` is the reference documentation that CPython brings for `help()` and needs no files; it differs a
    little from version to version. The others are ``tinyshakespeare/input.txt``, whose last tenth is the test part, and
    ``wikitext-2/train.txt``, ``valid.txt`` and ``test.txt``, each a part, in data_dir.

    Args:
      name: one of TEXTS.
      data_dir: the folder with the original files; the environment variable JAXDL_DATA_DIR if not given.
      file: a text to read in place of a named one.
      valid: the part of the training text, its end, that is held out as the validation part, in [0, 1); 0: none.
        WikiText-2 has a validation part of its own, of whole articles: any other number takes all of it.

    Raises:
      ValueError: no such text, valid outside [0, 1).
      MissingData: files are not there.
      DataError: a file is not UTF-8, or too short.
    """
    check_fraction(valid)
    if file is not None:
        train, held_out, test, source = *_ends(read_text(file), valid), str(file)
    elif name in LOADERS:
        train, held_out, test, source = LOADERS[name](data_dir, valid)
    else:
        raise ValueError(f"no text {name!r}; there are {', '.join(TEXTS)}")
    parts = (train, held_out or "", test)
    if (length := sum(map(len, parts))) < SHORTEST:
        raise DataError(f"{source}: {length} characters are too few; at least {SHORTEST:,} are needed")
    vocabulary = "".join(sorted(set().union(*parts)))
    validated = "" if held_out is None else f", {len(held_out):,} to validate"
    counts = f"{len(train):,} characters to train{validated} and {len(test):,} to test"
    note = f"{counts}, {len(vocabulary)} different; {shown(source)}"
    tokens = [_encode(part, vocabulary) for part in parts]
    return Text(tokens[0], None if held_out is None else tokens[1], tokens[2], vocabulary, note)


def _ends(text: str, valid: float) -> tuple[str, str | None, str]:
    """The end of the text to test, the end of what is left to validate."""
    rest, test = _cut(text, TEST_PART)
    return (*_cut(rest, valid), test) if valid else (rest, None, test)


def _cut(text: str, last: float) -> tuple[str, str]:
    cut = int((1 - last) * len(text))
    return text[:cut], text[cut:]


def _encode(text: str, vocabulary: str) -> np.ndarray:
    points = lambda s: np.frombuffer(s.encode("utf-32-le"), np.uint32)
    tokens, known = np.empty(len(text), np.int32), points(vocabulary)
    for at in range(0, len(text), CHUNK):  # of the whole text, what searchsorted takes and gives is three times this
        tokens[at : at + CHUNK] = np.searchsorted(known, points(text[at : at + CHUNK]))
    return tokens


def windows(tokens: np.ndarray, length: int, batch_size: int, *, stride: int = 1) -> Batches:
    """Row i is {"x": tokens[i s : i s + T], "y": tokens[i s + 1 : i s + T + 1]}, int32 [B, T], for stride s.

    With stride 1 every full window is a row; with stride T every token but the first is predicted once, and a last
    window that is cut is filled up and has `mask` [B, T] 0 there.

    Args:
      tokens: integers [N], N >= 2.
      length: T.
      batch_size: B.
      stride: s, 1 or T.

    Raises:
      ValueError: the tokens are too few.
    """
    N, T = len(tokens), length
    rows = N - T if stride == 1 else -(-(N - 1) // stride)
    if rows < 1 or N < 2:
        raise ValueError(f"{N:,} tokens are too few for windows of {T} and the token that follows")
    ragged = (rows - 1) * stride + T + 1 > N

    def take(arrays: Any, row: Any) -> dict[str, Any]:
        at = row[:, None] * stride + np.arange(T + 1)[None]
        found = arrays["tokens"][at.clip(max=N - 1)]
        batch = {"x": found[:, :-1], "y": found[:, 1:]}
        return batch | {"mask": (at[:, 1:] < N).astype(np.float32)} if ragged else batch

    return Batches({"tokens": tokens}, batch_size, take=take, length=rows)


def first_windows(tokens: np.ndarray, length: int, most: int) -> dict[str, np.ndarray]:
    """The first windows of tokens [N], at most so many, side by side: x and y [n, T] as `windows` gives them."""
    every = windows(tokens, length, 1, stride=length)
    return every.take(every.arrays, np.arange(min(most, max(1, (len(tokens) - 1) // length))))


def streams(tokens: np.ndarray, length: int, batch_size: int) -> Batches:
    """B streams side by side, for truncated back-propagation: row b of batch t + 1 goes on where row b of batch t ends.

    The text is cut into B equal parts, each into n windows of T; row b n + w is window w of part b, and batch t is
    window t mod n of every part, whatever the seed. Beside "x" and "y", as in `windows`, a batch has "fresh", bool [B]:
    the window is the first of its part, and whatever the model remembers does not belong to it. At most B T tokens at
    the end are left out.

    Args:
      tokens: integers [N].
      length: T.
      batch_size: B.

    Raises:
      ValueError: the tokens are too few for one window in each part.
    """
    n = (len(tokens) - 1) // (batch_size * length)
    if n < 1:
        needed = batch_size * length + 1
        raise ValueError(f"{len(tokens):,} tokens are too few for {batch_size} windows of {length}: {needed:,} needed")
    every = windows(tokens[: batch_size * n * length + 1], length, batch_size, stride=length)
    first = np.arange(batch_size, dtype=np.int32) * n
    return Batches(
        every.arrays,
        batch_size,
        order=lambda seed, t: first + np.int32(t % n),
        take=lambda arrays, row: every.take(arrays, row) | {"fresh": row % n == 0},
        length=every.length,
    )
