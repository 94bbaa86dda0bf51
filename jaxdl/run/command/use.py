"""Using a finished run: predictions for new data in a notebook; its model, variables and state for research.

An experiment that supports this has a function `inference(config, data)`; see `jaxdl.run.command.contract`.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from flax.errors import FlaxError
from jax.sharding import PartitionSpec as P

from jaxdl import packaged
from jaxdl.core import Experiment
from jaxdl.data import Batches, Data, DataError, MissingData
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError, flags_of
from jaxdl.run.command.inference import Inference
from jaxdl.run.command.source import check_source
from jaxdl.run.engine.evaluate import evaluator, map_batches
from jaxdl.run.engine.parallel import make_mesh, place
from jaxdl.run.engine.result import read_end
from jaxdl.run.show.report import log
from jaxdl.run.store.about import recalled
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.run.store.files import read_json
from jaxdl.run.store.identity import NAME
from jaxdl.run.store.runs import PLACE
from jaxdl.run.store.weights import save_weights
from jaxdl.supervision import modes


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A finished run in memory: `run.predict(x)`, and its parts.

    config: its flags. experiment: its pure functions. data: shapes and facts of its data, without rows. inference: its
    functions for new data. states, metrics: the state and the test metrics of each seed. tested: digests of the test
    part on which they were measured. trained: digest of the training part.
    """

    config: Any
    experiment: Experiment
    data: Data
    inference: Inference
    states: tuple[Any, ...]
    metrics: tuple[dict[str, float], ...]
    module: Any = dataclasses.field(repr=False, default=None)
    tested: Mapping[str, Any] = dataclasses.field(repr=False, default_factory=dict)
    trained: Mapping[str, Any] = dataclasses.field(repr=False, default_factory=dict)

    @property
    def state(self) -> Any:
        """The complete training state of the first seed: `fit(..., state=run.state)` continues from it."""
        return self.states[0]

    @property
    def variables(self) -> Any:
        """The variables for `model.apply`: the parameters used in evaluation, and batch norm's averages."""
        return self.state.variables

    @property
    def model(self) -> Any:
        """The network of the experiment. Its inputs must be preprocessed as in training; `predict` does this itself."""
        return self.experiment.model

    @property
    def data_facts(self) -> Mapping[str, Any]:
        """Facts of the data that the run stored, such as class names, a vocabulary or scales."""
        return self.data.facts

    def asked(self, **flags: Any) -> "Loaded":
        """Returns the same run with other flags of group "use", such as a temperature or a length.

        Raises:
          FlagError: as `check_use`.
        """
        check_use(type(self.config), flags)
        return self.using(self.config.replace(**flags))

    def using(self, config: Any) -> "Loaded":
        """Returns the same run with a configuration that differs in flags of group "use"."""
        return dataclasses.replace(self, config=config, inference=inference_of(self.module, config, self.data))

    def predict(self, inputs: Any, **flags: Any) -> Any:
        """Returns the run's predictions for new data, which are preprocessed like the training data.

        Args:
          inputs: as the experiment's `inference` accepts them: images, a DataFrame or rows, a text, a sample count; or
            `Batches` as in training. Without an `inference`, a dict of arrays as in a training batch.
          flags: flags of group "use", such as `temperature=0.5`.

        Returns:
          One prediction for each row: probabilities [n, N], numbers [n], texts or images, from the first seed.
          `run.table(inputs)` adds names to them.

        Raises:
          FlagError, DataError: the inputs or the flags are invalid.
        """
        run = self.asked(**flags) if flags else self
        outputs = run.outputs(run.encode(inputs))
        return outputs if run.inference.decode is None else run.inference.decode(outputs)

    def table(self, inputs: Any, **flags: Any) -> dict[str, Any]:
        """Returns {column: values} as written by --predict; arguments as for `predict`.

        Raises:
          FlagError: the experiment defines no table of predictions.
        """
        run = self.asked(**flags) if flags else self
        if run.inference.table is None:
            raise FlagError("table: this experiment defines no table; use predict")
        return dict(run.inference.table(run.outputs(run.encode(inputs))))

    def encode(self, inputs: Any) -> Batches:
        """Converts new data to rows for the network."""
        if isinstance(inputs, Batches):
            return inputs
        if self.inference.encode is not None:
            return self.inference.encode(inputs)
        if not isinstance(inputs, Mapping):
            raise FlagError(
                "predict: needs Batches or a dict of arrays as in a training batch, because this experiment has no "
                "inference(config, data) with `encode`"
            )
        return Batches(inputs, 256)

    @property
    def outputs_of(self) -> Any:
        """The pure function (state, batch) -> outputs, or None."""
        return self.inference.predict or self.experiment.predict

    def outputs(self, rows: Batches) -> Any:
        """Returns the network's outputs for rows, before `decode`."""
        if self.outputs_of is None:
            raise FlagError("predict: this experiment makes no predictions")
        try:
            return map_batches(self.outputs_of, self.state, rows)
        except (KeyError, TypeError, ValueError, FlaxError) as error:
            has = ", ".join(f"{k} {v.dtype}{list(v.shape[1:])}" for k, v in rows.example.items())
            wants = ", ".join(f"{k} {v.dtype}{list(v.shape[1:])}" for k, v in self._example().items())
            reason = " ".join(str(error).split())[:120]
            raise FlagError(f"predict: must be rows with {wants} as in training, not {has} ({reason})") from error

    def apply(self, inputs: Any, **options: Any) -> Any:
        """Applies the network to new data, which are preprocessed like the training data; returns logits.

        Args:
          inputs: as for `predict`.
          options: for flax's `apply`, such as `capture_intermediates=True, mutable=["intermediates"]` for inner layers.

        Raises:
          FlagError: the experiment's model is not a single linen module.
        """
        if self.experiment.inputs is None:
            raise FlagError(
                "apply: this experiment's model is not a single linen module; call the functions of run.model"
            )
        rows = self.encode(inputs)
        batch = rows.take(rows.arrays, np.arange(rows.length))
        return self.model.apply(self.variables, *self.experiment.inputs(batch), **modes(self.model)(False), **options)

    def _example(self) -> Mapping[str, Any]:
        return self.data.example if isinstance(self.data.example, Mapping) else {}

    def evaluate(self, source: Any) -> list[dict[str, float]]:
        """Returns the metrics of each seed on other data.

        Args:
          source: the name or path of a data set that the experiment accepts, or `Batches`.

        Raises:
          FlagError, DataError, MissingData: `source` cannot be used.
        """
        test = source if isinstance(source, Batches) else self.test(source)
        score = evaluator(self.experiment, make_mesh(1))
        return [score(state, test) for state in self.states]

    def test(self, source: str) -> Batches:
        """Returns the rows of another data set, by name or path, on which to evaluate the run.

        Raises:
          FlagError, DataError, MissingData: `source` cannot be used.
        """
        if self.inference.test is None:
            raise FlagError("--evaluate: this experiment cannot be evaluated on other data")
        return self.inference.test(source)

    def save(self, path: str | Path) -> None:
        """Writes the weights to FILE.npz, {"learner/params/Dense_0/kernel": array, ...}, for --init.

        Raises:
          FlagError: the name does not end in .npz.
        """
        save_weights(path, self.state)


def of_use(config_class: type) -> list[str]:
    """Returns the flags that may change when a finished run is used: group "use", and where it runs."""
    return ["data_dir", "devices", "progress", *(f.name for f in flags_of(config_class) if f.rule.group == "use")]


def check_use(config_class: type, names: Iterable[str]) -> None:
    """Raises FlagError for the first name that is not a flag for using a finished run."""
    allowed = of_use(config_class)
    for name in names:
        if name not in allowed:
            raise FlagError(f"--{name}: cannot be set for a finished run, only --{', --'.join(allowed)}")


def inference_of(module: Any, config: Any, data: Data) -> Inference:
    """Returns an experiment's functions for new data; all None if it has no `inference`."""
    return module.inference(config, data) if hasattr(module, "inference") else Inference()


def load(
    workdir: str | Path, module: Any = None, fit: str | None = None, *, started: bool = False, **flags: Any
) -> Loaded:
    """Opens a run: `run = jaxdl.load(RUN)`, then `run.predict(images)`.

    Args:
      workdir: the run's folder.
      module: the experiment; needed only if it is your own file and not `experiments.NAME`. For a run of `fit` in a
        script, the `Experiment` itself.
      fit: the name of a fit, if the run has several.
      started: accept a fit without a checkpoint, such as one that diverged; its states are the initial ones.
      flags: flags of group "use", data_dir, devices and progress: `temperature=0.5, data_dir="..."`.

    Raises:
      MissingData: the folder contains no run, or no checkpoint yet.
      DataError: the run is damaged, or its experiment builds no model.
      FlagError: as `check_use`.
    """
    return open_finished(workdir, module, fit, started=started, **flags)


def open_finished(
    workdir: str | Path,
    module: Any = None,
    fit: str | None = None,
    expected: str = "",
    started: bool = False,
    **changes: Any,
) -> Loaded:
    """Opens a run like `load`, with `changes` in its configuration.

    Raises:
      FlagError: it is a run of another experiment than `expected`.
    """
    if not isinstance(workdir, (str, Path)):
        raise FlagError(f"load: must be the folder of a run, not {type(workdir).__name__}")
    root = Path(workdir)
    try:
        return _opened(root, module, fit or "", expected, started, changes)
    except (FlagError, DataError):
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        raise DataError(
            f"{root}: its records are not those of a run of jaxdl ({type(error).__name__}: {error})"
        ) from error


def _opened(root: Path, module: Any, fit: str, expected: str, started: bool, changes: dict[str, Any]) -> Loaded:
    record = read_json(root / "config.json")
    if record is None:
        raise MissingData(f"{root}: contains no run (no config.json); give the folder that the run printed")
    name = record["experiment"]
    if expected and name != expected:
        raise FlagError(f"--workdir={root}: must be a run of {expected}, not of {name}")
    module = _module(root, record, module)
    folders, made_of = _fit(root, fit, module)
    config_flags = record["flags"] | made_of["flags"]
    if made_of.get("experiment"):  # the fit of another experiment's model, such as the judge of a GAN
        module = packaged.experiment(made_of["experiment"].removeprefix("experiments."))
        config_flags = {k: v for k, v in record["flags"].items() if k in PLACE} | made_of["flags"]
    if not hasattr(module, "build"):
        raise DataError(f"{root / fit}: {name} is a study without a model of its own; choose one of its fits")
    known = {f.name for f in flags_of(module.Config)}
    check_use(module.Config, changes)
    ends = [read_end(folder) or {} for folder in folders]
    # a schedule needs the number of steps
    steps = ends[0].get("step") or made_of["flags"].get("steps") or 1
    changes = changes | {"workdir": str(root), "steps": steps, "epochs": None}
    flags = {k: v for k, v in config_flags.items() if k in known}
    config, data = module.Config(**flags | changes), recalled(made_of["about"])
    experiment = module.build(config, data)
    like = place(jax.jit(experiment.init)(jax.random.key(0)), make_mesh(1), P())
    states, metrics = [], []
    for folder, ended in zip(folders, ends, strict=True):
        checkpoints = Checkpoints(folder / "checkpoints", write=False)
        found = checkpoints.restore(like, ended.get("state_step"))
        checkpoints.close()
        if found is None and started:
            seed = (read_json(folder / NAME) or {}).get("flags", {}).get("seed", config.seed)
            found = 0, place(jax.jit(experiment.init)(jax.random.key(seed)), make_mesh(1), P())
        if found is None:
            raise MissingData(
                f"{folder}: has no checkpoint yet; wait for the end of the run, or set --checkpoint_every"
            )
        if not ended:
            log(f"{folder}: not finished; using its state of step {found[0]}")
        states.append(found[1])
        metrics.append(ended.get("metrics", {}))
    inference = inference_of(module, config, data)
    tested = ends[0].get("tested", {}).get("data", {})
    trained = made_of["data"]["train"] or {}
    return Loaded(config, experiment, data, inference, tuple(states), tuple(metrics), module, tested, trained)


def _module(root: Path, record: Mapping[str, Any], module: Any) -> Any:
    """Returns the experiment of a run: the given module, or one of this package."""
    name, source = record["experiment"], record.get("source") or {}
    if isinstance(module, Experiment):  # trained by `fit` in a script
        return SimpleNamespace(Config=RunConfig, build=lambda config, data: module, __name__="")
    if module is not None:
        if not hasattr(module, "Config"):
            raise FlagError(f"load: module must be an experiment with Config and build, not {module!r:.60}")
        check_source(source, module, root)
        return module
    if not re.fullmatch(r"[a-z]\w*", name):
        raise DataError(f"{root}: {name!r} is not the name of an experiment")
    own = source.get("module", f"experiments.{name}") != f"experiments.{name}"
    try:
        # the folder may come from somebody else: import nothing that it names, except experiments of this package
        module = None if own else packaged.experiment(name)
    except ImportError:
        module = None
    if module is None:
        where = f" ({source['file']})" if source.get("file") else ""
        advice = "give its module or Experiment: load(RUN, module), or --module=FILE"
        raise DataError(f"{root}: is a run of {name!r}{where}, not an experiment of this package; {advice}")
    return module


def _fit(root: Path, fit: str, module: Any) -> tuple[list[Path], dict[str, Any]]:
    """Returns the folders of a fit's seeds and its fit.json; the only fit of a run need not be named."""
    if ".." in fit or not re.fullmatch(r"([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?", fit):
        raise FlagError(f"--fit={fit}: is not a valid name of a fit")
    fits = {}
    for path in sorted(root.rglob(NAME)):
        of = path.parent.parent if re.fullmatch(r"seed\d+", path.parent.name) else path.parent
        fits[str(of.relative_to(root)).removeprefix(".")] = of
    if not fit and "" not in fits:
        known = lambda folder: (read_json(_seeds(folder)[0] / NAME) or {}).get("experiment")
        own = [name for name, folder in fits.items() if known(folder) in (None, "", module.__name__)]
        fit = own[0] if len(own) == 1 and hasattr(module, "build") else ""
    if fit not in fits:
        listed = f"choose a fit by --fit=NAME or load(RUN, fit=NAME): {', '.join(fits)}"
        hint = listed if fits else "the run stopped before it had read its data"
        raise MissingData(f"{root / fit}: contains no fit (no {NAME}); {hint}")
    folders = _seeds(fits[fit])
    made_of = read_json(folders[0] / NAME)
    if not re.fullmatch(r"(experiments\.[a-z]\w*)?", made_of.get("experiment", "")):
        raise DataError(f"{folders[0] / NAME}: its experiment is not in this package")
    return folders, made_of


def _seeds(fit: Path) -> list[Path]:
    """Returns the folders of a fit's seeds, or the fit's own folder if it has one seed."""
    seeds = (p for p in fit.glob("seed*") if re.fullmatch(r"seed\d+", p.name))
    return sorted(seeds, key=lambda p: int(p.name[4:])) or [fit]
