"""A finished run in use: what it says of new data, in a notebook; its model, variables and state for research.

An experiment that offers this has a function `inference(config, data)`, as `jaxdl.run.command.contract` says.
"""

import dataclasses
import re
from collections.abc import Mapping
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
from jaxdl.run.command.flags import FlagError, flags_of, nearest
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
    """A run that has been opened: `run.predict(x)`, and what it is made of.

    config: its flags. experiment: its pure functions. data: its shapes and facts, without rows. inference: what it does
    with new data. states, metrics: the state and the test metrics of each seed.
    """

    config: Any
    experiment: Experiment
    data: Data
    inference: Inference
    states: tuple[Any, ...]
    metrics: tuple[dict[str, float], ...]
    module: Any = dataclasses.field(repr=False, default=None)

    @property
    def state(self) -> Any:
        """All that training left, the optimiser's numbers too: `fit(..., state=run.state)` goes on from here."""
        return self.states[0]

    @property
    def variables(self) -> Any:
        """What the model is applied with: the parameters by which it is evaluated, and batch norm's averages."""
        return self.state.variables

    @property
    def model(self) -> Any:
        """The network as the experiment has it. It knows nothing of what training did to its data; `predict` does."""
        return self.experiment.model

    @property
    def data_facts(self) -> Mapping[str, Any]:
        """What the run remembers of its data: class names, a vocabulary, scales."""
        return self.data.facts

    def asked(self, **flags: Any) -> "Loaded":
        """The same run with other flags of its use: a temperature, a length.

        Raises:
          FlagError: no flag of use.
        """
        names = [f.name for f in flags_of(type(self.config)) if f.rule.group == "use"]
        for name in flags:
            if name not in names:
                raise FlagError(f"{name}: is no flag of a finished run's use; the nearest is {nearest(name, names)}")
        return self.using(self.config.replace(**flags))

    def using(self, config: Any) -> "Loaded":
        """The same run with a configuration that differs in flags of its use."""
        return dataclasses.replace(self, config=config, inference=inference_of(self.module, config, self.data))

    def predict(self, inputs: Any, **flags: Any) -> Any:
        """What the run says of new data, to which is done all that training did to its own.

        Args:
          inputs: what the experiment's `inference` takes: images, a DataFrame or rows, a text, a number of samples; or
            `Batches` as its training had them, and where it has no `inference` a dict of such arrays.
          flags: of its use, `temperature=0.5` for example.

        Returns:
          What the experiment predicts, one entry for each row: probabilities [n, N], numbers [n], texts, images. Of
          several seeds the first one's; `run.table(inputs)` has names with it.

        Raises:
          FlagError, DataError: inputs that it does not take, flags that are none.
        """
        run = self.asked(**flags) if flags else self
        outputs = run.outputs(run.encode(inputs))
        return outputs if run.inference.decode is None else run.inference.decode(outputs)

    def table(self, inputs: Any, **flags: Any) -> dict[str, Any]:
        """{column: values}, as --predict writes them; arguments as for `predict`.

        Raises:
          FlagError: this experiment has no table of what it predicts.
        """
        run = self.asked(**flags) if flags else self
        if run.inference.table is None:
            raise FlagError("table: this experiment has none; predict gives what it says")
        return dict(run.inference.table(run.outputs(run.encode(inputs))))

    def encode(self, inputs: Any) -> Batches:
        """The rows that new data stand for."""
        if isinstance(inputs, Batches):
            return inputs
        if self.inference.encode is not None:
            return self.inference.encode(inputs)
        if not isinstance(inputs, Mapping):
            raise FlagError(
                "predict: this experiment has no inference(config, data) with `encode`; it takes Batches, or a dict of "
                "arrays such as a batch of its training"
            )
        return Batches(inputs, 256)

    @property
    def outputs_of(self) -> Any:
        """The pure function (state, batch) -> outputs; None where there is none."""
        return self.inference.predict or self.experiment.predict

    def outputs(self, rows: Batches) -> Any:
        """What is said of rows, undecoded."""
        if self.outputs_of is None:
            raise FlagError("predict: this experiment predicts nothing")
        try:
            return map_batches(self.outputs_of, self.state, rows)
        except (KeyError, TypeError, ValueError, FlaxError) as error:
            has = ", ".join(f"{k} {v.dtype}{list(v.shape[1:])}" for k, v in rows.example.items())
            wants = ", ".join(f"{k} {v.dtype}{list(v.shape[1:])}" for k, v in self._example().items())
            reason = " ".join(str(error).split())[:120]
            raise FlagError(f"predict: rows have {has}, training had {wants} ({reason})") from error

    def apply(self, inputs: Any, **options: Any) -> Any:
        """The network on new data, to which is done what training did: logits, or inner layers.

        Args:
          inputs: as for `predict`.
          options: of flax's `apply`: `capture_intermediates=True, mutable=["intermediates"]`.

        Raises:
          FlagError: the experiment's model is no single linen module.
        """
        if self.experiment.inputs is None:
            raise FlagError("apply: this experiment's model is more than one linen module; call run.model's functions")
        rows = self.encode(inputs)
        batch = rows.take(rows.arrays, np.arange(rows.length))
        return self.model.apply(self.variables, *self.experiment.inputs(batch), **modes(self.model)(False), **options)

    def _example(self) -> Mapping[str, Any]:
        return self.data.example if isinstance(self.data.example, Mapping) else {}

    def evaluate(self, source: Any) -> list[dict[str, float]]:
        """The scores of each seed on other data: a name or path that the experiment takes, or `Batches`.

        Raises:
          FlagError, DataError, MissingData: of `source`.
        """
        test = source if isinstance(source, Batches) else self.test(source)
        score = evaluator(self.experiment, make_mesh(1))
        return [score(state, test) for state in self.states]

    def test(self, source: str) -> Batches:
        """The rows of another data set, by name or path, on which the run is scored.

        Raises:
          FlagError, DataError, MissingData: of `source`.
        """
        if self.inference.test is None:
            raise FlagError("--evaluate: this experiment is not scored on other data")
        return self.inference.test(source)

    def save(self, path: str | Path) -> None:
        """Writes the weights into FILE.npz, {"learner/params/Dense_0/kernel": array, ...}, which --init takes.

        Raises:
          FlagError: the name ends otherwise.
        """
        save_weights(path, self.state)


def inference_of(module: Any, config: Any, data: Data) -> Inference:
    """What an experiment does with new data; nothing where it has no `inference`."""
    return module.inference(config, data) if hasattr(module, "inference") else Inference()


def load(workdir: str | Path, module: Any = None, fit: str | None = None, **flags: Any) -> Loaded:
    """Opens a run: `run = jaxdl.load(RUN)`, then `run.predict(images)`.

    Args:
      workdir: the run's folder.
      module: the experiment; needed only where it is no `experiments.NAME`, but a file of one's own. For what `fit` in
        a script has trained, the `Experiment` itself.
      fit: which one, where a run has several.
      flags: of its use, and where and on what it runs: temperature=0.5, data_dir="..."

    Raises:
      MissingData: no run is there, or nothing of it has been saved yet.
      DataError: the run is damaged, or its experiment builds no model.
      FlagError: a flag that is none, or one that changes what the run is.
    """
    return open_finished(workdir, module, fit, **flags)


def open_finished(
    workdir: str | Path, module: Any = None, fit: str | None = None, expected: str = "", **changes: Any
) -> Loaded:
    """Reads a run's configuration, makes `changes` in it, and its best or last state; else as `load`.

    Raises:
      FlagError: it is a run of another experiment than the `expected` one.
    """
    if not isinstance(workdir, (str, Path)):
        raise FlagError(f"load: the folder of a run is needed, not {type(workdir).__name__}")
    root = Path(workdir)
    try:
        return _opened(root, module, fit or "", expected, changes)
    except (FlagError, DataError):
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        raise DataError(
            f"{root}: its records are no run's of this program ({type(error).__name__}: {error})"
        ) from error


def _opened(root: Path, module: Any, fit: str, expected: str, changes: dict[str, Any]) -> Loaded:
    record = read_json(root / "config.json")
    if record is None:
        raise MissingData(f"{root}: no run is there (no config.json); name the folder that a run printed first")
    name = record["experiment"]
    if expected and name != expected:
        raise FlagError(f"--workdir={root}: is a run of {name}, not of {expected}")
    module = _module(root, record, module)
    folders, made_of = _fit(root, fit, module)
    config_flags = record["flags"] | made_of["flags"]
    if made_of.get("experiment"):  # a fit of another experiment's model, such as the judge of a GAN
        module = packaged.experiment(made_of["experiment"].removeprefix("experiments."))
        config_flags = {k: v for k, v in record["flags"].items() if k in PLACE} | made_of["flags"]
    if not hasattr(module, "build"):
        raise DataError(f"{root / fit}: {name} is a study, which builds no model of its own")
    known = {f.name: f for f in flags_of(module.Config)}
    for flag in changes:
        if flag not in known or known[flag].rule.affects_result:
            usable = [k for k, f in known.items() if not f.rule.affects_result]
            raise FlagError(f"load: {flag} is no flag of use; the nearest is {nearest(flag, usable)}")
    ends = [read_end(folder) or {} for folder in folders]
    # a schedule has to know them
    changes = changes | {"workdir": str(root), "steps": max(1, ends[0].get("step", 1)), "epochs": None}
    flags = {k: v for k, v in config_flags.items() if k in known}
    config, data = module.Config(**flags | changes), recalled(made_of["about"])
    experiment = module.build(config, data)
    like = place(jax.jit(experiment.init)(jax.random.key(0)), make_mesh(1), P())
    states, metrics = [], []
    for folder, ended in zip(folders, ends, strict=True):
        checkpoints = Checkpoints(folder / "checkpoints", write=False)
        found = checkpoints.restore(like, ended.get("state_step"))
        checkpoints.close()
        if found is None:
            raise MissingData(f"{folder}: no checkpoint is there yet; let the run end, or save (--checkpoint_every)")
        if not ended:
            log(f"{folder}: has not ended; its state of step {found[0]} is used")
        states.append(found[1])
        metrics.append(ended.get("metrics", {}))
    inference = inference_of(module, config, data)
    return Loaded(config, experiment, data, inference, tuple(states), tuple(metrics), module)


def _module(root: Path, record: Mapping[str, Any], module: Any) -> Any:
    """The experiment of a run: the one given, or one of this package."""
    name, source = record["experiment"], record.get("source") or {}
    if isinstance(module, Experiment):  # trained by `fit` in a script
        return SimpleNamespace(Config=RunConfig, build=lambda config, data: module, __name__="")
    if module is not None:
        if not hasattr(module, "Config"):
            raise FlagError(f"load: an experiment, a module with Config and build, is needed, not {module!r:.60}")
        check_source(source, module, root)
        return module
    if not re.fullmatch(r"[a-z]\w*", name):
        raise DataError(f"{root}: a run of {name!r}, which is no experiment's name")
    own = source.get("module", f"experiments.{name}") != f"experiments.{name}"
    try:
        # a folder may be somebody else's: nothing that it names is imported but an experiment of this package
        module = None if own else packaged.experiment(name)
    except ImportError:
        module = None
    if module is None:
        where = f" ({source['file']})" if source.get("file") else ""
        told = "give its module or Experiment: load(RUN, module), or --module=FILE"
        raise DataError(f"{root}: a run of {name!r}{where}, no experiment of this package; {told}")
    return module


def _fit(root: Path, fit: str, module: Any) -> tuple[list[Path], dict[str, Any]]:
    """The folders of a fit's seeds, and what it was made of; a run's only fit need not be named."""
    if ".." in fit or not re.fullmatch(r"([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?", fit):
        raise FlagError(f"--fit={fit}: is no name of a fit")
    fits = {}
    for path in sorted(root.rglob(NAME)):
        of = path.parent.parent if re.fullmatch(r"seed\d+", path.parent.name) else path.parent
        fits[str(of.relative_to(root)).removeprefix(".")] = of
    if not fit and "" not in fits:
        known = lambda folder: (read_json(_seeds(folder)[0] / NAME) or {}).get("experiment")
        own = [name for name, folder in fits.items() if known(folder) in (None, "", module.__name__)]
        fit = own[0] if len(own) == 1 and hasattr(module, "build") else ""
    if fit not in fits:
        listed = f"name one of its fits, --fit=NAME or load(RUN, fit=NAME): {', '.join(fits)}"
        hint = listed if fits else "the run ended before it had read its data"
        raise MissingData(f"{root / fit}: no fit is there (no {NAME}); {hint}")
    folders = _seeds(fits[fit])
    made_of = read_json(folders[0] / NAME)
    if not re.fullmatch(r"(experiments\.[a-z]\w*)?", made_of.get("experiment", "")):
        raise DataError(f"{folders[0] / NAME}: names no experiment of this package")
    return folders, made_of


def _seeds(fit: Path) -> list[Path]:
    """The folders of a fit's seeds; its own where it has one."""
    seeds = (p for p in fit.glob("seed*") if re.fullmatch(r"seed\d+", p.name))
    return sorted(seeds, key=lambda p: int(p.name[4:])) or [fit]
