"""A classifier that judges generated images: the `image_classifier` of the same data set, trained once with seed 0."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn
from jax import Array

from experiments import image_classifier
from jaxdl import metrics, run
from jaxdl.data import Images


class Judge(NamedTuple):
    """Pure functions of images [n, H, W, C] in 0..1, and the accuracy on the test images of what stands behind them."""

    probabilities: Callable[[Array], Array]  # -> [n, N]
    features: Callable[[Array], Array]  # -> [n, D], what the last dense layer sees
    accuracy: float


def judge(config: run.RunConfig, images: Images) -> Judge:
    """Trains the recipe of `images`' data set into workdir/classifier, or loads it from there."""
    kept = ("valid_fraction", "data_dir", "workdir", "progress", "parallel", "devices")
    same = {name: getattr(config, name) for name in kept}
    recipe = image_classifier.Config(dataset=images.name, seed=0, seeds=1, tensorboard=False, **same).with_recipe()
    train, valid, test = image_classifier.data(recipe, images)
    recipe, n = recipe.resolve(train), len(images.names)
    experiment = image_classifier.build(recipe, train.example, n)
    result = run.fit(experiment, train, valid, recipe, test=test, name="classifier")
    model = image_classifier.make_model(recipe, n)

    def look(x: Array) -> tuple[Array, Array]:
        seen: list[Array] = []

        def note(layer: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            if isinstance(context.module, nn.Dense):
                seen.append(args[0])
            return layer(*args, **kwargs)

        with nn.intercept_methods(note):
            logits: Any = model.apply(result.state.variables, *image_classifier.inputs({"x": x}))
        return nn.softmax(logits), seen[-1]

    return Judge(lambda x: look(x)[0], lambda x: look(x)[1], result.metrics["accuracy"])


def frechet_of(features: np.ndarray, others: np.ndarray) -> float:
    """The Frechet distance of two sets of features [n, D]."""
    both: list[Any] = [(x.mean(0), np.cov(x, rowvar=False)) for x in (features.astype(float), others.astype(float))]
    return metrics.frechet_distance(*both[0], *both[1])
