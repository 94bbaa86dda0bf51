"""Judges of generated images: a trained classifier's probabilities, features and Frechet distances."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn
from jax import Array

from jaxdl.core import Experiment
from jaxdl.metrics import frechet_distance


class Judge(NamedTuple):
    """Pure functions of a trained classifier, which take images [n, H, W, C] in [0, 1].

    Attributes:
      probabilities: images -> class probabilities [n, N].
      features: images -> inputs of the last dense layer [n, D].
      accuracy: test accuracy of the classifier, in [0, 1].
    """

    probabilities: Callable[[Array], Array]
    features: Callable[[Array], Array]
    accuracy: float


def judge(experiment: Experiment, state: Any, accuracy: float) -> Judge:
    """Returns a judge from a trained classifier.

    Args:
      experiment: the classifier's experiment; `predict` takes {"x": images}, returns probabilities [n, N] and applies a
        dense layer last.
      state: its trained state.
      accuracy: its test accuracy, in [0, 1].

    Raises:
      ValueError: if `experiment.predict` is None.
    """
    predict = experiment.predict
    if predict is None:
        raise ValueError("judge: experiment.predict must be a function, got None")

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
    """Returns the Frechet distance of Gaussians fitted to two sets of features.

    Args:
      features: [n, D], n >= 2.
      others: [m, D], m >= 2.

    Returns:
      `jaxdl.metrics.frechet_distance` of the sample means and covariances, >= 0.

    Reference: Heusel et al. 2017, arXiv:1706.08500.
    """
    both: list[Any] = [
        (x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))) for x in (features.astype(float), others.astype(float))
    ]
    return frechet_distance(*both[0], *both[1])
