"""fit: the one training loop. Evaluation, early stopping, checkpoints and resume around compiled steps."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.core import Experiment
from jaxdl.guard import fault_name
from jaxdl.optim import with_peak_of
from jaxdl.run.checkpoint import Checkpoints
from jaxdl.run.config import RunConfig
from jaxdl.run.evaluate import Tests, evaluator, metric_names
from jaxdl.run.feed import Feed, advance
from jaxdl.run.flags import FlagError
from jaxdl.run.folder import read_json, write_json
from jaxdl.run.parallel import agreed, compile_steps, make_mesh, place_state, whole
from jaxdl.run.plots import curves, save_figure
from jaxdl.run.profile import profiled
from jaxdl.run.report import Log, Progress, Row, start_line
from jaxdl.run.signals import Interrupted, caught
from jaxdl.run.watch import Watch


class Diverged(RuntimeError):
    """The loss or a gradient is no longer a finite number."""


class Result(NamedTuple):
    """What a fit leaves: the state (the best one after early stopping) and the numbers.

    metrics: the evaluation of `state`; the mean over the seeds if there were several.
    history: the rows of metrics.jsonl: {"step", "train/loss", ...} and {"step", "test/loss", ...}.
    seconds: of the whole fit. steps_per_second: of training alone, without the first interval, which compiles.
    runs: the Result of each seed if there were several; `state`, `history` and `watched` are the first one's.
    watched: {step: watch(state)}, what `fit(watch=...)` saw at the start and at every evaluation.
    """

    state: Any
    metrics: dict[str, float]
    history: list[Row]
    seconds: float
    steps_per_second: float
    runs: tuple[Any, ...] = ()
    watched: Mapping[int, Any] = MappingProxyType({})

    def values(self, metric: str) -> list[float]:
        """One metric in the run of every seed."""
        return [run.metrics[metric] for run in self.runs or (self,)]

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """(steps, values) of one column of the history, "train/loss" for example."""
        rows = [row for row in self.history if key in row]
        return [row["step"] for row in rows], [row[key] for row in rows]


class Best:
    """The best evaluation so far and how long ago it was; built from the rows of the log, so resume needs no more."""

    def __init__(self, config: RunConfig, rows: list[Row]) -> None:
        """Takes up the evaluations that the log already has."""
        self._name, self._patience = config.monitor, config.patience
        self._sign = 1.0 if config.monitor_mode == "max" else -1.0
        self.score, self.step, self.metrics, self._since = -math.inf, 0, dict[str, float](), 0
        for row in rows:
            report = {key.removeprefix("test/"): v for key, v in row.items() if key.startswith("test/")}
            if report:
                self.update(row["step"], report)

    def update(self, step: int, metrics: dict[str, float]) -> bool:
        """Whether these are the best so far; equal is not better, and what is not finite never is."""
        score = self._sign * metrics.get(self._name, math.nan)
        better = math.isfinite(score) and score > self.score
        self._since = 0 if better else self._since + 1
        if better:
            self.score, self.step, self.metrics = score, step, dict(metrics)
        return better

    @property
    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self._patience <= self._since


def fit(
    experiment: Experiment,
    train: Any = None,
    test: Tests = None,
    config: RunConfig = RunConfig(),  # noqa: B008 (frozen)
    *,
    state: Any = None,
    name: str = "",
    watch: Callable[[Any], Any] | None = None,
) -> Result:
    """Trains `experiment` for `config.steps` steps and evaluates it.

    Args:
      experiment: the pure functions.
      train: `Batches`, or a pytree of them (a batch is then the same pytree), or anything whose `train[t]` is batch t
        (a `grain.MapDataset` for example), or None where the step needs no data.
      test: `Batches`, or several by name, or None: then nothing is evaluated, unless `train` is None too and
        `experiment.evaluate(state, None)` plays its own episodes.
      config: what the flags say. Without `workdir` nothing is written; with it the fit lives in workdir/name, goes on
        where an earlier one was stopped, and is loaded if it had ended.
      state: where to start, left intact; by default `experiment.init` with the seed's key.
      name: tells several fits of one run apart.
      watch: state -> a pytree of arrays to be seen over training: samples from a fixed noise, a weight matrix.

    Raises:
      FlagError: the devices do not divide the batch; the metric to monitor does not exist.
      Diverged: a logged loss is not finite.
      Interrupted: SIGINT or SIGTERM arrived, and the state was saved.
    """
    config = config.resolve(train)
    mesh = make_mesh(config.devices)
    feed = Feed(train, mesh)
    try:
        init, like = _initial(experiment)
        like = like if state is None else state
    except ValueError as error:  # images too small for the model, --freeze that matches nothing
        raise FlagError(str(error)) from error
    evaluated = test is not None or train is None
    names = metric_names(experiment, test, like) if evaluated else []
    if config.monitor not in names and (config.patience or (names and config.monitor != "loss")):
        raise FlagError(f"--monitor={config.monitor}: the evaluation gives {', '.join(sorted(names)) or 'nothing'}")
    call = compile_steps(experiment.step, like, mesh, parallel=config.parallel, take=feed.take)
    # the configured learning rate, which is a number in the state, wins over that of a state from elsewhere
    begin = lambda new: new if state is None else with_peak_of(new, state)
    programs = Programs(
        # a copy of what is given: the caller keeps it, and donation refuses a buffer that stands in two fields
        start=lambda seed: place_state(begin(init(seed)), mesh, config.parallel),
        call=partial(call, feed.arrays),
        whole=lambda tree: whole(tree, mesh),
        rows=feed.rows,
        evaluate=evaluator(experiment, test, mesh) if evaluated else lambda state: {},
        watch=jax.jit(watch, out_shardings=NamedSharding(mesh, P())) if watch else None,
        scan=feed.scan(experiment.step, like, config.scan),
        title=start_line(like, feed.arrays, mesh),
    )
    if config.seeds == 1:
        result = _fit(programs, config, name)
    else:
        seeds = range(config.seed, config.seed + config.seeds)
        # one after another: vmapped on a CPU, 8 seeds of an MLP cost 13 times one
        one = lambda s: replace(config, seed=s, profile=config.profile if s == config.seed else 0)
        runs = tuple(_fit(programs, one(s), f"{name}/seed{s}".lstrip("/")) for s in seeds)
        metrics = {key: fmean(run.metrics[key] for run in runs) for key in runs[0].metrics}
        seconds, rate = sum(run.seconds for run in runs), fmean(run.steps_per_second for run in runs)
        result = Result(runs[0].state, metrics, runs[0].history, seconds, rate, runs, runs[0].watched)
    if config.workdir:
        save_figure(config, f"{name}/curves".lstrip("/"), curves({name: result}))
    return result


def _initial(experiment: Experiment) -> tuple[Callable[[int], Any], Any]:
    """(seed -> state, shapes of a state).

    The arrays that `init` closes over, the learning rate for one, are arguments of the compiled program, not constants
    in it: runs that differ in them share it, and an MLP's takes longer to compile than its training step.
    """
    closed, like = jax.make_jaxpr(experiment.init, return_shape=True)(jax.random.key(0))
    program = jax.jit(partial(jax.core.eval_jaxpr, closed.jaxpr))
    return lambda seed: jax.tree.unflatten(jax.tree.structure(like), program(closed.consts, jax.random.key(seed))), like


class Programs(NamedTuple):
    """What is compiled and placed once and serves the runs of all seeds."""

    start: Callable[[int], Any]
    call: Callable[[Any, Any], tuple[Any, Any]]
    rows: Callable[[int, int, int], Any]
    evaluate: Callable[[Any], dict[str, float]]
    watch: Callable[[Any], Any] | None
    whole: Callable[[Any], Any]
    scan: int
    title: str


def _fit(programs: Programs, config: RunConfig, name: str) -> Result:
    """The fit of one seed: load it if it has ended, else go on from the latest checkpoint, or begin."""
    state = programs.start(config.seed)
    first = int(state.step)
    last = first + (config.steps or 0)
    folder = Path(config.workdir) / name if config.workdir else None
    ended = read_json(folder / "result.json") if folder else None
    log, checkpoints = Log(folder, config.tensorboard), Checkpoints(folder / "checkpoints" if folder else None)
    if ended and (ended["step"] >= last or ended["stopped_early"]):
        _, state = checkpoints.restore(state, ended["state_step"]) or (0, state)
        seen = Watch(programs.watch, folder and folder / "watched", state, ended["step"]).seen
        return Result(
            programs.whole(state), ended["metrics"], log.rows, ended["seconds"], ended["steps_per_second"], watched=seen
        )

    found = checkpoints.restore(state)
    t, state = (found[0], with_peak_of(state, found[1])) if found else (first, state)
    saved = t if found else -1
    watch = Watch(programs.watch, folder and folder / "watched", state, t)
    watch.look(t, state)
    log.begin(t)
    best = Best(config, log.rows)
    _, best_state = (checkpoints.restore(state, best.step) if best.step and config.patience else None) or (t, state)
    rows = lambda t, count: programs.rows(config.seed, t - first, count)
    every = config.eval_every or max(1, math.ceil((last - first) / 10 / programs.scan) * programs.scan)
    save_every = config.checkpoint_every or every
    progress = Progress(config.progress, t, last, name, programs.title)
    metrics: dict[str, float] = {}
    steps, seconds = [], []

    def land(done: int, count: int, scalars: dict[str, jax.Array]) -> None:
        fault = jax.device_get(scalars.pop("fault", np.zeros(1))).ravel()
        if fault.any():
            at = int(np.flatnonzero(fault)[0])
            what, advice = fault_name(state, int(fault[at])), "try a lower --learning_rate, or --clip_norm=1"
            raise Diverged(f"{what} is not finite at step {done + at + 1}; {advice}")
        due = [i for i in range(count) if (done + i + 1) % config.log_every == 0]
        scalars = jax.device_get(scalars) if due else jax.block_until_ready(scalars)
        row: dict[str, float] = {}
        for i in due:
            row = {name: float(values[i]) for name, values in scalars.items()}
            log.add(done + i + 1, {f"train/{name}": value for name, value in row.items()})
            if not math.isfinite(row.get("loss", 0.0)):
                advice = "try a lower --learning_rate, or --clip_norm=1"
                raise Diverged(f"the loss is {row['loss']} at step {done + i + 1}; {advice}")
        progress.step(done + count, row)

    try:
        with (
            caught(folder is not None, progress.say) as arrived,
            profiled(programs.call, config.profile, folder, t) as call,
        ):
            stop = agreed(arrived)
            while t < last and not best.exhausted:
                begin, start = t, time.perf_counter()
                goal = min(first + ((t - first) // n + 1) * n for n in (every, save_every, last - first))
                state, t = advance(call, state, rows, t, goal, scan=programs.scan, land=land, stop=stop)
                steps.append(t - begin)
                seconds.append(time.perf_counter() - start)
                improved = False
                if t > begin and (t == last or (t - first) % every == 0):  # else a signal came between two intervals
                    metrics = programs.evaluate(state)
                    watch.look(t, state)
                    if metrics:
                        log.add(t, {f"test/{name}": value for name, value in metrics.items()})
                        progress.evaluation(t, metrics)
                        improved = best.update(t, metrics)
                if improved and config.patience:
                    best_state = jax.tree.map(jnp.copy, state)
                ended_by = stop()
                # a step that has been saved is left alone: a second save would remove the first, which may be in flight
                if t != saved and (improved or ended_by or t == last or (t - first) % save_every == 0):
                    checkpoints.save(t, state, best.score if improved else -math.inf)
                    saved = t
                if ended_by and t < last:
                    checkpoints.wait()
                    raise Interrupted(ended_by, t)
        kept = t
        if best.step and config.patience:
            state, kept, metrics = best_state, best.step, best.metrics
            progress.say(f"best step {best.step}" + (f", stopped at {t}" if t < last else ""))
        metrics = metrics or programs.evaluate(state)
        if first == last:
            checkpoints.save(t, state)
        checkpoints.wait()
        rate = sum(steps[1:]) / sum(seconds[1:]) if steps[1:] else sum(steps) / (sum(seconds) or math.inf)
        result = Result(programs.whole(state), metrics, log.rows, log.seconds(), rate, watched=watch.seen)
        if folder:
            end = {"step": t, "state_step": kept, "stopped_early": t < last, "metrics": metrics}
            write_json(folder / "result.json", end | {"seconds": result.seconds, "steps_per_second": rate})
        return result
    finally:
        progress.close()
        log.close()
        checkpoints.close()
