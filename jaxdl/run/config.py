"""The flags that every experiment shares."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Self

import optax

from jaxdl import optim
from jaxdl.run.flags import FlagError, check, flag
from jaxdl.run.originals import SOURCES


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, with what optimiser, where and on what to train. An experiment adds its own flags in a subclass.

    Made in code it needs no command line: `Config(steps=100)`; a value outside its range raises FlagError.
    """

    steps: int | None = flag(None, "optimiser steps; wins over --epochs", group="training", low=0)
    epochs: float | None = flag(None, "passes over the training set", group="training", low=0)
    batch_size: int = flag(128, "examples per step, over all devices", group="training", low=1)
    seed: int = flag(0, "seed of initial weights, batch order and noise", group="training", low=0, high=2**31 - 1)
    seeds: int = flag(1, "runs, with seeds seed, seed+1, ...; mean ± standard deviation", group="training", low=1)
    eval_every: int = flag(0, "steps between evaluations", group="training", low=0, shown="ten in a run")
    watch_test: bool = flag(
        False, "evaluate the test part during training too, for its curves; nothing is chosen by it", group="training"
    )
    monitor: str = flag("loss", "the validation metric that tells the best step", group="training")
    monitor_mode: str = flag(
        "min", "whether the best is the least or greatest", group="training", choices=("min", "max")
    )
    patience: int = flag(
        0,
        "stop after this many evaluations without a better one and go back to the best; 0: never",
        group="training",
        low=0,
    )

    optimizer: str = flag("adam", "update rule", group="optimiser", choices=optim.OPTIMIZERS)
    learning_rate: float = flag(1e-3, "peak learning rate", group="optimiser", low=0)
    momentum: float = flag(0.9, "momentum; Adam's beta 1", group="optimiser", low=0, below=1)
    beta2: float = flag(0.999, "Adam's decay of squared gradients", group="optimiser", low=0, below=1)
    rms_decay: float = flag(0.9, "RMSprop's decay of squared gradients", group="optimiser", low=0, below=1)
    weight_decay: float = flag(
        0.0, "L2 penalty, decoupled for adamw; never on biases and norm scales", group="optimiser", low=0
    )
    clip_norm: float | None = flag(None, "scale gradients down to this global norm", group="optimiser", above=0)
    clip_value: float | None = flag(None, "clip each gradient entry to ± this", group="optimiser", above=0)
    schedule: str = flag("constant", "learning rate over time", group="optimiser", choices=optim.SCHEDULES)
    warmup: int = flag(0, "updates of linear warm-up before the schedule", group="optimiser", low=0)
    decay_rate: float = flag(0.1, "factor of the schedules step and exponential", group="optimiser", above=0, high=1)
    decay_every: int = flag(0, "updates per factor; 0: a third of the run", group="optimiser", low=0)
    final_fraction: float = flag(
        0.0, "where the cosine ends, as a fraction of the peak", group="optimiser", low=0, high=1
    )
    accumulate: int = flag(1, "batches whose gradients are gathered for one update", group="optimiser", low=1)
    freeze: str | None = flag(None, "regular expression: parameters whose path has it stay fixed", group="optimiser")

    valid_fraction: float = flag(
        0.1,
        "part of the training data held out for whatever chooses: --patience, --monitor, --sweep; 0: none",
        group="data",
        low=0,
        below=1,
    )
    download: bool = flag(
        False, f"first fetch what is missing of the data set into --data_dir: {', '.join(SOURCES)}", group="data",
        result=False,
    )  # fmt: skip
    mirror: str | None = flag(
        None, "with --download: https address of a folder with the same files", group="data", result=False
    )
    data_dir: str | None = flag(
        None, "folder of original data files", group="data", shown="$JAXDL_DATA_DIR", result=False
    )

    sweep: str | None = flag(
        None, 'one run for each combination of values: "learning_rate=1e-3,3e-3;optimizer=sgd,adam"', group="run"
    )
    profile: int = flag(
        0, "time and trace so many steps; operations, the costliest ones, recompilations; 0: none", group="run", low=0,
        result=False,
    )  # fmt: skip
    workdir: str | None = flag(
        None, "folder of the run: made anew, or resumed", group="run", shown="runs/NAME/TIME", result=False
    )
    overwrite: bool = flag(False, "delete what --workdir holds and start anew", group="run", result=False)
    checkpoint_every: int = flag(
        0, "steps between checkpoints", group="run", low=0, shown="with every evaluation", result=False
    )
    log_every: int = flag(50, "steps between lines of metrics.jsonl", group="run", low=1, result=False)
    tensorboard: bool = flag(True, "write TensorBoard events too", group="run", result=False)
    progress: bool = flag(True, "show progress", group="run", result=False)

    predict: str | None = flag(
        None,
        "with --workdir=RUN: files, folders or patterns, separated by commas, for the finished run to predict",
        group="use",
        result=False,
    )
    evaluate: str | None = flag(
        None, "with --workdir=RUN: another data set, by name or path, to score the finished run on",
        group="use", result=False,
    )  # fmt: skip

    parallel: str = flag(
        "jit",
        "how the batch is split: jit, by the compiler; pmap, each device runs the step and gradients are averaged; "
        "fsdp, as jit, and parameters and optimiser state are split over the devices too",
        group="devices",
        choices=("jit", "pmap", "fsdp"),
        result=False,
    )
    devices: int = flag(0, "use the first so many devices; 0: all", group="devices", low=0, result=False)
    deterministic: bool = flag(
        False, "on a GPU only operations that give the same bits every time; on CPU and TPU they do", group="devices"
    )
    scan: int = flag(
        0, "steps per compiled call; 0: 16, or 1 where that is slow (convolutions on the CPU)",
        group="devices", low=0, result=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Raises FlagError for a value outside its range."""
        check(self)
        self._chain(1.0)

    def resolve(self, train: Any = None) -> Self:
        """The same configuration with `steps` filled in from `epochs`: ceil(epochs * examples / batch_size)."""
        if self.steps is not None:
            return self
        if self.epochs is None:
            raise FlagError("--steps: not given, nor is --epochs; give one of the two")
        if not hasattr(train, "length"):
            raise FlagError(f"--epochs={self.epochs:g}: this training data has no length; give --steps")
        steps = math.ceil(self.epochs * train.length / train.batch_size)
        return dataclasses.replace(self, steps=steps)

    def make_optimizer(self) -> optax.GradientTransformationExtraArgs:
        """The optax chain that the optimiser flags describe; a schedule needs `steps`, so call it after `resolve`.

        The learning rate is a number in its state: runs that differ in it share their compiled programs.
        """
        try:
            rate = optim.schedule(
                self.schedule,
                1.0,
                steps=None if self.steps is None else max(1, self.steps // self.accumulate),
                warmup=self.warmup,
                decay_rate=self.decay_rate,
                decay_every=self.decay_every,
                final_fraction=self.final_fraction,
            )
        except ValueError as error:
            raise FlagError(f"learning-rate flags: {error}") from None
        return self._chain(rate)

    def _chain(self, rate: float | optax.Schedule) -> optax.GradientTransformationExtraArgs:
        try:
            return optim.optimizer(
                self.optimizer,
                rate,
                peak=self.learning_rate,
                momentum=self.momentum,
                beta2=self.beta2,
                rms_decay=self.rms_decay,
                weight_decay=self.weight_decay,
                clip_norm=self.clip_norm,
                clip_value=self.clip_value,
                freeze=self.freeze,
                accumulate=self.accumulate,
            )
        except ValueError as error:
            raise FlagError(f"optimiser flags: {error}") from None
