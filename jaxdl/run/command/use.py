"""What is done with a finished run: its model in a notebook, predictions for files, its score on other data.

An experiment that offers this has a function `inference(config, data)`, as `jaxdl.run.command.contract` says.
"""

import csv
import glob
import importlib
import io
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec as P

from jaxdl.core import Experiment
from jaxdl.data import DataError, MissingData
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.contract import recalled
from jaxdl.run.command.flags import FlagError, flags_of
from jaxdl.run.command.inference import Inference
from jaxdl.run.command.source import check_source
from jaxdl.run.engine.evaluate import evaluator, map_batches
from jaxdl.run.engine.parallel import make_mesh, place
from jaxdl.run.engine.result import read_end
from jaxdl.run.show.claims import number
from jaxdl.run.show.report import log
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.run.store.files import read_json, write, write_json
from jaxdl.run.store.identity import NAME
from jaxdl.run.store.runs import format_table as aligned
from jaxdl.streams import printable

SHOWN = 20  # rows of predictions on the screen


class Loaded(NamedTuple):
    """A trained model: `model.apply(variables, x)` where the model is a linen module."""

    model: Any
    variables: Any
    config: Any


class Finished(NamedTuple):
    """A run that has been opened: one state and one evaluation for each seed."""

    config: Any
    experiment: Experiment
    inference: Inference
    states: list[Any]
    metrics: list[dict[str, float]]


def load(workdir: str | Path, module: Any = None, fit: str = "") -> Loaded:
    """The model of a run, its trained variables and its configuration; of several seeds the first.

    Args:
      workdir: the run's folder.
      module: the experiment; needed only where it is no `experiments.NAME`, but a file of one's own.
      fit: which one, where a run has several.

    Raises:
      MissingData: no run is there, or nothing of it has been saved yet.
      DataError: the run is damaged, or its experiment builds no model.
    """
    run = open_finished(workdir, module, fit)
    return Loaded(run.experiment.model, run.states[0].variables, run.config)


def open_finished(
    workdir: str | Path, module: Any = None, fit: str = "", expected: str = "", **changes: Any
) -> Finished:
    """Reads a run's configuration, makes `changes` in it, and its best or last state; else as `load`.

    Raises:
      FlagError: it is a run of another experiment than the `expected` one.
    """
    root = Path(workdir)
    try:
        return _opened(root, module, fit, expected, changes)
    except (FlagError, DataError):
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        raise DataError(
            f"{root}: its records are no run's of this program ({type(error).__name__}: {error})"
        ) from error


def _opened(root: Path, module: Any, fit: str, expected: str, changes: dict[str, Any]) -> Finished:
    record = read_json(root / "config.json")
    if record is None:
        raise MissingData(f"{root}: no run is there (no config.json); name the folder that a run printed first")
    name = record["experiment"]
    if expected and name != expected:
        raise FlagError(f"--workdir={root}: is a run of {name}, not of {expected}")
    source = record.get("source") or {}
    if module is None:
        if not re.fullmatch(r"[a-z]\w*", name):
            raise DataError(f"{root}: a run of {name!r}, which is no experiment's name")
        own = source.get("module", f"experiments.{name}") != f"experiments.{name}"
        try:
            # a folder may be somebody else's: nothing that it names is imported but an experiment of this package
            module = None if own else importlib.import_module(f"experiments.{name}")
        except ImportError:
            module = None
        if module is None:
            where = f" ({source['file']})" if source.get("file") else ""
            told = "give its module: load(RUN, module), or --module=FILE"
            raise DataError(f"{root}: a run of {name!r}{where}, no experiment of this package; {told}")
    else:
        check_source(source, module, root)
    if not hasattr(module, "build"):
        raise DataError(f"{root}: {name} is a study of other experiments' models; load a run of one of these")
    folders = _seeds(root / fit)
    made_of = read_json(folders[0] / NAME)
    if made_of is None:
        named = sorted(
            {p.parent.name for p in root.glob(f"*/{NAME}")} | {p.parent.parent.name for p in root.glob(f"*/*/{NAME}")}
        )
        hint = f"it has the fits {', '.join(named)}" if named else "the run ended before it had read its data"
        raise MissingData(f"{root / fit}: no fit is there (no {NAME}); {hint}")
    known = {f.name for f in flags_of(module.Config)}
    ends = [read_end(folder) or {} for folder in folders]
    # a schedule has to know them
    changes |= {"workdir": str(root), "steps": max(1, ends[0].get("step", 1)), "epochs": None}
    flags = {k: v for k, v in (record["flags"] | made_of["flags"]).items() if k in known}
    config, data = module.Config(**flags | changes), recalled(made_of["about"])
    experiment = module.build(config, data)
    inference = module.inference(config, data) if hasattr(module, "inference") else Inference()
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
    return Finished(config, experiment, inference, states, metrics)


def _seeds(fit: Path) -> list[Path]:
    """The folders of a fit's seeds; its own where it has one."""
    seeds = (p for p in fit.glob("seed*") if re.fullmatch(r"seed\d+", p.name))
    return sorted(seeds, key=lambda p: int(p.name[4:])) or [fit]


def use_run(config: RunConfig, module: Any, name: str) -> None:
    """What --predict and --evaluate do: the configuration is the run's own; flags that contradict it are refused.

    Args:
      config: with the run's folder in `workdir`.
      module: the experiment.
      name: what its runs are called.

    Raises:
      FlagError: no run is named, or it is one of another experiment, or it was made with other flags, or the
        experiment cannot do this.
      MissingData, DataError: of the run or of the files.
    """
    word = "predict" if config.predict else "evaluate"
    if not config.workdir:
        raise FlagError(f"--{word}: name the run to use, --workdir=RUN")
    here = {flag: getattr(config, flag) for flag in ("data_dir", "devices", "progress")}
    run = open_finished(config.workdir, module, expected=name, **here)
    for f in flags_of(type(config)):
        value, was = getattr(config, f.name), getattr(run.config, f.name)
        if f.rule.affects_result and f.name not in config.open and value not in (f.default, was):
            raise FlagError(f"--{f.name}={value}: this run was made with --{f.name}={was}; leave the flag out")
    if config.predict:
        write_predictions(run, expand(config.predict))
    if config.evaluate:
        write_evaluation(run, config.evaluate)


def expand(words: str) -> list[str]:
    """Files, folders and patterns, separated by commas -> paths that exist; one path may have commas in its name."""
    if os.path.exists(words):
        return [words]
    found = []
    for word in words.split(","):
        paths = [word] if os.path.exists(word) else sorted(glob.glob(word, recursive=True))
        if not paths:
            raise MissingData(f"--predict={word}: no such file; give files, folders or patterns, separated by commas")
        found += paths
    return found


def write_predictions(run: Finished, files: list[str]) -> None:
    """Writes predictions.csv into the run's folder and shows its first rows."""
    if run.inference.read is None:
        raise FlagError("--predict: this experiment predicts nothing for files")
    names, rows = run.inference.read(files)
    predict = run.inference.predict or run.experiment.predict
    assert predict is not None
    outputs = map_batches(predict, run.states[0], rows)
    columns = {"input": names, **(run.inference.table(outputs) if run.inference.table else outputs)}
    lines = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    print(aligned([[str(cell) for cell in line] for line in lines[: SHOWN + 1]]), flush=True)
    path = Path(run.config.workdir) / "predictions.csv"
    write(path, text.getvalue())
    more = f"{len(names) - SHOWN:,} more rows and " if len(names) > SHOWN else ""
    of = "" if len(run.states) == 1 else f", by the first of {len(run.states)} seeds"
    log(f"{more}all columns in {path}{of}")


def write_evaluation(run: Finished, source: str) -> None:
    """Shows the run's scores on another data set beside those of its own test set; adds them to evaluations.json."""
    if run.inference.test is None:
        raise FlagError("--evaluate: this experiment is not scored on other data")
    test = run.inference.test(source)
    score = evaluator(run.experiment, make_mesh(1))
    found = [score(state, test) for state in run.states]
    path = Path(run.config.workdir) / "evaluations.json"
    print(f"{'':14}{'on ' + printable(source):>24}{'on its own test set':>24}")
    for name in found[0]:
        cells = [number([m[name] for m in those]) if all(name in m for m in those) else "-"
                 for those in (found, run.metrics)]  # fmt: skip
        print(f"{name:14}{cells[0]:>24}{cells[1]:>24}", flush=True)
    write_json(path, (read_json(path) or {}) | {source: found})
    log(f"{test.length:,} rows; added to {path}")
