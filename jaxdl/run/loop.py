"""fit: the one training loop. Evaluation, early stopping, checkpoints and resume around compiled steps."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.core import Experiment
from jaxdl.data import Batches
from jaxdl.guard import fault_name
from jaxdl.optim import with_peak_of
from jaxdl.run.checkpoint import Checkpoints
from jaxdl.run.config import RunConfig
from jaxdl.run.evaluate import Parts, evaluator, traced
from jaxdl.run.feed import Feed, advance
from jaxdl.run.flags import FlagError
from jaxdl.run.folder import read_json, write_json
from jaxdl.run.identity import claim_folder, digest_of_data, digest_of_program, identity, same, versions
from jaxdl.run.parallel import (
    agreed,
    compile_steps,
    first_decides,
    make_mesh,
    place_state,
    remembered,
    whole,
)
from jaxdl.run.profile import profiled
from jaxdl.run.report import Log, Progress, say, start_line
from jaxdl.run.result import Best, Result, together
from jaxdl.run.signals import Interrupted, caught
from jaxdl.run.watch import Watch

EVALUATING = 0.04  # most of the time that the evaluations of a run take by default, if an example costs a third there
SAVING = 0.04  # most of the time that its saves take by default


class Diverged(RuntimeError):
    """The loss or a gradient is no longer a finite number."""


def fit(
    experiment: Experiment,
    train: Any = None,
    valid: Parts = None,
    config: RunConfig = RunConfig(),  # noqa: B008 (frozen)
    *,
    test: Parts = None,
    state: Any = None,
    name: str = "",
    watch: Callable[[Any], Any] | None = None,
) -> Result:
    """Trains `experiment` for `config.steps` steps and evaluates it.

    Args:
      experiment: the pure functions.
      train: `Batches`, or a pytree of them (a batch is then the same pytree), or anything whose `train[t]` is batch t
        (a `grain.MapDataset` for example), or a function from a seed to such data, or None where the step needs none.
      valid: the validation part, evaluated during training; `--patience` and `--monitor` look at it alone. `Batches`,
        or several by name, or None: then nothing is evaluated before the end, unless `train` is None too and
        `experiment.evaluate(state, None)` plays its own episodes.
      config: what the flags say. Without `workdir` nothing is written; with it the fit lives in workdir/name, goes on
        where an earlier one was stopped, and is loaded if it had ended.
      test: the test part, read once, when everything has been chosen; with `--watch_test` at every evaluation too.
      state: where to start, left intact, with each seed's own key; by default `experiment.init` with it.
      name: tells several fits of one run apart.
      watch: state -> a pytree of arrays to be seen over training: samples from a fixed noise, a weight matrix.

    Raises:
      FlagError: the devices do not divide the batch; the metric to monitor does not exist; the folder holds a fit of
        other flags, data or code.
      Diverged: a loss or gradient is not finite.
      Interrupted: SIGINT or SIGTERM arrived, and the state was saved.
    """
    config = config.resolve(train)
    plan = prepare(experiment, train, valid, test, config, state, watch)
    seeds = range(config.seed, config.seed + (config.seeds or 1))
    if len(seeds) == 1:
        return _fit(plan, config, name)
    # one after another: vmapped on a CPU, 8 seeds of an MLP cost 13 times one
    one = lambda s: replace(config, seed=s, seeds=1, profile=config.profile if s == config.seed else 0)
    return together([_fit(plan, one(s), f"{name}/seed{s}".lstrip("/")) for s in seeds])


class Plan(NamedTuple):
    """What is compiled and placed once and serves the runs of all seeds.

    call: (state, rows, steps to make) -> (state, metrics). scan: the most steps that it makes.
    valid, test: state -> metrics of that part, {} where there is none.
    every: steps between evaluations. identity: of a seed's configuration; tested: that of the test part, which is
      read for it.
    """

    start: Callable[[int], Any]
    call: Callable[..., tuple[Any, Any]]
    rows: Callable[..., Any]
    valid: Callable[[Any], dict[str, float]]
    test: Callable[[Any], dict[str, float]]
    watch: Callable[[Any], Any] | None
    whole: Callable[[Any], Any]
    scan: int
    every: int
    title: str
    identity: Callable[[RunConfig], dict[str, Any]]
    tested: Callable[[], dict[str, Any]]


def prepare(
    experiment: Experiment, train: Any, valid: Parts, test: Parts, config: RunConfig, state: Any, watch: Any
) -> Plan:
    """Places the data, traces the functions and checks that what is asked for is there; arguments as for `fit`."""
    mesh = make_mesh(config.devices)
    feed = Feed(train, mesh)
    try:
        init, like = jax.make_jaxpr(experiment.init, return_shape=True)(jax.random.key(0))
    except ValueError as error:  # images too small for the model, --freeze that matches nothing
        raise FlagError(str(error)) from error
    structure = jax.tree.structure(like)
    like = like if state is None else state
    # without any data evaluation plays episodes of its own
    evaluated = valid is not None or (train is None and test is None)
    program, names = traced(experiment, valid, like) if evaluated else (None, [])
    check_monitor(config, names, evaluated, test)
    step = jax.make_jaxpr(experiment.step)(like, feed.example)
    digests = {"init": digest_of_program(init), "step": digest_of_program(step)}
    if program is not None:
        digests["evaluate"] = digest_of_program(program, experiment.summarize)
    made_of = identity(config, {"train": train, "valid": valid}, digests, state)

    def tested() -> dict[str, Any]:
        if test is None:
            return {}
        digest = digest_of_program(traced(experiment, test, like)[0], experiment.summarize)
        return {"data": {"test": digest_of_data(test)}, "program": {"evaluate": digest}}

    # init's constants, the learning rate for one, are arguments: runs that differ in them share the compiled program
    make = remembered(jax.jit(partial(jax.core.eval_jaxpr, init.jaxpr)))

    def start(seed: int) -> Any:
        new = jax.tree.unflatten(structure, make(init.consts, jax.random.key(seed)))
        # the configured learning rate, a number in the state, wins over that of a state from elsewhere
        begun = new if state is None else with_peak_of(new, state).replace(key=new.key)
        # a copy: the caller keeps what he gave, and donation refuses a buffer that stands in two fields
        return place_state(begun, mesh, config.parallel)

    call = compile_steps(experiment.step, like, mesh, parallel=config.parallel, take=feed.take)
    score = evaluator(experiment, mesh)
    return Plan(
        start=start,
        call=partial(call.program if config.profile else call, feed.arrays),
        rows=feed.rows,
        valid=(lambda state: score(state, valid)) if evaluated else lambda state: {},
        test=(lambda state: score(state, test)) if test is not None else lambda state: {},
        watch=jax.jit(watch, out_shardings=NamedSharding(mesh, P())) if watch else None,
        whole=lambda tree: whole(tree, mesh),
        scan=feed.scan(step, config.scan),
        every=config.eval_every or cadence(config.steps or 0, train, valid),
        title=start_line(like, feed.arrays, mesh),
        identity=lambda one: {**made_of, "flags": made_of["flags"] | {"seed": one.seed}},
        tested=tested,
    )


def check_monitor(config: RunConfig, names: list[str], evaluated: bool, test: Parts) -> None:
    """Raises FlagError where what is to be looked at during training is not there."""
    if config.patience and not evaluated:
        raise FlagError(f"--patience={config.patience}: there is no validation part to look at (--valid_fraction)")
    if config.watch_test and test is None:
        raise FlagError("--watch_test: there is no test part")
    if config.monitor not in names and (config.patience or (names and config.monitor != "loss")):
        raise FlagError(f"--monitor={config.monitor}: the evaluation gives {', '.join(sorted(names)) or 'nothing'}")


def cadence(steps: int, train: Any, valid: Parts) -> int:
    """Steps between evaluations: a tenth of the run, or more where those would take over EVALUATING of its time.

    An example is taken to cost a third of a training step's; no clock is asked, so the same command looks at the same
    steps on every machine.
    """
    size = lambda batch: sum(np.size(x) for x in jax.tree.leaves(batch))
    every = math.ceil(steps / 10)
    if isinstance(train, Batches) and valid is not None:
        sets = [valid] if isinstance(valid, Batches) else list(valid.values())
        looked = sum(math.ceil(s.length / s.batch_size) * size(s.example) for s in sets)
        every = max(every, math.ceil(looked / 3 / EVALUATING / size(train.example)))
    return max(1, min(every, steps))


def _fit(plan: Plan, config: RunConfig, name: str) -> Result:
    """The fit of one seed: load it if it has ended, else go on from the latest checkpoint, or begin."""
    folder = Path(config.workdir) / name if config.workdir else None
    if folder:
        claim_folder(folder, plan.identity(config))
    log, checkpoints = Log(folder, config.tensorboard), Checkpoints(folder and folder / "checkpoints")
    try:
        state = plan.start(config.seed)
        first = int(state.step)
        last = first + (config.steps or 0)
        ended = _ended(folder, last)
        if ended:
            return load_ended(plan, config, state, ended, log, checkpoints, folder)
        return Training(plan, config, name, state, first, last, log, checkpoints, folder).run()
    finally:
        log.close()
        checkpoints.close()


def _ended(folder: Path | None, last: int) -> dict[str, Any] | None:
    ended = read_json(folder / "result.json") if folder else None
    return ended if ended and (ended["step"] >= last or ended["stopped_early"]) else None


def load_ended(
    plan: Plan, config: RunConfig, state: Any, ended: dict[str, Any], log: Log, checkpoints: Checkpoints, folder: Any
) -> Result:
    """The result of a fit that had ended; `state` is for its structure."""
    same(folder, ended["tested"] | {"versions": ended["versions"]}, plan.tested() | {"versions": versions()})
    _, state = checkpoints.restore(state, ended["state_step"]) or (0, state)
    seen = Watch(plan.watch, folder / "watched", state, ended["step"]).seen
    numbers = lambda part: {key: math.nan if value is None else value for key, value in ended[part].items()}
    if config.progress:
        say(f"{folder}: has ended at step {ended['step']}; loaded, nothing was trained")
    times = ended["seconds"], ended["steps_per_second"]
    return Result(plan.whole(state), numbers("metrics"), log.rows, *times, watched=seen, valid=numbers("valid"))


class Training:
    """One seed's steps from where it stands to its end: effects around the pure functions of a plan."""

    def __init__(
        self, plan: Plan, config: RunConfig, name: str, state: Any, first: int, last: int, log: Log,
        checkpoints: Checkpoints, folder: Path | None,
    ) -> None:  # fmt: skip
        """Restores the latest checkpoint if there is one, and cuts the log back to it."""
        self.plan, self.config, self.first, self.last, self.folder = plan, config, first, last, folder
        self.log, self.checkpoints = log, checkpoints
        found = checkpoints.restore(state)
        self.t, self.state = (found[0], with_peak_of(state, found[1])) if found else (first, state)
        self.saved = self.t if found else -1
        self.watch = Watch(plan.watch, folder and folder / "watched", state, self.t)
        self.watch.look(self.t, self.state)
        log.begin(self.t, keep_tests=config.watch_test)
        self.best = Best(config, log.rows)
        kept = checkpoints.restore(state, self.best.step) if self.best.step and config.patience else None
        self.best_state, self.best_saved = kept[1] if kept else self.state, True
        self.progress = Progress(config.progress, self.t, last, name, plan.title)
        self.steps, self.seconds = list[int](), list[float]()
        self.clock, self.cost = time.perf_counter(), 0.1  # since the last save, and what that took

    def run(self) -> Result:
        """Trains, evaluates, saves and ends."""
        config, first, last = self.config, self.first, self.last
        rows = lambda t, count: self.plan.rows(config.seed, t - first, count, self.plan.scan)
        intervals = (self.plan.every, config.checkpoint_every or last, last - first)
        try:
            with (
                caught(self.folder is not None, self.progress.say) as arrived,
                profiled(self.plan.call, config.profile, self.folder, self.t) as call,
            ):
                stop = agreed(arrived)
                while self.t < last and not self.best.exhausted:
                    begin, start = self.t, time.perf_counter()
                    goal = min(first + ((begin - first) // n + 1) * n for n in intervals)
                    self.state, self.t = advance(
                        call, self.state, rows, begin, goal, scan=self.plan.scan, land=self.land, stop=stop
                    )
                    self.steps.append(self.t - begin)
                    self.seconds.append(time.perf_counter() - start)
                    due = self.t > begin and (self.t == last or (self.t - first) % self.plan.every == 0)
                    if due:  # else a signal came between two evaluations, or a save is due
                        self.look()
                    ended_by = stop()
                    self.save(due, bool(ended_by))
                    if ended_by and self.t < last:
                        self.checkpoints.wait()
                        raise Interrupted(ended_by, self.t)
            return self.finish()
        finally:
            self.progress.close()

    def land(self, done: int, count: int, scalars: dict[str, jax.Array]) -> None:
        """Looks at the metrics of a call: is anything not finite, is anything to be logged."""
        advice = "try a lower --learning_rate, or --clip_norm=1"
        fault = jax.device_get(scalars.pop("fault", np.zeros(1))).ravel()
        if fault.any():
            at = int(np.flatnonzero(fault)[0])
            raise Diverged(f"{fault_name(self.state, int(fault[at]))} is not finite at step {done + at + 1}; {advice}")
        due = [i for i in range(count) if (done + i + 1) % self.config.log_every == 0]
        scalars = jax.device_get(scalars) if due else jax.block_until_ready(scalars)
        row: dict[str, float] = {}
        for i in due:
            row = {name: float(values[i]) for name, values in scalars.items()}
            self.log.add(done + i + 1, {f"train/{name}": value for name, value in row.items()})
            if not math.isfinite(row.get("loss", 0.0)):
                raise Diverged(f"the loss is {row['loss']} at step {done + i + 1}; {advice}")
        self.progress.step(done + count, row)

    def look(self) -> None:
        """Evaluates the validation part; the test part is looked at here only where --watch_test says so."""
        metrics = self.plan.valid(self.state)
        row = {f"valid/{name}": value for name, value in metrics.items()}
        if self.config.watch_test:
            row |= {f"test/{name}": value for name, value in self.plan.test(self.state).items()}
        self.watch.look(self.t, self.state)
        if row:
            self.log.add(self.t, row)
            self.progress.evaluation(self.t, row)
        if self.best.update(self.t, metrics) and self.config.patience:
            self.best_state, self.best_saved = jax.tree.map(jnp.copy, self.state), False

    def save(self, evaluated: bool, ending: bool) -> None:
        """Saves the state where it is due; the best state goes before it, so that both are there or neither."""
        every = self.config.checkpoint_every
        if every:
            due = (self.t - self.first) % every == 0
        else:  # with an evaluation, and so rarely that saves take a small share of the time
            due = evaluated and first_decides(time.perf_counter() - self.clock > self.cost / SAVING)
        # a step that has been saved is left alone: a second save would remove the first, which may be in flight
        if self.t == self.saved or not (due or ending or self.t == self.last or self.best.exhausted):
            return
        start, step = time.perf_counter(), self.best.step
        if not self.best_saved and step != self.t:
            self.checkpoints.save(step, self.best_state, self.best.score)
        self.checkpoints.save(self.t, self.state, self.best.score if step == self.t else -math.inf)
        self.saved, self.best_saved = self.t, True
        self.clock = time.perf_counter()
        self.cost = max(self.clock - start, self.checkpoints.seconds)

    def finish(self) -> Result:
        """The state that is kept, its evaluation on the test part, and result.json."""
        config, best, kept = self.config, self.best, self.t
        valid = self.log.last("valid/")
        if best.step and config.patience:
            self.state, kept, valid = self.best_state, best.step, best.metrics
            self.progress.say(f"best step {kept}" + (f", stopped at {self.t}" if self.t < self.last else ""))
        valid = valid or self.plan.valid(self.state)
        if self.saved != self.t:
            self.checkpoints.save(self.t, self.state)
        test = self.plan.test(self.state)
        if test and not config.watch_test:
            row = {f"test/{name}": value for name, value in test.items()}
            self.log.add(kept, row)
            self.progress.evaluation(kept, row)
        self.checkpoints.wait()
        rate = sum(self.steps[1:]) / sum(self.seconds[1:]) if self.steps[1:] else sum(self.steps) / (
            sum(self.seconds) or math.inf)  # fmt: skip
        whole, seen = self.plan.whole(self.state), self.watch.seen
        result = Result(whole, test or valid, self.log.rows, self.log.seconds(), rate, watched=seen, valid=valid)
        if self.folder:
            end: dict[str, Any] = {"step": self.t, "state_step": kept, "stopped_early": self.t < self.last}
            end |= {"metrics": result.metrics, "valid": valid, "seconds": result.seconds, "steps_per_second": rate}
            end |= {"tested": self.plan.tested(), "versions": versions()}
            write_json(self.folder / "result.json", end)
        return result
