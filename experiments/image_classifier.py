"""Image classification: one model by --model on one data set by --dataset, reported beside published figures.

Trains a softmax regression, an MLP, LeNet-5, the 32-64 CNN of flax's MNIST example or a ResNet with cross-entropy
    L = -log softmax(f(x))_y
and writes curves, a confusion matrix and the worst mistakes into the run's folder.

    python -m experiments.image_classifier                                       # digits, 5 seeds, no files needed
    python -m experiments.image_classifier --dataset=mnist --data_dir=DATA       # LeNet-5, 6 epochs
    python -m experiments.image_classifier --dataset=mnist --model=cnn --epochs=10 --data_dir=DATA
    python -m experiments.image_classifier --dataset=cifar10 --model=resnet20 --epochs=5 --data_dir=DATA

Mission rows I12 and B27. LeCun, Bottou, Bengio and Haffner 1998; He, Zhang, Ren and Sun 2015 (arXiv:1512.03385).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from jaxdl import metrics, run
from jaxdl.core import Experiment, supervised
from jaxdl.data import IMAGE_SETS, Batches, Images, augment, load_images, unit
from jaxdl.losses import softmax_cross_entropy
from jaxdl.nn import CNN, MLP, LeNet5, ResNet, ResNet18
from jaxdl.run import Claim, flag, plots

MODELS: dict[str, Any] = {  # classes -> network
    "softmax": lambda classes: MLP((classes,)),
    "mlp": lambda classes: MLP((256, 128, classes)),
    "lenet": lambda classes: LeNet5(classes=classes),
    "cnn": lambda classes: CNN(classes=classes),
    "resnet18": ResNet18,
} | {f"resnet{depth}": partial(ResNet, depth) for depth in (20, 32, 56)}
AUGMENTATIONS = {
    "flip": augment.flip,
    "shift": partial(augment.shift, pixels=1),
    "crop": partial(augment.shift, pixels=4),
    "rotate": partial(augment.rotate, degrees=10),
    "noise": partial(augment.noise, scale=0.1),
}


class Recipe(NamedTuple):
    """What a data set is trained with unless flags say otherwise."""

    model: str
    epochs: float
    seeds: int = 1
    augment: str = "none"
    classes: int = 10


RECIPES = {
    "digits": Recipe("cnn", 80, seeds=5, augment="shift"),
    "glyphs": Recipe("cnn", 30, classes=62),
    "mnist": Recipe("lenet", 6),
    "fashion_mnist": Recipe("cnn", 5),
    "usps": Recipe("cnn", 15, augment="shift"),
    "cifar10": Recipe("resnet20", 5, augment="flip,crop"),
}
REFERENCES = {  # (data set, model) -> accuracy and where it is published
    ("mnist", "lenet"): (0.9905, "LeCun 1998, LeNet-5 without distortions"),
    ("mnist", "cnn"): (0.9917, "flax's MNIST example, 10 epochs"),
    ("fashion_mnist", "cnn"): (0.916, "fashion-mnist README, 2 conv layers, > 300 epochs"),
    ("fashion_mnist", "mlp"): (0.900, "fashion-mnist README, MLP 256-128-64"),
    ("usps", "cnn"): (0.975, 'zip.info.txt: "a 2.5% error rate is excellent"'),
    ("cifar10", "resnet20"): (0.9125, "He 2015 table 6: 50,000 images, 164 epochs"),
    ("cifar10", "resnet56"): (0.9303, "He 2015 table 6: 50,000 images, 164 epochs"),
}
TARGETS = {("digits", "cnn"): 0.985, ("mnist", "lenet"): 0.99, ("mnist", "cnn"): 0.99}
SMALL = {"dataset": "digits", "seeds": 1}  # where the tests check the claims


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment; `auto` and 0 stand for the data set's own recipe."""

    dataset: str = flag("digits", "images; all but digits and glyphs are files in --data_dir", choices=IMAGE_SETS)
    model: str = flag("auto", "architecture; auto: the data set's own", choices=("auto", *MODELS))
    augment: str = flag("auto", f"none, or some of {','.join(AUGMENTATIONS)}; auto: the data set's own")
    seeds: int = flag(0, "runs, with seeds seed, seed+1, ...; 0: 5 on digits, else 1", group="training", low=0)
    batch_size: int = 64
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    monitor: str = "accuracy"
    monitor_mode: str = "max"

    def __post_init__(self) -> None:
        """Raises FlagError for a value outside its range."""
        super().__post_init__()
        for name in self.augment.split(","):
            if name not in (*AUGMENTATIONS, "none", "auto"):
                raise run.FlagError(f"--augment={self.augment}: {name!r} is none of none,{','.join(AUGMENTATIONS)}")

    def with_recipe(self) -> "Config":
        """The configuration with every open choice filled in."""
        recipe = RECIPES[self.dataset]
        return replace(
            self,
            model=recipe.model if self.model == "auto" else self.model,
            augment=recipe.augment if self.augment == "auto" else self.augment,
            seeds=self.seeds or recipe.seeds,
            epochs=recipe.epochs if self.epochs is None else self.epochs,
        )


def data(config: Config, images: Images | None = None) -> tuple[Batches, Batches]:
    """Training and test batches; digits and glyphs are split by seed 0, so that every run has the same test set."""
    images = images or load_images(config.dataset, config.data_dir)
    return Batches(images.train, config.batch_size), Batches(images.test, max(config.batch_size, 256))


def make_model(config: Config) -> nn.Module:
    """The network: (images [B, H, W, C] in -1..1, train) -> logits [B, N]."""
    config = config.with_recipe()
    return MODELS[config.model](RECIPES[config.dataset].classes)


def inputs(batch: dict[str, Any]) -> tuple[jax.Array]:
    """What the model sees: pixels scaled to -1..1."""
    return ((unit(batch["x"]) - 0.5) / 0.5,)


def build(config: Config, example: dict[str, Any]) -> Experiment:
    """The experiment for batches of `example`'s shapes."""
    config = config.with_recipe()
    chosen: list[Any] = [AUGMENTATIONS[name] for name in config.augment.split(",") if name != "none"]
    change = augment.batched(augment.compose(*chosen))
    return supervised(
        make_model(config),
        config.make_optimizer(),
        example=example,
        inputs=inputs,
        loss=lambda logits, batch: softmax_cross_entropy(logits, batch["y"]),
        metrics=lambda logits, batch: {"accuracy": metrics.accuracy(logits, batch["y"])},
        augment=(lambda keys, batch: batch | {"x": change(keys, unit(batch["x"]))}) if chosen else None,
    )


def baselines(images: Images) -> dict[str, float]:
    """Test accuracies of scikit-learn's classifiers on the same split, where they take seconds, not hours."""
    if images.train["x"].size > 2e6:  # an SVC on 10,000 CIFAR images takes five minutes
        return {}
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    (x, y), (test_x, test_y) = ((unit(p["x"]).reshape(len(p["x"]), -1), p["y"]) for p in (images.train, images.test))
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    models = {"SVC-RBF": SVC(C=10.0), "logistic regression": linear}
    return {name: model.fit(x, y).score(test_x, test_y) for name, model in models.items()}


def main(config: Config) -> list[Claim]:
    """Trains, draws and reports."""
    images = load_images(config.dataset, config.data_dir)
    train, test = data(config, images)
    run.say(images.note)
    config = config.with_recipe().resolve(train)
    result = run.fit(build(config, train.example), train, test, config)
    model: Any = make_model(config)
    predict: Any = lambda state, batch: nn.softmax(model.apply(state.variables, *inputs(batch)))
    draw(config, images, run.apply(predict, result.state, test))

    key, accuracy = (config.dataset, config.model), result.metrics["accuracy"]
    beside = [f"{name} {score:.4f} (scikit-learn, same split)" for name, score in baselines(images).items()]
    beside += ["{:.4f} ({})".format(*REFERENCES[key])] if key in REFERENCES else []
    target = TARGETS.get(key)
    text = (
        f"{config.model} on {config.dataset}: {f'at least {target:.1%}' if target else 'how many'} of {test.length:,}"
    )
    found = f"{run.plus_minus(result.values('accuracy'))} in {result.seconds:.0f} s"
    good = accuracy >= (target or 2 / len(images.names))
    lenet, known = "LeNet-5 with 61,706 parameters: error on MNIST at most 1%", ("0.95%", "LeCun 1998")
    claims = [Claim("B27", f"{text} test images right", found, ", ".join(beside), holds=good)]
    if key != ("mnist", "lenet"):
        command = "python -m experiments.image_classifier --dataset=mnist --data_dir=DATA"
        return [*claims, Claim("I12", lenet, "not measured", *known, command=command)]
    count = sum(x.size for x in jax.tree.leaves(result.state.learner.params))
    error = f"{1 - accuracy:.2%} with {count:,} after {config.epochs:g} epochs"
    return [*claims, Claim("I12", lenet, error, *known, accuracy >= 0.99 and count == 61_706)]


def draw(config: Config, images: Images, probabilities: np.ndarray) -> None:
    """The confusion matrix and the worst mistakes."""
    labels, predictions = images.test["y"], probabilities.argmax(-1)
    matrix = metrics.confusion_matrix(labels, predictions, len(images.names))
    run.save_figure(config, "confusion", plots.confusion(matrix, images.names))
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][:32]
    if len(worst):
        titles = [f"{images.names[labels[i]]} as {images.names[predictions[i]]}" for i in worst]
        title = f"{len(worst)} worst of {len(wrong)} mistakes: class, as what"
        run.save_figure(config, "mistakes", plots.image_grid(unit(images.test["x"][worst]), titles, title=title))


if __name__ == "__main__":
    run.main(Config, main)
