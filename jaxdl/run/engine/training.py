"""Trains one seed from its current step to the last, with logs, evaluation, early stopping and checkpoints."""

import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data import DataError
from jaxdl.guard import fault_name
from jaxdl.optim import with_peak_of
from jaxdl.run.command.config import RunConfig
from jaxdl.run.engine.feed import advance
from jaxdl.run.engine.parallel import agreed, first_decides
from jaxdl.run.engine.plan import Plan
from jaxdl.run.engine.result import Best, Result
from jaxdl.run.engine.signals import Interrupted, caught
from jaxdl.run.profile.trace import profiled
from jaxdl.run.show.report import Progress, last_of, log
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.run.store.files import write_json
from jaxdl.run.store.history import Log
from jaxdl.run.store.identity import versions
from jaxdl.run.store.watch import Watch

SAVING = 0.04  # maximum share of the time for saves by default


class Diverged(RuntimeError):
    """The loss or a gradient is no longer a finite number."""


class Training:
    """The training loop of one seed: side effects around the pure functions of a plan."""

    def __init__(
        self, plan: Plan, config: RunConfig, name: str, state: Any, first: int, last: int, log: Log,
        checkpoints: Checkpoints, folder: Path | None,
    ) -> None:  # fmt: skip
        """Restores the latest checkpoint, if there is one, and cuts the log back to it."""
        self.plan, self.config, self.first, self.last, self.folder = plan, config, first, last, folder
        self.log, self.checkpoints = log, checkpoints
        found = checkpoints.restore(state)
        self.t, self.state = (found[0], with_peak_of(state, found[1])) if found else (first, state)
        self.saved = self.t if found else -1
        facts = checkpoints.facts(self.t) if found else {}
        if found:
            if "log" not in facts:
                raise DataError(f"{folder}/checkpoints/{self.t}: is not a checkpoint of a fit; use another folder")
            log.check(facts["log"])
        self.watch = Watch(plan.watch, folder and folder / "watched", state, facts.get("watched", []))
        self.watch.look(self.t, self.state)
        log.begin(self.t, keep_tests=config.watch_test)
        self.best = Best(config, log.rows)
        self.best_state, self.best_saved = self.state, True
        if self.best.step and config.patience:
            self.best_state = self._kept(state)
        self.progress = Progress(config.progress, self.t, last, name, plan.title, plan.epoch)
        self.steps, self.seconds = list[int](), list[float]()
        self.clock, self.cost = time.perf_counter(), 0.1  # since the last save, and what that took

    def _kept(self, like: Any) -> Any:
        """Returns the best state so far; if its checkpoint is unusable, returns this state and restarts the search."""
        try:
            found = self.checkpoints.restore(like, self.best.step)
            assert found is not None  # a best step implies a folder
            return found[1]
        except DataError as error:
            log(f"warning: {error}: the best state, of step {self.best.step}, is lost; continuing from step {self.t}")
            self.best = Best(self.config, [row for row in self.log.rows if row["step"] >= self.t])
            return self.state

    def run(self) -> Result:
        """Trains, evaluates and saves until the last step, then finishes."""
        config, first, last = self.config, self.first, self.last
        rows = lambda t, count: self.plan.rows(config.seed, t - first, count, self.plan.scan)
        intervals = (self.plan.every, config.checkpoint_every or last, last - first)
        try:
            with (
                caught(self.folder is not None, self.progress.log) as arrived,
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
                    if due:  # otherwise a signal arrived between two evaluations, or a save is due
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
        """Handles the metrics of a call: raises if anything is not finite, and logs the steps that are due."""
        advice = "try a lower --learning_rate, or --clip_norm=1" + (", in another --workdir" if self.folder else "")
        if done == 0:
            advice += "; at the first step, check the data: non-finite inputs, labels out of range"
        fault = jax.device_get(scalars.pop("fault", np.zeros(1))).ravel()
        if fault.any():
            at = int(np.flatnonzero(fault)[0])
            raise Diverged(f"{fault_name(self.state, int(fault[at]))} is not finite at step {done + at + 1}; {advice}")
        due = [i for i in range(count) if (done + i + 1) % self.config.log_every == 0]
        scalars = jax.device_get(scalars) if due else jax.block_until_ready(scalars)
        row: dict[str, float] = {}
        for i in due:
            looked = self.config.norms and (done + i + 1) % self.config.norms == 0
            row = {k: float(v[i]) for k, v in scalars.items() if looked or not k.startswith("norm/")}
            self.log.add(done + i + 1, {f"train/{name}": value for name, value in row.items()})
            if not math.isfinite(row.get("loss", 0.0)):
                raise Diverged(f"the loss is {row['loss']} at step {done + i + 1}; {advice}")
        self.progress.step(done + count, row)

    def look(self) -> None:
        """Evaluates the validation part, and with --watch_test the test part too."""
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
        """Saves the state if it is due; the best state is saved first, so that either both exist or neither."""
        every = self.config.checkpoint_every
        if every:
            due = (self.t - self.first) % every == 0
        else:  # after an evaluation, and only while saves take a small share of the time
            due = evaluated and first_decides(time.perf_counter() - self.clock > self.cost / SAVING)
        # a step is saved once: a second save would remove the first, which may be in flight
        if self.t == self.saved or not (due or ending or self.t == self.last or self.best.exhausted):
            return
        start, step = time.perf_counter(), self.best.step
        if not self.best_saved and step != self.t:
            self.checkpoints.save(step, self.best_state, self.best.score, **self._facts(step))
        score = self.best.score if step == self.t else -math.inf
        self.checkpoints.save(self.t, self.state, score, **self._facts(self.t))
        self.saved, self.best_saved = self.t, True
        self.clock = time.perf_counter()
        self.cost = max(self.clock - start, self.checkpoints.seconds)

    def _facts(self, step: int) -> dict[str, Any]:
        return {"log": self.log.mark(step), "watched": [at for at in self.watch.seen if at <= step]}

    def finish(self) -> Result:
        """Chooses the state to keep, evaluates it on the test part, writes result.json and returns the result."""
        config, best, kept = self.config, self.best, self.t
        valid = last_of(self.log.rows, "valid/")
        if best.step and config.patience:
            self.state, kept, valid = self.best_state, best.step, best.metrics
            self.progress.log(f"best step {kept}" + (f", stopped early at {self.t}" if self.t < self.last else ""))
        elif best.step < self.t and best.far_from(valid):
            told = f"{config.monitor} {best.metrics[config.monitor]:.4g}, at the end {valid[config.monitor]:.4g}"
            self.progress.log(f"validation was best at step {best.step}: {told}; --patience keeps the best state")
        valid = valid or self.plan.valid(self.state)
        if self.saved != self.t:
            self.checkpoints.save(self.t, self.state, **self._facts(self.t))
        test = self.plan.test(self.state)
        if test and not config.watch_test:
            row = {f"test/{name}": value for name, value in test.items()}
            self.log.add(kept, row)
            self.progress.evaluation(kept, row)
        self.checkpoints.wait()
        rate = sum(self.steps[1:]) / sum(self.seconds[1:]) if self.steps[1:] else sum(self.steps) / (
            sum(self.seconds) or math.inf)  # fmt: skip
        whole, seen = self.plan.whole(self.state), self.watch.seen
        numbers = test or valid, self.log.rows, self.log.seconds(), rate
        result = Result(self.plan.experiment, whole, *numbers, watched=seen, valid=valid)
        if self.folder:
            end: dict[str, Any] = {"step": self.t, "state_step": kept, "stopped_early": self.t < self.last}
            end |= {"metrics": result.metrics, "valid": valid, "seconds": result.seconds, "steps_per_second": rate}
            end |= {"tested": self.plan.tested(), "versions": versions(), "log": self.log.mark(), "watched": [*seen]}
            write_json(self.folder / "result.json", end)
        return result
