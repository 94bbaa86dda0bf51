"""The flags that all experiments share."""

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

# flags that `optim.schedule` and `optim.optimizer` accept under the same names
DECAY = ("decay_rate", "decay_every", "final_fraction")
CHAIN = ("momentum", "beta2", "rms_decay", "weight_decay", "clip_norm", "clip_value", "freeze", "rates", "accumulate",
         "ema", "norms")  # fmt: skip
FALLING = ("step", "exponential")  # schedules that multiply the rate by factors
SECOND = ("adam", "adamw", "lion", "muon", "schedule_free")  # rules with beta2


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Length, optimiser, data, run folder and devices of a training run. An experiment adds its flags in a subclass.

    Every subclass is made a frozen, keyword-only dataclass. It can be constructed without a command line,
    `Config(steps=100)`, and raises FlagError for a value outside its range.

    recipes: {flag: {value of it: {other flag: value}}}, the default training settings of each data set. The other
    flags are declared as `flag(None)`; None always means an open choice. The constructor fills them in, so
    `Config(dataset="mnist")` has the recipe's values, and `replace` fills them in again for a new data set.

    `steps` and `epochs` are alternatives. If one is given and the other has a default, in the class or a recipe, that
    default becomes None; this holds on the command line, in code and in `replace`.
    """

    recipes: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    open: ClassVar[frozenset[str]] = frozenset()  # of an instance: the flags that its recipe filled in

    steps: int | None = flag(
        None, "training steps, one batch each; give --steps or --epochs", group="training", minimum=0
    )
    epochs: float | None = flag(
        None, "passes over the training set, or the longest of several; give --steps or --epochs", group="training",
        minimum=0,
    )  # fmt: skip
    batch_size: int = flag(128, "examples per step, on all devices together", group="training", minimum=1)
    seed: int = flag(
        0, "random seed of initial weights, batch order and noise", group="training", minimum=0, maximum=MOST - 1
    )
    seeds: int = flag(
        1, "number of runs, with seeds seed, seed+1, ...; results are mean ± standard deviation", group="training",
        minimum=1,
    )  # fmt: skip
    eval_every: int | None = flag(
        None, "steps between evaluations", group="training", minimum=1,
        shown="ten evaluations in a run, or fewer if they would take over 4% of it",
    )  # fmt: skip
    watch_test: bool = flag(
        False, "also evaluate the test set during training, for its curves; no choice depends on it", group="training"
    )
    monitor: str = flag("loss", "validation metric that selects the best step", group="training")
    monitor_mode: str = flag(
        "min", "min: lower is better; max: higher is better", group="training", choices=("min", "max")
    )
    patience: int = flag(
        0, "stop after this many evaluations without improvement and return to the best state; 0: never",
        group="training", minimum=0,
    )  # fmt: skip

    init: str | None = flag(
        None, "start from the parameters of another run, RUN or RUN/FIT, or of a file saved by `jaxdl.load(RUN).save`",
        group="training", shown="random, from --seed",
    )  # fmt: skip
    init_skip: str | None = flag(
        None, "regular expression: parameters whose path matches start at random, not from --init", group="training"
    )

    optimizer: str = flag("adam", "update rule", group="optimiser", choices=optim.RULES)
    learning_rate: float = flag(1e-3, "peak learning rate", group="optimiser", minimum=0)
    momentum: float = flag(
        0.9, "momentum; beta1 of Adam", group="optimiser", minimum=0, less_than=1,
        needs=("optimizer", ("momentum", "nesterov", *SECOND)),
    )  # fmt: skip
    beta2: float = flag(
        0.999, "decay rate of the average of squared gradients; of the momentum for lion", group="optimiser", minimum=0,
        less_than=1, needs=("optimizer", SECOND),
    )  # fmt: skip
    rms_decay: float = flag(
        0.9, "decay rate of the average of squared gradients", group="optimiser", minimum=0, less_than=1,
        needs=("optimizer", ("rmsprop",)),
    )  # fmt: skip
    weight_decay: float = flag(
        0.0, "L2 penalty, or decoupled decay for adamw, lion, muon and schedule_free; never on biases and norm scales",
        group="optimiser", minimum=0,
    )  # fmt: skip
    clip_norm: float | None = flag(
        None, "scale gradients down to at most this global norm", group="optimiser", more_than=0
    )
    clip_value: float | None = flag(None, "clip each gradient entry to ± this value", group="optimiser", more_than=0)
    schedule: str = flag("constant", "learning-rate schedule", group="optimiser", choices=optim.SCHEDULES)
    warmup: int = flag(
        0, "updates of linear warm-up before the schedule; the default is cut to at most a tenth of the run",
        group="optimiser", minimum=0,
    )  # fmt: skip
    decay_rate: float = flag(
        0.1, "factor of the learning rate at each decay; above 1 the rate grows", group="optimiser", more_than=0,
        needs=("schedule", FALLING),
    )  # fmt: skip
    decay_every: int | None = flag(
        None, "updates between decays", group="optimiser", minimum=1, needs=("schedule", FALLING),
        shown="a third of the run",
    )  # fmt: skip
    final_fraction: float = flag(
        0.0, "final learning rate as a fraction of the peak", group="optimiser", minimum=0, maximum=1,
        needs=("schedule", ("cosine",)),
    )  # fmt: skip
    accumulate: int = flag(
        1, "batches whose gradients are averaged for one update; --steps must be a multiple of it", group="optimiser",
        minimum=1,
    )  # fmt: skip
    freeze: str | None = flag(
        None, "regular expression: parameters whose path matches are not trained", group="optimiser"
    )
    rates: str | None = flag(
        None, 'learning-rate factors by regular expressions on parameter paths: "Embed:0.1,bias:2"', group="optimiser"
    )
    ema: float | None = flag(
        None, "evaluate an exponential moving average of the parameters, with this decay rate per update",
        group="optimiser", minimum=0, less_than=1,
    )  # fmt: skip
    norms: int | None = flag(
        None, "steps between records of each module's norms of parameters, gradients and updates", group="optimiser",
        minimum=1, shown="no records",
    )  # fmt: skip

    valid_fraction: float = flag(
        0.1, "fraction of the training data held out for validation, for --patience, --monitor and --sweep; 0: none",
        group="data", minimum=0, less_than=1,
    )  # fmt: skip
    download: bool = flag(
        False, f"first download missing data files into --data_dir; available: {', '.join(SOURCES)}", group="data",
        affects_result=False,
    )  # fmt: skip
    mirror: str | None = flag(
        None, "https URL of another folder with the same files", group="data", affects_result=False,
        needs=("download", (True,)),
    )  # fmt: skip
    data_dir: str | None = flag(
        None, "folder with the original data files", group="data", shown="$JAXDL_DATA_DIR", affects_result=False
    )

    sweep: str | None = flag(
        None, 'train once for each combination of values: "learning_rate=1e-3,3e-3;optimizer=sgd,adam"; with --trials '
        'also ranges: "learning_rate=loguniform(1e-4,1e-1);layers=int(1,4)", uniform(0,0.5)', group="run",
    )  # fmt: skip
    trials: int | None = flag(
        None, "train at this many points drawn at random from the lists and ranges of --sweep; more of them begin with "
        "the same ones, so the number may grow", group="run", minimum=1, shown="all combinations of the lists",
        needs=("sweep", (True,)),
    )  # fmt: skip
    profile: int = flag(
        0, "time and trace this many steps, count operations and report recompilations; 0: no profile", group="run",
        minimum=0, affects_result=False,
    )  # fmt: skip
    workdir: str | None = flag(
        None, "folder of the run, new or to be resumed", group="run", shown="runs/NAME/TIME", affects_result=False
    )
    overwrite: bool = flag(False, "replace the run in --workdir by a new one", group="run", affects_result=False)
    checkpoint_every: int | None = flag(
        None, "steps between checkpoints", group="run", minimum=1, affects_result=False,
        shown="after evaluations, in at most 4% of the run's time",
    )  # fmt: skip
    log_every: int = flag(50, "steps between lines of metrics.jsonl", group="run", minimum=1, affects_result=False)
    tensorboard: bool = flag(True, "also write TensorBoard event files", group="run", affects_result=False)
    wandb: str | None = flag(
        None,
        'also log to this project of Weights & Biases (pip install "jaxdl[wandb]")',
        group="run",
        affects_result=False,
    )  # fmt: skip
    progress: bool = flag(True, "show a progress bar", group="run", affects_result=False)
    only: str | None = flag(
        None, "fit: only train and test the model, without the other fits, plots and measurements for the claims",
        group="run", choices=("fit",), shown="everything", affects_result=False,
    )  # fmt: skip
    summary: bool = flag(
        False, "print the layers and their weight counts, then exit", group="run", affects_result=False
    )
    rows: bool = flag(False, "show which syllabus rows each claim covers", group="run", affects_result=False)

    predict: str | None = flag(
        None, "with --workdir=RUN: predict with the finished run. Files, folders or glob patterns, separated by "
        "commas; test: the run's own test part; or what else the experiment accepts, such as a prompt", group="use",
        affects_result=False,
    )  # fmt: skip
    evaluate: str | None = flag(
        None, "with --workdir=RUN: evaluate the finished run on another data set, by name or path", group="use",
        affects_result=False,
    )  # fmt: skip
    fit: str | None = flag(
        None, "which fit to use, if the run has several", group="use", affects_result=False, shown="the only fit"
    )
    out: str | None = flag(
        None, "CSV file for the predictions", group="use", affects_result=False, shown="RUN/predictions.csv"
    )

    parallel: str = flag(
        "jit", "how a batch is split over devices. jit: by the compiler; pmap: each device runs the step and gradients "
        "are averaged; fsdp: like jit, with parameters and optimiser state split too", group="devices",
        choices=("jit", "pmap", "fsdp"), affects_result=False,
    )  # fmt: skip
    devices: int | None = flag(
        None, "number of devices to use", group="devices", minimum=1, shown="all", affects_result=False
    )
    deterministic: bool = flag(
        False, "use only deterministic operations on a GPU; on CPU and TPU all are", group="devices"
    )
    scan: int | None = flag(
        None, "steps per compiled call", group="devices", minimum=1, affects_result=False,
        shown="16, or 1 where longer calls are slow, as for convolutions on the CPU",
    )  # fmt: skip

    def __init_subclass__(cls, **options: Any) -> None:
        """Makes the subclass a dataclass."""
        super().__init_subclass__(**options)
        dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        """Fills in open choices; raises FlagError for a value outside its range or flags that contradict each other."""
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
                raise FlagError(f"--init_skip={self.init_skip}: is not a regular expression ({error})") from None
            if self.init is None:
                raise FlagError(f"--init_skip={self.init_skip}: has no effect without --init; leave it out")
        last = self.seed + self.seeds - 1
        if last >= MOST:
            problem = f"the last seed would be {last}; the largest possible seed is {MOST - 1}"
            raise FlagError(f"--seed={self.seed} --seeds={self.seeds}: {problem}")
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
            if (
                default is None and not optional and getattr(self, name) is None
            ):  # no recipe sets it: the inherited default
                inherited = (vars(one).get(name) for one in type(self).__mro__)
                filled.add(name)
                object.__setattr__(self, name, next((value for value in inherited if value is not None), None))
        object.__setattr__(self, "open", frozenset(filled))

    def replace(self, **changes: Any) -> Self:
        """Returns the configuration with `changes`; open choices are filled in again, by the new data set's recipe."""
        names = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise FlagError(f"{name}: no such flag; did you mean {nearest(name, names)}?")
        values: Any = dict.fromkeys(self.open) | changes
        return dataclasses.replace(self, **values)

    def resolve(self, train: Any = None) -> Self:
        """Returns the same configuration with `steps` in place of `epochs`.

        steps = ceil(epochs * examples / batch_size), rounded up to a multiple of `accumulate`.

        Args:
          train: `Batches`; or a pytree of them, where an epoch is one pass over the longest; or the `Data` that
            contains them. Ignored if `steps` is set.

        Raises:
          FlagError: neither steps nor epochs are set; epochs are set for data without a length; `steps` is not a
            multiple of `accumulate`.
        """
        k = self.accumulate
        if self.steps is not None:
            if self.steps % k:
                near = math.ceil(self.steps / k) * k
                raise FlagError(f"--steps={self.steps}: must be a multiple of --accumulate={k}, such as {near}")
            return self
        if self.epochs is None:
            raise FlagError("--steps: missing; give --steps or --epochs")
        train = train.train if isinstance(train, Data) else train
        count = batches_in(train, self.batch_size)
        if count is None:
            raise FlagError(f"--epochs={self.epochs:g}: this training data has no length; give --steps")
        steps = math.ceil(self.epochs * count)
        return self.replace(steps=math.ceil(steps / k) * k, epochs=None)

    def make_optimizer(
        self, train: Any = None, *, transforms: Sequence[optax.GradientTransformation] = ()
    ) -> optax.GradientTransformationExtraArgs:
        """Returns the optax chain that the optimiser flags describe.

        The learning rate is a number in the chain's state, so runs that differ only in it share compiled programs. A
        `warmup` at the class's default is cut to at most a tenth of the updates; any other must fit into the run.

        Args:
          train: as for `resolve`; converts `epochs` into the steps that a schedule needs.
          transforms: optax transformations of your own, between clipping and the update rule.

        Raises:
          FlagError: the warm-up is longer than the run, or the schedule needs `steps`.
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
