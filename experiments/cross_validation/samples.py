"""Small samples of the digits, and the models that are trained on their rows at once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdl.core import Experiment
from jaxdl.data import Batches, Data, k_folds, load_images
from jaxdl.methods import family

SIZES = 0.5, 1, 3  # of the samples, in units of --sample


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns all digits: x float32 [1797, 64] in 0..1, y int32 [1797]."""
    images = load_images("digits", valid=0.0)
    x, y = (np.concatenate([images.train[name], images.test[name]]) for name in ("x", "y"))
    return x.reshape(len(x), -1), y


class Samples(NamedTuple):
    """Rows of small samples, bool [N, sizes, splits, folds]: to train on, to test on, and outside of the sample."""

    train: np.ndarray
    test: np.ndarray
    rest: np.ndarray


def drawn(config: Any, count: int, r: int = 0) -> np.ndarray:
    """Returns all rows in the order of sample r: its first rows are the sample, whatever its size."""
    return np.random.default_rng((config.seed, r)).permutation(count)


def samples(config: Any, y: np.ndarray) -> Samples:
    """Draws samples of several sizes and splits each into folds; a larger sample contains the smaller ones."""
    shape = len(y), len(SIZES), config.splits, config.folds
    found = Samples(*(np.zeros(shape, bool) for _ in range(3)))
    for r in range(config.splits):
        order = drawn(config, len(y), r)
        for i, size in enumerate(SIZES):
            rows = order[: int(size * config.sample)]
            found.rest[order[len(rows) :], i, r] = True
            for k, (train, test) in enumerate(k_folds({"row": rows, "y": y[rows]}, config.folds, r)):
                found.train[train["row"], i, r, k] = True
                found.test[test["row"], i, r, k] = True
    return found


def members(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, size: int, rates: Sequence[float] = (1.0,),
    penalties: Sequence[float] = (0.0,),
) -> Data:  # fmt: skip
    """Returns the data of a family whose member f is trained on the rows x[train[:, f]] with labels y [N, G]."""
    mask = train.reshape(len(x), -1).astype(np.float32)
    facts = {"classes": int(y.max()) + 1, "rates": list(rates), "penalties": list(penalties)}
    return Data(Batches({"x": x, "y": y.astype(np.int32), "mask": mask}, size), facts=facts)


def data_of(config: Any) -> Data:
    """Returns the digits, with the rows that each member of the family is trained on."""
    x, y = digits()
    return members(x, y[:, None], samples(config, y).train, config.batch_size, penalties=(config.penalty,))


def build(config: Any, data: Data) -> Experiment:
    """Builds softmax regressions that are trained at once, each on its own rows."""
    facts = data.facts
    tx = config.make_optimizer(data)
    return family(tx, data.example, facts["classes"], facts["rates"], facts["penalties"])
