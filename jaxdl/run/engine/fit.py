"""fit: trains an experiment, or takes up what its folder holds."""

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
      data: `Data`, or its training part alone: `Batches`, a dict of arrays, anything whose `train[t]` is batch t, an
        iterable of batches, a function from a seed to such data, or None where the step needs none. The validation part
        is evaluated during training, `--patience` and `--monitor` look at it alone; without one nothing is evaluated
        before the end, unless there are no training data either and `experiment.evaluate(state, None)` plays its own
        episodes. The test part is read once, when everything has been chosen; with `--watch_test` at every evaluation.
      config: what the flags say. Without `workdir` nothing is written; with it the fit lives in workdir/name, goes on
        where an earlier one was stopped, and is loaded if it had ended.
      state: where to start, left intact, with each seed's own key; by default `experiment.init` with it.
      name: tells several fits of one run apart.
      watch: state -> a pytree of arrays to be seen over training: samples from a fixed noise, a weight matrix.
      on_row: called with each row of the history as soon as it is made: {"step", "seconds", "train/loss", ...}. On
        resume it sees the rows that are new.
      flags: changes to `config`.

    Raises:
      FlagError: the devices do not divide the batch; the metric to monitor does not exist; the folder holds a fit of
        other flags, data or code.
      Diverged: a loss or gradient is not finite.
      Interrupted: SIGINT or SIGTERM arrived, and the state was saved.
    """
    if not isinstance(experiment, Experiment):
        raise FlagError(f"fit: an Experiment is needed, what `build` returns, not {experiment!r:.60}")
    if config is not None and not isinstance(config, RunConfig):
        told = "the test part goes into Data(train, test=...)"
        raise FlagError(f"fit: config must be a RunConfig, not {config!r:.60}; {told}")
    config = (config or RunConfig()).replace(**flags)
    data = (data if isinstance(data, Data) else Data(data)).batched(config.batch_size)
    config = config.resolve(data)
    plan = prepare(experiment, data, config, state, watch)
    seeds = range(config.seed, config.seed + config.seeds)
    try:
        if len(seeds) == 1:
            return _fit(plan, config, name, on_row)
        # one after another: vmapped on a CPU, 8 seeds of an MLP cost 13 times one
        one = lambda s: config.replace(seed=s, seeds=1, profile=config.profile if s == config.seed else 0)
        return together([_fit(plan, one(s), f"{name}/seed{s}".lstrip("/"), on_row) for s in seeds])
    finally:
        plan.close()


def _fit(plan: Plan, config: RunConfig, name: str, on_row: Any) -> Result:
    """The fit of one seed: load it if it has ended, else go on from the latest checkpoint, or begin."""
    folder = Path(config.workdir) / name if config.workdir else None
    with contextlib.ExitStack() as held:
        if folder and is_first():
            held.enter_context(locked(folder, FIT))
            refuse_links(folder)
            claim_folder(folder, plan.identity(config))
            record_fit(config)
            for root in (Path(str(config.workdir)), Path(str(config.workdir)).parent):  # a sweep's is one above
                begun(root)
        history = Log(folder, writers(config, folder, name, on_row))
        held.callback(history.close)
        checkpoints = Checkpoints(folder and folder / "checkpoints")
        held.callback(checkpoints.close)
        state = plan.start(config.seed)
        first = int(state.step)
        last = first + (config.steps or 0)
        if last >= MOST:
            raise FlagError(f"--steps={config.steps}: from step {first} on that is more than {MOST - 1}, the most")
        ended = _ended(folder, last)
        if ended:
            return load_ended(plan, config, state, ended, history, checkpoints, folder)
        return Training(plan, config, name, state, first, last, history, checkpoints, folder).run()


def _ended(folder: Path | None, last: int) -> dict[str, Any] | None:
    """The result of a fit that has ended; a damaged one is told of, and found again from the last checkpoint."""
    try:
        ended = read_end(folder) if folder else None
    except DataError as error:
        log(f"warning: {error}; it is made again from the last checkpoint")
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
    """The result of a fit that had ended; `state` is the one with which it began."""
    same(folder, ended["tested"] | {"versions": ended["versions"]}, plan.tested() | {"versions": versions()})
    history.check(ended["log"])
    seen = Watch(plan.watch, folder / "watched", state, ended["watched"]).seen
    _, state = checkpoints.restore(state, ended["state_step"]) or (0, state)
    tested = last_of(history.rows, "test/")
    if tested and tested.keys() != ended["metrics"].keys():
        raise DataError(
            f"{folder / 'result.json'}: its metrics are not those of metrics.jsonl; --overwrite starts anew"
        )
    log(f"{folder}: has ended at step {ended['step']}; loaded, nothing was trained")
    times = ended["seconds"], ended["steps_per_second"]
    metrics, valid = numbers(ended["metrics"]), numbers(ended["valid"])
    return Result(plan.experiment, plan.whole(state), metrics, history.rows, *times, watched=seen, valid=valid)
