"""The flags that every experiment shares."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, dataclass_transform

import optax

from jaxdl import optim
from jaxdl.data import Data
from jaxdl.data.parts import batches_in
from jaxdl.run.command.flags import MOST, FlagError, check, flag, flags_of, nearest
from jaxdl.run.command.originals import SOURCES

# the flags that `optim.schedule` and `optim.optimizer` take by the same names
DECAY = ("decay_rate", "decay_every", "final_fraction")
CHAIN = ("momentum", "beta2", "rms_decay", "weight_decay", "clip_norm", "clip_value", "freeze", "rates", "accumulate",
         "ema", "norms")  # fmt: skip
FALLING = ("step", "exponential")  # schedules of factors
SECOND = ("adam", "adamw", "lion", "muon", "schedule_free")  # rules with a second decay


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, with what optimiser, where and on what to train. An experiment adds its own flags in a subclass.

    A subclass is a frozen dataclass without being declared one. Made in code it needs no command line:
    `Config(steps=100)`; a value outside its range raises FlagError.

    recipes: {flag: {its value: {other flags: their values}}}, what a data set is trained with unless flags say
    otherwise. Those other flags are `flag(None)` in the class, None is what an open choice is called everywhere, and
    `Config(dataset="mnist")` has the recipe's values at once; `replace` leaves open what was open.

    `steps` and `epochs` are one choice. Where a class has a default for one of them, or a recipe, and the other is
    given, the default becomes None, on the command line, in code and in `replace`.
    """

    recipes: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    open: ClassVar[frozenset[str]] = frozenset()  # in an instance, the flags that its recipe filled in

    steps: int | None = flag(None, "batches to train on; given in place of --epochs", group="training", minimum=0)
    epochs: float | None = flag(
        None, "passes over the training set, the longest if there are several; given in place of --steps",
        group="training", minimum=0,
    )  # fmt: skip
    batch_size: int = flag(128, "examples per step, over all devices", group="training", minimum=1)
    seed: int = flag(0, "seed of initial weights, batch order and noise", group="training", minimum=0, maximum=MOST - 1)
    seeds: int = flag(1, "runs, with seeds seed, seed+1, ...; mean ± standard deviation", group="training", minimum=1)
    eval_every: int | None = flag(None, "steps between evaluations", group="training", minimum=1,
                                  shown="ten in a run, fewer where they would take over 4% of it")  # fmt: skip
    watch_test: bool = flag(
        False, "evaluate the test part during training too, for its curves; nothing is chosen by it", group="training"
    )
    monitor: str = flag("loss", "the validation metric that tells the best step", group="training")
    monitor_mode: str = flag(
        "min", "whether the best is the least or greatest", group="training", choices=("min", "max")
    )
    patience: int = flag(
        0, "stop after so many evaluations without a better one, and go back to the best; 0: never", group="training",
        minimum=0,
    )  # fmt: skip

    init: str | None = flag(
        None, "begin with the parameters of a run, RUN or RUN/FIT, or of a file that `jaxdl.load(RUN).save` wrote",
        group="training", shown="drawn by --seed",
    )  # fmt: skip
    init_skip: str | None = flag(
        None, "regular expression: parameters whose path has it are drawn and not taken from --init", group="training"
    )

    optimizer: str = flag("adam", "update rule", group="optimiser", choices=optim.RULES)
    learning_rate: float = flag(1e-3, "peak learning rate", group="optimiser", minimum=0)
    momentum: float = flag(
        0.9, "momentum; Adam's beta 1", group="optimiser", minimum=0, less_than=1,
        needs=("optimizer", ("momentum", "nesterov", *SECOND)),
    )  # fmt: skip
    beta2: float = flag(
        0.999, "decay of squared gradients", group="optimiser", minimum=0, less_than=1, needs=("optimizer", SECOND)
    )
    rms_decay: float = flag(
        0.9, "decay of squared gradients", group="optimiser", minimum=0, less_than=1, needs=("optimizer", ("rmsprop",))
    )
    weight_decay: float = flag(
        0.0, "L2 penalty, decoupled for adamw; never on biases and norm scales", group="optimiser", minimum=0
    )
    clip_norm: float | None = flag(None, "scale gradients down to this global norm", group="optimiser", more_than=0)
    clip_value: float | None = flag(None, "clip each gradient entry to ± this", group="optimiser", more_than=0)
    schedule: str = flag("constant", "learning rate over time", group="optimiser", choices=optim.SCHEDULES)
    warmup: int = flag(
        0, "updates of linear warm-up before the schedule; the default is never more than a tenth of the run",
        group="optimiser", minimum=0,
    )  # fmt: skip
    decay_rate: float = flag(
        0.1, "factor; above 1 the rate grows", group="optimiser", more_than=0, needs=("schedule", FALLING)
    )
    decay_every: int | None = flag(
        None,
        "updates per factor",
        group="optimiser",
        minimum=1,
        needs=("schedule", FALLING),
        shown="a third of the run",
    )
    final_fraction: float = flag(
        0.0, "last rate, a fraction of the peak", group="optimiser", minimum=0, maximum=1,
        needs=("schedule", ("cosine",)),
    )  # fmt: skip
    accumulate: int = flag(
        1, "batches whose gradients make one update; --steps is a multiple of it", group="optimiser", minimum=1
    )
    freeze: str | None = flag(None, "regular expression: parameters whose path has it stay fixed", group="optimiser")
    rates: str | None = flag(
        None, 'factors of the learning rate by regular expressions on paths: "Embed:0.1,bias:2"', group="optimiser"
    )
    ema: float | None = flag(
        None, "evaluate a moving average of the parameters, of this decay per update", group="optimiser", minimum=0,
        less_than=1,
    )  # fmt: skip
    norms: int | None = flag(
        None, "steps between norms of parameters, gradients and updates of each module in the history",
        group="optimiser", minimum=1, shown="none",
    )  # fmt: skip

    valid_fraction: float = flag(
        0.1, "part of the training data held out for whatever chooses: --patience, --monitor, --sweep; 0: none",
        group="data", minimum=0, less_than=1,
    )  # fmt: skip
    download: bool = flag(
        False, f"first fetch what is missing of the data set into --data_dir: {', '.join(SOURCES)}", group="data",
        affects_result=False,
    )  # fmt: skip
    mirror: str | None = flag(
        None, "https address of a folder with the same files", group="data", affects_result=False,
        needs=("download", (True,)),
    )  # fmt: skip
    data_dir: str | None = flag(
        None, "folder of original data files", group="data", shown="$JAXDL_DATA_DIR", affects_result=False
    )

    sweep: str | None = flag(
        None, 'one run for each combination of values: "learning_rate=1e-3,3e-3;optimizer=sgd,adam"', group="run"
    )
    profile: int = flag(
        0, "time and trace so many steps, count operations, name what recompiles; 0: none", group="run",
        minimum=0, affects_result=False,
    )  # fmt: skip
    workdir: str | None = flag(
        None, "folder of the run: made anew, or resumed", group="run", shown="runs/NAME/TIME", affects_result=False
    )
    overwrite: bool = flag(False, "delete what --workdir holds and start anew", group="run", affects_result=False)
    checkpoint_every: int | None = flag(
        None, "steps between checkpoints", group="run", minimum=1, shown="with every evaluation", affects_result=False
    )
    log_every: int = flag(50, "steps between lines of metrics.jsonl", group="run", minimum=1, affects_result=False)
    tensorboard: bool = flag(True, "write TensorBoard events too", group="run", affects_result=False)
    wandb: str | None = flag(
        None,
        'log to this project of Weights & Biases too (pip install "jaxdl[wandb]")',
        group="run",
        affects_result=False,
    )
    progress: bool = flag(True, "show progress", group="run", affects_result=False)
    only: str | None = flag(
        None, "fit: train and test what the run is about, without the fits, pictures and measurements of its claims",
        group="run", choices=("fit",), shown="everything", affects_result=False,
    )  # fmt: skip
    summary: bool = flag(False, "show the layers and their weights, and end", group="run", affects_result=False)
    rows: bool = flag(False, "show which rows of a syllabus the claims answer", group="run", affects_result=False)

    predict: str | None = flag(
        None, "with --workdir=RUN: files, folders or patterns, separated by commas, or what the experiment takes in "
        "their place, for the finished run to predict", group="use", affects_result=False,
    )  # fmt: skip
    evaluate: str | None = flag(
        None, "with --workdir=RUN: another data set, by name or path, to score the finished run on",
        group="use", affects_result=False,
    )  # fmt: skip
    fit: str | None = flag(None, "of a run with several fits, the one to use", group="use", affects_result=False,
                           shown="the only one")  # fmt: skip
    out: str | None = flag(None, "file to write the predictions to", group="use", affects_result=False,
                           shown="RUN/predictions.csv")  # fmt: skip

    parallel: str = flag(
        "jit",
        "how the batch is split: jit, by the compiler; pmap, each device runs the step and gradients are averaged; "
        "fsdp, as jit, and parameters and optimiser state are split over the devices too",
        group="devices",
        choices=("jit", "pmap", "fsdp"),
        affects_result=False,
    )
    devices: int | None = flag(
        None, "use the first so many devices", group="devices", minimum=1, shown="all", affects_result=False
    )
    deterministic: bool = flag(
        False, "on a GPU only operations that give the same bits every time; on CPU and TPU they do", group="devices"
    )
    scan: int | None = flag(
        None, "steps per compiled call", group="devices", minimum=1, affects_result=False,
        shown="16, or 1 where that is slow (convolutions on the CPU)",
    )  # fmt: skip

    def __init_subclass__(cls, **options: Any) -> None:
        """Makes the subclass a dataclass."""
        super().__init_subclass__(**options)
        dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        """Raises FlagError for a value outside its range, or flags that contradict each other."""
        self._fill()
        check(self)
        if self.steps is not None and self.epochs is not None:
            defaults = [name for name in ("epochs", "steps") if getattr(self, name) == getattr(type(self), name)]
            if not defaults:
                raise FlagError(f"--steps={self.steps} --epochs={self.epochs:g}: give one of the two")
            object.__setattr__(self, defaults[0], None)
        if self.init_skip is not None:
            try:
                re.compile(self.init_skip)
            except re.error as error:
                raise FlagError(f"--init_skip={self.init_skip}: is no regular expression ({error})") from None
            if self.init is None:
                raise FlagError(f"--init_skip={self.init_skip}: has no effect without --init; leave it out")
        last = self.seed + self.seeds - 1
        if last >= MOST:
            told = f"the last seed would be {last}, and {MOST - 1} is the greatest"
            raise FlagError(f"--seed={self.seed} --seeds={self.seeds}: {told}")
        self._chain(1.0)

    def _fill(self) -> None:
        long = {"steps", "epochs"}
        filled = set()
        for flag_, table in self.recipes.items():
            for name, value in table.get(getattr(self, flag_), {}).items():
                given = [self.steps, self.epochs] if name in long else [getattr(self, name)]
                if given == [None] * len(given):
                    filled.add(name)
                    object.__setattr__(self, name, value)
        for name, _, optional, default, _ in flags_of(type(self)):
            if default is None and not optional and getattr(self, name) is None:  # a recipe leaves it as inherited
                inherited = (vars(one).get(name) for one in type(self).__mro__)
                filled.add(name)
                object.__setattr__(self, name, next((value for value in inherited if value is not None), None))
        object.__setattr__(self, "open", frozenset(filled))

    def replace(self, **changes: Any) -> Self:
        """The configuration with `changes`; what a recipe had filled in is filled in anew, by the new data set's."""
        names = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise FlagError(f"{name}: no such flag; the nearest is {nearest(name, names)}")
        values: Any = dict.fromkeys(self.open) | changes
        return dataclasses.replace(self, **values)

    def resolve(self, train: Any = None) -> Self:
        """The same configuration with `steps` in place of `epochs`.

        steps = ceil(epochs * examples / batch_size), rounded up to a multiple of `accumulate`.

        Args:
          train: `Batches`, or a pytree of them: an epoch is then one of the longest; or the `Data` they are part of.
            Not looked at if `steps` is set.

        Raises:
          FlagError: neither steps nor epochs are set; epochs of data without a length; steps that `accumulate` does not
            divide.
        """
        k = self.accumulate
        if self.steps is not None:
            if self.steps % k:
                told = f"--accumulate={k} needs a multiple of {k}, else the last batches make no update"
                raise FlagError(f"--steps={self.steps}: {told}; {math.ceil(self.steps / k) * k} would do")
            return self
        if self.epochs is None:
            raise FlagError("--steps: not given, nor is --epochs; give one of the two")
        train = train.train if isinstance(train, Data) else train
        count = batches_in(train, self.batch_size)
        if count is None:
            raise FlagError(f"--epochs={self.epochs:g}: this training data has no length; give --steps")
        steps = math.ceil(self.epochs * count)
        return self.replace(steps=math.ceil(steps / k) * k, epochs=None)

    def make_optimizer(
        self, train: Any = None, *, transforms: Sequence[optax.GradientTransformation] = ()
    ) -> optax.GradientTransformationExtraArgs:
        """The optax chain that the optimiser flags describe.

        A schedule has to know how many steps there are: `train`, as `resolve` takes it, tells what the epochs come to.
        `transforms` of your own come between clipping and the update rule.
        The learning rate is a number in its state: runs that differ in it share their compiled programs. A `warmup` at
        the class's default is cut to a tenth of the updates; another one has to fit.

        Raises:
          FlagError: a warm-up longer than the run, a schedule that needs `steps`.
        """
        if self.epochs is not None and train is not None:
            return self.resolve(train).make_optimizer(transforms=transforms)
        updates, warmup = None if self.steps is None else max(1, self.steps // self.accumulate), self.warmup
        if updates is not None:
            if warmup == type(self).warmup:
                warmup = min(warmup, updates // 10)
            if warmup > updates:
                raise FlagError(f"--warmup={warmup}: the run has only {updates} updates")
        try:
            rate = optim.schedule(self.schedule, 1.0, steps=updates, warmup=warmup, **self._values(DECAY))
        except ValueError as error:
            raise FlagError(f"learning-rate flags: {error}") from None
        return self._chain(rate, transforms)

    def _chain(
        self, rate: float | optax.Schedule, transforms: Sequence[optax.GradientTransformation] = ()
    ) -> optax.GradientTransformationExtraArgs:
        try:
            return optim.optimizer(
                self.optimizer, rate, peak=self.learning_rate, transforms=transforms, **self._values(CHAIN)
            )
        except ValueError as error:
            raise FlagError(f"optimiser flags: {error}") from None

    def _values(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}
