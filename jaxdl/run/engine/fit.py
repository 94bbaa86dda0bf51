"""Trains an experiment, or resumes or loads the fit in its folder."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdl.core import Experiment
from jaxdl.data import Data, DataError
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import MOST, FlagError
from jaxdl.run.engine.distributed import is_first
from jaxdl.run.engine.plan import Plan, prepare
from jaxdl.run.engine.result import Result, read_end, together
from jaxdl.run.engine.training import Training
from jaxdl.run.show.report import last_of, log
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.run.store.files import numbers, refuse_links
from jaxdl.run.store.folder import begun, record_fit
from jaxdl.run.store.history import Log
from jaxdl.run.store.identity import claim_folder, same, versions
from jaxdl.run.store.lock import FIT, locked
from jaxdl.run.store.watch import Watch
from jaxdl.run.store.writers import writers


def fit(
    experiment: Experiment,
    data: Any = None,
    config: RunConfig | None = None,
    *,
    state: Any = None,
    name: str = "",
    watch: Callable[[Any], Any] | None = None,
    on_row: Callable[[dict[str, Any]], Any] | None = None,
    **flags: Any,
) -> Result:
    """Trains `experiment` for `config.steps` steps and evaluates it: `fit(experiment, train, steps=1000)`.

    Args:
      experiment: the pure functions.
      data: `Data`, or its training part alone: `Batches`, a dict of arrays, an object whose `train[t]` is batch t, an
        iterable of batches, a function from a seed to such data, or None if the step needs no data. The validation part
        is evaluated during training; `--patience` and `--monitor` use it alone. Without one, nothing is evaluated
        before the end, unless there is no training data either and `experiment.evaluate(state, None)` plays its own
        episodes. The test part is read once, after all choices have been made; with `--watch_test` at every evaluation.
      config: the flags. Without `workdir` nothing is written. With it the fit is stored in workdir/name: an interrupted
        fit is resumed, a finished one is loaded.
      state: the initial state, which stays valid; each seed replaces its key. Default: `experiment.init(key)`.
      name: distinguishes several fits of one run.
      watch: state -> a pytree of arrays to record during training: samples from fixed noise, a weight matrix.
      on_row: called with each row of the history as soon as it is made: {"step", "seconds", "train/loss", ...}. After a
        resume it receives only the new rows.
      flags: changes to `config`.

    Raises:
      FlagError: a batch is not divisible by the number of devices; the monitored metric does not exist; the folder
        holds a fit with other flags, data or code.
      Diverged: a loss or gradient is not finite.
      Interrupted: SIGINT or SIGTERM arrived; the state has been saved.
    """
    if not isinstance(experiment, Experiment):
        raise FlagError(f"fit: experiment must be an Experiment, as `build` returns it, not {experiment!r:.60}")
    if config is not None and not isinstance(config, RunConfig):
        told = "pass the test part in Data(train, test=...)"
        raise FlagError(f"fit: config must be a RunConfig, not {config!r:.60}; {told}")
    config = (config or RunConfig()).replace(**flags)
    data = (data if isinstance(data, Data) else Data(data)).batched(config.batch_size)
    config = config.resolve(data)
    plan = prepare(experiment, data, config, state, watch)
    seeds = range(config.seed, config.seed + config.seeds)
    try:
        if len(seeds) == 1:
            return _fit(plan, config, name, on_row)
        # one after another: on a CPU, vmap over 8 seeds of an MLP costs 13 times one seed
        one = lambda s: config.replace(seed=s, seeds=1, profile=config.profile if s == config.seed else 0)
        return together([_fit(plan, one(s), f"{name}/seed{s}".lstrip("/"), on_row) for s in seeds])
    finally:
        plan.close()


def _fit(plan: Plan, config: RunConfig, name: str, on_row: Any) -> Result:
    """Fits one seed: loads a finished fit, else resumes from the latest checkpoint or starts."""
    folder = Path(config.workdir) / name if config.workdir else None
    with contextlib.ExitStack() as held:
        if folder and is_first():
            held.enter_context(locked(folder, FIT))
            refuse_links(folder)
            claim_folder(folder, plan.identity(config))
            record_fit(config)
            for root in (Path(str(config.workdir)), Path(str(config.workdir)).parent):  # a sweep's folder is the parent
                begun(root)
        history = Log(folder, writers(config, folder, name, on_row))
        held.callback(history.close)
        checkpoints = Checkpoints(folder and folder / "checkpoints")
        held.callback(checkpoints.close)
        state = plan.start(config.seed)
        first = int(state.step)
        last = first + (config.steps or 0)
        if last >= MOST:
            raise FlagError(f"--steps={config.steps}: starting at step {first}, the last step would exceed {MOST - 1}")
        ended = _ended(folder, last)
        if ended:
            return load_ended(plan, config, state, ended, history, checkpoints, folder)
        return Training(plan, config, name, state, first, last, history, checkpoints, folder).run()


def _ended(folder: Path | None, last: int) -> dict[str, Any] | None:
    """Returns the record of a finished fit, else None; a damaged record is logged and will be recomputed."""
    try:
        ended = read_end(folder) if folder else None
    except DataError as error:
        log(f"warning: {error}; it is recomputed from the last checkpoint")
        return None
    return ended if ended and (ended["step"] >= last or ended["stopped_early"]) else None


def load_ended(
    plan: Plan,
    config: RunConfig,
    state: Any,
    ended: dict[str, Any],
    history: Log,
    checkpoints: Checkpoints,
    folder: Any,
) -> Result:
    """Returns the result of a finished fit; `state` is the one it started from."""
    same(folder, ended["tested"] | {"versions": ended["versions"]}, plan.tested() | {"versions": versions()})
    history.check(ended["log"])
    seen = Watch(plan.watch, folder / "watched", state, ended["watched"]).seen
    _, state = checkpoints.restore(state, ended["state_step"]) or (0, state)
    tested = last_of(history.rows, "test/")
    if tested and tested.keys() != ended["metrics"].keys():
        raise DataError(
            f"{folder / 'result.json'}: its metrics differ from those in metrics.jsonl; --overwrite starts over"
        )
    log(f"{folder}: finished at step {ended['step']}; loaded without training")
    times = ended["seconds"], ended["steps_per_second"]
    metrics, valid = numbers(ended["metrics"]), numbers(ended["valid"])
    return Result(plan.experiment, plan.whole(state), metrics, history.rows, *times, watched=seen, valid=valid)
