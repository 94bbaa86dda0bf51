"""A trained classifier as the judge of generated images: what it takes them for, how far they are from real ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn
from jax import Array

from jaxdl.core import Experiment
from jaxdl.metrics import frechet_distance


class Judge(NamedTuple):
    """Pure functions of images [n, H, W, C] in 0..1, and the accuracy of the classifier behind them."""

    probabilities: Callable[[Array], Array]  # -> [n, N]
    features: Callable[[Array], Array]  # -> [n, D], what the last dense layer sees
    accuracy: float


def judge(experiment: Experiment, state: Any, accuracy: float) -> Judge:
    """The judge that a trained classifier makes; its `predict` takes {"x": images} and ends in a dense layer.

    Raises:
      ValueError: the experiment predicts nothing.
    """
    predict = experiment.predict
    if predict is None:
        raise ValueError("a judge needs an experiment that predicts")

    def look(x: Array) -> tuple[Array, Array]:
        seen: list[Array] = []

        def note(layer: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            if isinstance(context.module, nn.Dense):
                seen.append(args[0])
            return layer(*args, **kwargs)

        with nn.intercept_methods(note):
            probabilities = predict(state, {"x": x})
        return probabilities, seen[-1]

    return Judge(lambda x: look(x)[0], lambda x: look(x)[1], accuracy)


def frechet_of(features: np.ndarray, others: np.ndarray) -> float:
    """The Frechet distance of two sets of features [n, D] (Heusel et al. 2017, arXiv:1706.08500)."""
    both: list[Any] = [
        (x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))) for x in (features.astype(float), others.astype(float))
    ]
    return frechet_distance(*both[0], *both[1])
