"""The template of a new experiment: it runs, and passes the tests that all experiments must pass."""

import keyword
import re
from pathlib import Path

from jaxdl.run.command.flags import FlagError
from jaxdl.run.store.files import write

TEMPLATE = '''"""NAME: one sentence on what this experiment shows, for the list of experiments.

State here the loss that is minimised, and how the claim is measured:
    L = -log softmax(f(x))_y

    python -m experiments.NAME                 # no files needed
    python -m experiments.NAME --width=4

Authors and year of the paper.
"""

from collections.abc import Iterator

from flax import linen as nn

from jaxdl import losses, metrics, run
from jaxdl.core import Experiment
from jaxdl.data import Data, load_images
from jaxdl.methods import baselines
from jaxdl.nn import MLP
from jaxdl.run import Claim, Quantity, flag, pictures
from jaxdl.supervision import supervised

FAMILY = "new"
FIGURE = "confusion"
CLAIMS = {"accuracy": Claim("a network with one hidden layer classifies digits far better than chance", headline=True)}
SMALL = {"steps": 300}  # a small run in which tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    width: int = flag(64, "hidden units", minimum=1)
    steps: int | None = 1000
    batch_size: int = 64


def data(config: Config) -> Data:
    """Reads handwritten digits of 8x8 pixels."""
    return load_images("digits", valid=config.valid_fraction).data(config.batch_size)


def build(config: Config, data: Data) -> Experiment:
    """Builds a network with one hidden layer that predicts probabilities [B, 10]."""
    return supervised(
        MLP((config.width, len(data.facts["names"]))),
        config.make_optimizer(data),
        example=data.example,
        loss=lambda logits, batch: losses.softmax_cross_entropy(logits, batch["y"]),
        metrics=lambda logits, batch: {"accuracy": metrics.accuracy(logits, batch["y"])},
        predict=nn.softmax,
    )


inference = run.of_images


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Trains once per seed and compares with scikit-learn."""
    result, test = run.fit(build(config, data), data, config), data.test.arrays
    p, names = result.predict(data.test), data.facts["names"]
    run.save_figure(config, "confusion", lambda: pictures.confusion(test["y"], p.argmax(-1), names))
    accuracy = Quantity("accuracy", result.values("accuracy"), ">=", 0.5)
    yield run.measured("accuracy", accuracy, reference=baselines.classifiers(data.train.arrays, test))


if __name__ == "__main__":
    run.main()
'''


def write_skeleton(name: str, folder: Path) -> Path:
    """Writes NAME.py into a folder and returns its path.

    Raises:
      FlagError: the name is not a valid module name, or is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise FlagError(f"new {name}: must be a module name of lowercase letters, digits and _")
    path = folder / f"{name}.py"
    if path.exists() or (folder / name).exists():
        raise FlagError(f"new {name}: {path} exists already; choose another name")
    text = TEMPLATE.replace("NAME", name)
    write(path, text if folder.name == "experiments" else text.replace("-m experiments." + name, f"{name}.py"))
    return path
