"""Functions with which a finished run predicts for files and arrays, or is evaluated on other data sets."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data import (
    IMAGE_SETS,
    Batches,
    Data,
    augment,
    encode_images,
    load_images,
    load_labelled,
    read_images,
)
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError
from jaxdl.run.show.report import log


class Inference(NamedTuple):
    """Functions of a finished run for new data; None for what it does not support.

    read: words of a command line, mostly file names -> (a name for each row, the rows).
    encode: Python objects such as arrays, a table or a text -> the rows, preprocessed like the training data.
    predict: (state, batch) -> {name: [B, ...]} or an array [B, ...], pure; None: the experiment's own `predict`.
    decode: outputs of all rows -> the return value of `run.predict`; None: the outputs themselves.
    table: outputs of all rows -> {column: values}, to be printed and written; the predicted class or number of each row
      is in the column "prediction".
    say: (names, outputs of all rows) -> text to print instead of the first rows of the table.
    images: outputs of all rows -> images [n, H, W, C] in 0..1, to be plotted and written; None if they are not images.
    words: whether a word that names no file is an input itself, such as a prompt or a number of samples.
    test: name or path of a data set of the same kind -> its test part.
    labels: arrays of the test part -> the true value of each row, in the form of the column "prediction".
    """

    read: Callable[[list[str]], tuple[list[str], Batches]] | None = None
    encode: Callable[[Any], Batches] | None = None
    predict: Callable[[Any, Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None
    table: Callable[[Any], Mapping[str, Any]] | None = None
    say: Callable[[list[str], Any], str] | None = None
    images: Callable[[Any], np.ndarray | None] | None = None
    words: bool = False
    test: Callable[[str], Batches] | None = None
    labels: Callable[[Mapping[str, Any]], Sequence[Any]] | None = None


def count_of(word: Any) -> int:
    """Returns a number of samples as an int; raises FlagError if it is not one."""
    number = int(word) if str(word).isdecimal() and len(str(word)) < 7 else 0
    if not number:
        raise FlagError(f"predict={word}: must be a number of samples from 1 to 999999")
    return number


def of_numbers(data: Data, targets: Sequence[str], scales: Mapping[str, Any] | None = None) -> Inference:
    """Returns the functions of a regression on numeric columns.

    targets: names of the columns of predictions; a single one is named "prediction". scales: mean and deviation of x
    and y in training.
    """
    width = data.example["x"].shape[-1]
    x_mean, x_deviation, y_mean, y_deviation = (
        np.asarray((scales or {}).get(f"{name}_{kind}", plain), np.float64)
        for name in "xy" for kind, plain in (("mean", 0), ("deviation", 1))
    )  # fmt: skip

    def encode(inputs: Any) -> Batches:
        try:
            x = np.asarray(inputs, np.float64)
            x = x.reshape(-1, 1) if width == 1 and x.ndim < 2 else np.atleast_2d(x)
        except (TypeError, ValueError):
            raise FlagError(f"predict: must be numbers [n, {width}], not {inputs!r:.60}") from None
        if x.ndim != 2 or x.shape[1] != width or not len(x) or not np.isfinite(x).all():
            raise FlagError(f"predict: must be finite numbers [n, {width}], not an array of shape {list(x.shape)}")
        return Batches({"x": ((x - x_mean) / x_deviation).astype(np.float32)}, min(256, len(x)))

    def read(words: list[str]) -> tuple[list[str], Batches]:
        lines = words[0].split("," if width == 1 else ";")
        return lines, encode([line.split(",") for line in lines])

    decode = lambda outputs: outputs * y_deviation + y_mean
    columns = ("prediction",) if len(targets) == 1 else targets
    table = lambda outputs: dict(zip(columns, np.round(decode(outputs), 6).T.tolist(), strict=True))
    labels = lambda arrays: np.round(decode(arrays["y"][:, 0]), 6).tolist()
    return Inference(read, encode, decode=decode, table=table, words=True, labels=labels if len(targets) == 1 else None)


def of_classes(p: np.ndarray, names: Sequence[str], each: str = "{}") -> dict[str, list[str]]:
    """Returns table columns for probabilities [n, N]: the most likely class, and the probability of each class."""
    best = {"prediction": [names[i] for i in p.argmax(-1)]}
    return best | {each.format(name): [f"{x:.4f}" for x in p[:, i]] for i, name in enumerate(names)}


def of_images(config: RunConfig, data: Data) -> Inference:
    """Returns the functions of an image classifier that predicts probabilities [B, N]; images are resized to its input.

    `test` accepts a folder that contains a folder of images for each class, or for some classes; if it contains test/,
    only that part is evaluated. `encode` accepts uint8 arrays in 0..255 or floats in 0..1, of shape [n, H, W, C],
    [n, H, W], [H, W, C] or [H, W], Pillow images, paths, and lists of these; see `jaxdl.data.encode_images`.
    """
    names, example = tuple(data.facts["names"]), data.example["x"]
    shape = example.shape[1:]

    def read(files: list[str]) -> tuple[list[str], Batches]:
        paths, x = read_images(files, shape)
        return paths, Batches({"x": x}, 256)

    def table(p: np.ndarray) -> dict[str, Any]:
        columns = of_classes(p, names)
        return {"prediction": columns["prediction"], "probability": [f"{x:.4f}" for x in p.max(-1)]} | columns

    def test(source: str) -> Batches:
        if source not in IMAGE_SETS:
            labelled = load_labelled(source, names, shape)
            log(labelled.note)
            return Batches(labelled.arrays, 256)
        other = load_images(source, config.data_dir, valid=0)
        if other.names != names:
            raise FlagError(f"--evaluate={source}: must have this run's classes {names[:10]}, not {other.names[:10]}")
        try:
            return Batches(other.test | {"x": augment.resized(other.test["x"], shape)}, 256)
        except ValueError as error:
            raise FlagError(f"--evaluate={source}: {error}") from None

    encode = lambda images: Batches({"x": encode_images(images, shape, example.dtype)}, 256)
    labels = lambda arrays: [names[i] for i in arrays["y"]]
    return Inference(read, encode, table=table, test=test, labels=labels)
