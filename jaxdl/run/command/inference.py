"""What a finished run is used for: files that it predicts, data sets on which it is scored."""

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
    """What a finished run does with new data; None where it cannot.

    read: words of a command line, names of files above all -> (a name for each row, the rows).
    encode: what a program has at hand, arrays, a table, a text -> the rows, with all that training did to its data.
    predict: (state, batch) -> {name: [B, ...]} or an array [B, ...], pure; the experiment's own if None.
    decode: the outputs of all rows -> what `run.predict` returns; as they are if None.
    table: the outputs of all rows -> {column: values}, to be shown and written.
    images: the outputs of all rows -> pictures [n, H, W, C] in 0..1, to be shown and written.
    words: whether what names no file is itself an input: a prompt, a number of samples.
    test: a data set of the same kind, by name or path -> its test part.
    """

    read: Callable[[list[str]], tuple[list[str], Batches]] | None = None
    encode: Callable[[Any], Batches] | None = None
    predict: Callable[[Any, Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None
    table: Callable[[Any], Mapping[str, Any]] | None = None
    images: Callable[[Any], np.ndarray] | None = None
    words: bool = False
    test: Callable[[str], Batches] | None = None


def of_classes(p: np.ndarray, names: Sequence[str], title: str = "class", each: str = "{}") -> dict[str, list[str]]:
    """Columns of a table from probabilities [n, N]: the likeliest class, and the probability of each."""
    best = {title: [names[i] for i in p.argmax(-1)]}
    return best | {each.format(name): [f"{x:.4f}" for x in p[:, i]] for i, name in enumerate(names)}


def of_images(config: RunConfig, data: Data) -> Inference:
    """What a classifier of images does, which predicts probabilities [B, N]; images are brought to its own size.

    A folder on which it is scored holds a folder of images for each of its classes, or for some: all are scored, or
    those of test/ where it has that. `encode` takes arrays of uint8 in 0..255 or floats in 0..1, [n, H, W, C],
    [n, H, W], [H, W, C] or [H, W], Pillow images, paths and lists of these, as `jaxdl.data.encode_images` says.
    """
    names, example = tuple(data.facts["names"]), data.example["x"]
    shape = example.shape[1:]

    def read(files: list[str]) -> tuple[list[str], Batches]:
        paths, x = read_images(files, shape)
        return paths, Batches({"x": x}, 256)

    def table(p: np.ndarray) -> dict[str, Any]:
        columns = of_classes(p, names)
        return {"class": columns.pop("class"), "probability": [f"{x:.4f}" for x in p.max(-1)]} | columns

    def test(source: str) -> Batches:
        if source not in IMAGE_SETS:
            labelled = load_labelled(source, names, shape)
            log(labelled.note)
            return Batches(labelled.arrays, 256)
        other = load_images(source, config.data_dir, valid=0)
        if other.names != names:
            raise FlagError(f"--evaluate={source}: its classes are {other.names[:10]}, this run's {names[:10]}")
        try:
            return Batches(other.test | {"x": augment.resized(other.test["x"], shape)}, 256)
        except ValueError as error:
            raise FlagError(f"--evaluate={source}: {error}") from None

    encode = lambda images: Batches({"x": encode_images(images, shape, example.dtype)}, 256)
    return Inference(read, encode, table=table, test=test)
