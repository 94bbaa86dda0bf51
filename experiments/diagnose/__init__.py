"""Diagnosis of training: reads a run, names what went wrong with the numbers that say so, and the next flag to try.

With --run=RUN it reads any finished or diverged run: its history, its states, and at most 512 rows of each part. A fit
is poor if simple models of the same rows predict better. Gradients by layer and short trials at other learning rates
then tell the causes apart; scores of the three parts tell over-fitting from mismatch.

The faults: model bias, optimisation, over-fitting, mismatch, a learning rate too large or too small, dead or equal
units, missing or vanishing gradients, large initial weights, unscaled inputs, meaningless labels. A healthy run gets
"no fault found".

Without --run it tests itself: it plants twenty faults in small runs of an architecture that was not used to set the
thresholds, and counts how often the planted fault is the first that it names. It also shows how the gap between
training and test opens with the size of a network and closes with data and regularisation.

    fit is poor:  training score < score of simple models on held-out training rows - 0.05
    gap = training score - test score;  scores are accuracy or R^2

    python -m experiments.diagnose --run=RUN                 # the diagnosis of a run; --fit=NAME chooses one of several
    python -m experiments.diagnose                           # plants faults, no files needed
    python -m experiments.diagnose --settings=cnn_digits --seeds=5

He et al. 2015 (scale of inputs and weights); Glorot and Bengio 2010 (vanishing gradients); Ben-David et al. 2010
(telling two sets of rows apart as a measure of their distance).
"""

import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from flax import linen as nn

from experiments.diagnose import gap, pictures, planted, real
from experiments.diagnose.evidence import Subject, Tools, measured, tools_of, trial_flags
from jaxdl import losses, metrics, run
from jaxdl.core import Experiment
from jaxdl.data import Data
from jaxdl.methods.diagnosis import FAULTS, MISMATCH, MODEL_BIAS, OPTIMISATION, OVERFITTING, diagnose, seen
from jaxdl.run import Claim, Quantity, flag
from jaxdl.supervision import supervised

FAMILY = "foundations"
FIGURE = "diagnoses"  # shown on the page of results
TESTED, IMAGES = "residual_spirals", "cnn_digits"  # not used to set the thresholds
GUIDE = (MODEL_BIAS, OPTIMISATION, OVERFITTING, MISMATCH)
CLAIMS = {
    "guide": Claim("Planted model bias, poor optimisation, over-fitting and mismatch are each named first", "B17",
                   headline=True),
    "causes": Claim("Planted causes of a loss that does not fall are each named first", "B18", headline=True),
    "images": Claim("All of them are named first for a convolutional network too", "B17 B18",
                    flags=f"--settings={TESTED},{IMAGES} --seeds=5"),
    "healthy": Claim("No fault is found in runs without one", "B17 B18"),
    "opens": Claim("The gap between training and test accuracy opens with the size of the network", "B16"),
    "closes": Claim("The gap closes with more data and with regularisation", "B16"),
}  # fmt: skip
FEW = "one_hidden_unit,few_steps,few_noisy_rows,test_noised,rate_x100,dead_relus"
SMALL = {"seeds": 1, "healthy": 1, "faults": FEW}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    run: str | None = flag(None, "folder of a run to diagnose", shown="plant faults")
    module: str | None = flag(None, "with --run: the file of your own experiment that made it", shown="an experiment")
    fault: str = flag(planted.HEALTHY, "planted fault of one fit", choices=planted.KINDS)
    setting: str = flag(TESTED, "data and network of one fit", choices=(*planted.SETTINGS, gap.NAME))
    settings: str = flag(TESTED, "settings in which faults are planted, separated by commas")
    faults: str | None = flag(None, "which faults to plant, separated by commas", shown="all")
    healthy: int = flag(10, "runs without a fault, in all settings together", minimum=1)
    seeds: int = 2
    steps: int | None = planted.STEPS
    batch_size: int = 64
    optimizer: str = "momentum"
    learning_rate: float = 0.05
    log_every: int = 5
    eval_every: int | None = 150
    tensorboard: bool = False
    devices: int = 1

    def __post_init__(self) -> None:
        """Raises FlagError for a value outside its range."""
        super().__post_init__()
        if self.run == "":
            raise run.FlagError("--run=: must be the folder of a run")
        for flag_, known in (("settings", planted.SETTINGS), ("faults", planted.FAULTS)):
            given = getattr(self, flag_)
            if given is not None and not set(given.split(",")) <= set(known):
                raise run.FlagError(f"--{flag_}={given}: must be some of {', '.join(known)}, separated by commas")
        for name in ("fit", "module"):
            if getattr(self, name) is not None and not (self.run or self.predict or self.evaluate):
                raise run.FlagError(f"--{name}={getattr(self, name)}: has no effect without --run; leave it out")


def data(config: Config) -> Data:
    """Returns the three parts of a setting, with what its fault changes in them."""
    if config.setting == gap.NAME:
        return gap.parts(planted.images(config.seed), config.seed)
    return planted.parts(config.setting, config.fault, config.seed, config.batch_size)


def build(config: Config, data: Data) -> Experiment:
    """Builds the network of a setting, with what its fault changes in it."""
    if config.setting == gap.NAME:
        return gap.build(config, data)
    return supervised(
        planted.network(config.setting, config.fault, data.facts["classes"]),
        config.make_optimizer(data),
        example=data.example,
        loss=lambda logits, batch: losses.softmax_cross_entropy(logits, batch["y"]),
        metrics=lambda logits, batch: {"accuracy": metrics.accuracy(logits, batch["y"])},
        predict=nn.softmax,
    )


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Diagnoses the run of --run; without it plants faults, counts their diagnoses, and measures the gap."""
    if config.run:
        real.report(config, config.run)
        return
    found = list(diagnoses(config))
    table = Counter((kind, name) for _, kind, _, name in found)
    sweep = gaps_of(config)
    columns = (*dict.fromkeys(fault.named for fault in planted.FAULTS.values()), real.NONE)
    rows = [kind for kind in (*planted.FAULTS, planted.HEALTHY) if any(one[1] == kind for one in found)]
    counts = np.array([[table[kind, name] for name in columns] for kind in rows])
    expected = {kind: fault.named for kind, fault in planted.FAULTS.items()}
    run.save_figure(config, FIGURE, lambda: pictures.table(counts, rows, columns, expected, sweep))
    for claim, chosen in (("guide", True), ("causes", False)):
        kinds = [kind for kind, fault in planted.FAULTS.items() if (fault.named in GUIDE) == chosen]
        if ours := [one for one in found if one[1] in kinds]:
            yield named(claim, ours)
    if any(one[0] == IMAGES for one in found):
        yield named("images", [one for one in found if one[0] == IMAGES and one[1] in planted.FAULTS])
    healthy = [name for _, kind, _, name in found if kind == planted.HEALTHY]
    wrong = Quantity("runs with a fault found", sum(name != real.NONE for name in healthy), "==", 0)
    yield run.measured("healthy", wrong, Quantity("healthy runs", len(healthy)))
    yield from sweep.findings()


def named(claim: str, found: list[tuple[str, str, int, str]]) -> run.Finding:
    """Returns the share of the planted runs whose fault was named first, and their numbers."""
    right = [planted.FAULTS[kind].named == name for _, kind, _, name in found]
    return run.measured(
        claim,
        Quantity("share named first", np.mean(right), "==", 1),
        Quantity("runs", len(right)),
        Quantity("kinds of faults", len({kind for _, kind, _, _ in found})),
        Quantity("diagnoses to choose from", len(FAULTS)),
    )


def diagnoses(config: Config) -> Iterator[tuple[str, str, int, str]]:
    """Trains the planted runs -> (setting, kind, seed, first diagnosis)."""
    settings = config.settings.split(",")
    for setting in settings:
        tools = functools.cache(functools.partial(tools_for, config, setting))
        for kind in (planted.HEALTHY, *(config.faults.split(",") if config.faults else planted.FAULTS)):
            count = -(-config.healthy // len(settings)) if kind == planted.HEALTHY else config.seeds
            for seed in range(config.seed, config.seed + count):
                init = tools(planted.like(kind, initial=True)).init
                name = of_planted(config, setting, kind, seed, tools(planted.like(kind))._replace(init=init))
                expected = planted.FAULTS[kind].named if kind in planted.FAULTS else real.NONE
                if name != expected:
                    run.log(f"{setting}/{kind}/seed{seed}: diagnosed as {name}, planted {expected}")
                yield setting, kind, seed, name


def of_kind(config: Config, setting: str, kind: str, seed: int) -> Config:
    """Returns the configuration of one planted run."""
    changes = planted.changes(setting, kind, config.steps or planted.STEPS)
    return config.replace(setting=setting, fault=kind, seed=seed, seeds=1, progress=False, **changes)


def tools_for(config: Config, setting: str, kind: str) -> Tools:
    """Returns the tools that the runs of a kind share."""
    one = of_kind(config, setting, kind, config.seed)
    return tools_of(build(one.replace(**trial_flags(one)), data(one)))


def of_planted(config: Config, setting: str, kind: str, seed: int, tools: Tools) -> str:
    """Trains one run, with its folder SETTING/KIND/seedN, and returns its first diagnosis."""
    one, rows, end = of_kind(config, setting, kind, seed), list[dict[str, Any]](), None
    parts = data(one)
    try:
        result = run.fit(build(one, parts), parts, one, name=f"{setting}/{kind}/seed{seed}", on_row=rows.append)
        end, rows = result.state, result.history
    except run.Diverged:
        pass
    diverged = 0.0 if end is None else real.NAN
    subject = Subject(tools, end, one.learning_rate, rows, seed, diverged, bool(one.freeze))
    found = seen(diagnose(measured(subject, parts)[0]))
    return found[0].fault if found else real.NONE


def gaps_of(config: Config) -> gap.Gaps:
    """Trains the networks whose gap is measured, with other rows, noise and weights for each seed."""
    found = []
    for seed in range(config.seed, config.seed + config.seeds):
        flags: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.02, "steps": gap.STEPS, "batch_size": gap.ROWS}
        one = config.replace(setting=gap.NAME, seed=seed, seeds=1, progress=False, **flags)
        rows = data(one)
        result = run.fit(build(one, rows), rows, one, name=f"{gap.NAME}/seed{seed}")
        found.append(gap.accuracies(result, rows))
    train, test = (np.array(each) for each in zip(*found, strict=True))
    return gap.Gaps(train, test)
