"""The file with which an experiment begins: it runs, and passes the tests that every experiment enters."""

import keyword
import re
from pathlib import Path

from jaxdl.run.command.flags import FlagError
from jaxdl.run.store.files import write

TEMPLATE = '''"""NAME: one sentence on what this experiment shows, as the list of experiments has it.

The formula that is minimised, and how the claim is measured:
    L = -log softmax(f(x))_y

    python -m experiments.NAME                 # no files needed
    python -m experiments.NAME --width=4

Author and year of the paper.
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
CLAIMS = {"accuracy": Claim("a hidden layer tells digits far better than chance", headline=True)}
SMALL = {"steps": 300}  # where the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    width: int = flag(64, "hidden units", minimum=1)
    steps: int | None = 1000
    batch_size: int = 64


def data(config: Config) -> Data:
    """Handwritten digits of 8x8 pixels."""
    return load_images("digits", valid=config.valid_fraction).data(config.batch_size)


def build(config: Config, data: Data) -> Experiment:
    """A net with one hidden layer that predicts probabilities [B, 10]."""
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
    """One fit of each seed beside scikit-learn."""
    result, test = run.fit(build(config, data), data, config), data.test.arrays
    p, names = result.predict(data.test), data.facts["names"]
    run.save_figure(config, "confusion", lambda: pictures.confusion(test["y"], p.argmax(-1), names))
    accuracy = Quantity("accuracy", result.values("accuracy"), ">=", 0.5)
    yield run.measured("accuracy", accuracy, reference=baselines.classifiers(data.train.arrays, test))


if __name__ == "__main__":
    run.main()
'''


def write_skeleton(name: str, folder: Path) -> Path:
    """Writes NAME.py into a folder.

    Raises:
      FlagError: no name for a module, or something is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise FlagError(f"new {name}: must be a module's name, of small letters, digits and _")
    path = folder / f"{name}.py"
    if path.exists() or (folder / name).exists():
        raise FlagError(f"new {name}: {path} is there already; choose another name")
    text = TEMPLATE.replace("NAME", name)
    write(path, text if folder.name == "experiments" else text.replace("-m experiments." + name, f"{name}.py"))
    return path
