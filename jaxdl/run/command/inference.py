"""What a finished run is used for: files that it predicts, data sets on which it is scored."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdl.data import IMAGE_SETS, Batches, Data, Images, augment, load_folder, load_images, read_images
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError


class Inference(NamedTuple):
    """What the run of an experiment can do after training; None where it cannot.

    read: files -> (the name of each row, the rows). table: {name: [n, ...]} of all rows' predictions -> the columns
    to show. test: a data set of the same kind, by name or path -> its test part. predict: (state, batch) -> {name:
    [B, ...]}, pure; the experiment's own if None.
    """

    read: Callable[[list[str]], tuple[list[str], Batches]] | None = None
    table: Callable[[Any], Mapping[str, Any]] = lambda outputs: outputs
    test: Callable[[str], Batches] | None = None
    predict: Callable[[Any, Any], dict[str, Any]] | None = None


def of_classes(p: np.ndarray, names: Sequence[str], title: str = "class", each: str = "{}") -> dict[str, list[str]]:
    """Columns of a table from probabilities [n, N]: the likeliest class, and the probability of each."""
    best = {title: [names[i] for i in p.argmax(-1)]}
    return best | {each.format(name): [f"{x:.4f}" for x in p[:, i]] for i, name in enumerate(names)}


def of_images(config: RunConfig, data: Data) -> Inference:
    """What a classifier of images does, which predicts probabilities [B, N]; files are brought to its images' size."""
    names, shape = tuple(data.facts["names"]), data.example["x"].shape[1:]

    def read(files: list[str]) -> tuple[list[str], Batches]:
        paths, x = read_images(files, shape)
        return paths, Batches({"x": x}, 256)

    def table(p: np.ndarray) -> dict[str, Any]:
        columns = of_classes(p, names)
        return {"class": columns.pop("class"), "probability": [f"{x:.4f}" for x in p.max(-1)]} | columns

    def load(source: str) -> Images:
        if source in IMAGE_SETS:
            return load_images(source, config.data_dir, valid=0)
        return load_folder(source, shape[:2], valid=0)

    def test(source: str) -> Batches:
        other = load(source)
        if other.names != names:
            raise FlagError(f"--evaluate={source}: its classes are {other.names[:10]}, this run's {names[:10]}")
        try:
            return Batches(other.test | {"x": augment.resized(other.test["x"], shape)}, 256)
        except ValueError as error:
            raise FlagError(f"--evaluate={source}: {error}") from None

    return Inference(read, table, test)
