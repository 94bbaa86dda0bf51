"""A trained image classifier on images of a user's: the class of files, and the score on other sets."""

from typing import Any

import numpy as np

from jaxdl import run
from jaxdl.core import Experiment
from jaxdl.data import IMAGE_SETS, Batches, Images, load_folder, load_images, read_images, resized


def use(config: Any, about: dict[str, Any], model: Any, experiment: Experiment, probabilities: Any) -> run.Use:
    """What a classifier does after training, at the size of image that it was trained on.

    Args:
      config: of the run.
      about: its class `names`, and an `example` of a batch.
      model: the network.
      experiment: as it was trained.
      probabilities: (state, batch) -> [B, N].
    """
    names, shape = tuple(about["names"]), about["example"]["x"].shape[1:]

    def read(files: list[str]) -> tuple[list[str], Batches]:
        paths, x = read_images(files, shape)
        return paths, Batches({"x": x}, 256)

    def table(outputs: dict[str, np.ndarray]) -> dict[str, Any]:
        p = outputs["p"]
        best = {"class": [names[i] for i in p.argmax(-1)], "probability": [f"{x:.4f}" for x in p.max(-1)]}
        return best | {name: [f"{x:.4f}" for x in p[:, i]] for i, name in enumerate(names)}

    def load(source: str) -> Images:
        if source in IMAGE_SETS:
            return load_images(source, config.data_dir, valid=0)
        return load_folder(source, shape[:2], valid=0)

    def test(source: str) -> Batches:
        other = load(source)
        if other.names != names:
            raise run.FlagError(f"--evaluate={source}: its classes are {other.names[:10]}, this run's {names[:10]}")
        try:
            return Batches(other.test | {"x": resized(other.test["x"], shape)}, 256)
        except ValueError as error:
            raise run.FlagError(f"--evaluate={source}: {error}") from None

    return run.Use(experiment, model, read, lambda state, batch: {"p": probabilities(state, batch)}, table, test)
