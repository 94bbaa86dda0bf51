"""The result of a fit, and the best evaluation so far."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from jaxdl.core import Experiment
from jaxdl.data import DataError
from jaxdl.run.command.config import RunConfig
from jaxdl.run.engine.evaluate import map_batches
from jaxdl.run.show.report import Row, curve, with_prefix
from jaxdl.run.store.files import is_sum, read_json


@dataclass(frozen=True)
class Result:
    """The result of a fit: the state (the best one after early stopping) and the metrics.

    experiment: the trained experiment.
    metrics: of `state` on the test part, read once at the end; on the validation part if there is no test part. The
      mean over the seeds if there are several.
    history: the rows of metrics.jsonl: {"step", "train/loss", ...}, {"step", "valid/loss", ...} and at the end
      {"step", "test/loss", ...}.
    seconds: of the whole fit. steps_per_second: of training alone, without the first interval, which compiles.
    watched: {step: watch(state)}, recorded by `fit(watch=...)` at the start and at every evaluation.
    valid: of `state` on the validation part, on which all choices are based; {} if there is none.
    runs: the Result of each seed; `state`, `history` and `watched` are those of the first.
    """

    experiment: Experiment
    state: Any
    metrics: dict[str, float]
    history: list[Row]
    seconds: float
    steps_per_second: float
    watched: Mapping[int, Any] = field(default_factory=dict)
    valid: dict[str, float] = field(default_factory=dict)
    runs: tuple["Result", ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        """Makes a fit of one seed its own only run."""
        if not self.runs:
            object.__setattr__(self, "runs", (self,))

    def values(self, metric: str) -> list[float]:
        """Returns one metric for every seed."""
        return [run.metrics[metric] for run in self.runs]

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """Returns (steps, values) of one column of the history, such as "train/loss"."""
        return curve(self.history, key)

    def histories(self) -> list[list[Row]]:
        """Returns the history of every seed."""
        return [run.history for run in self.runs]

    def predict(self, part: Any) -> Any:
        """Returns the experiment's predictions for the rows of a part, in order: a pytree of arrays [n, ...].

        The part is a `Batches`, a dict of arrays, or an iterable of batches.
        """
        if self.experiment.predict is None:
            raise ValueError("this experiment cannot predict: it has no predict(state, batch)")
        return map_batches(self.experiment.predict, self.state, part)


def together(runs: Sequence[Result]) -> Result:
    """Combines the fits of several seeds into one result."""
    mean = lambda each: {key: fmean(one[key] for one in each) for key in each[0]}
    first, seconds = runs[0], sum(run.seconds for run in runs)
    rate = fmean(run.steps_per_second for run in runs)
    metrics, valid = mean([run.metrics for run in runs]), mean([run.valid for run in runs])
    return replace(first, metrics=metrics, valid=valid, seconds=seconds, steps_per_second=rate, runs=tuple(runs))


def read_end(folder: Path) -> dict[str, Any] | None:
    """Returns the record of a finished fit, result.json; None if there is none.

    Raises:
      DataError: it is damaged, or not such a record.
    """
    path = folder / "result.json"
    end = read_json(path)
    if end is None:
        return None
    number = lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)
    good = all(number(end.get(name)) for name in ("step", "state_step", "seconds", "steps_per_second"))
    good = good and isinstance(end.get("stopped_early"), bool)
    good = good and all(isinstance(end.get(name), dict) for name in ("metrics", "valid", "tested", "versions"))
    good = good and all(v is None or number(v) for name in ("metrics", "valid") for v in end[name].values())
    good = good and all(isinstance(end.get(name), list) for name in ("log", "watched"))
    if not (good and is_sum(end["log"]) and all(map(number, end["watched"]))):
        raise DataError(f"{path}: is not the result of a fit")
    return end


class Best:
    """The best evaluation so far and the number of evaluations since; computed from the log's rows, also on resume."""

    def __init__(self, config: RunConfig, rows: list[Row]) -> None:
        """Replays the evaluations that are in the log."""
        self._name, self._patience = config.monitor, config.patience
        self._sign = 1.0 if config.monitor_mode == "max" else -1.0
        self.score, self.step, self.metrics, self._since = -math.inf, 0, dict[str, float](), 0
        for row in rows:
            report = with_prefix(row, "valid/")
            if report:
                self.update(row["step"], report)

    def update(self, step: int, metrics: dict[str, float]) -> bool:
        """Returns whether these metrics are the best so far; a tie is not better, and a non-finite value never is."""
        score = self._sign * metrics.get(self._name, math.nan)
        better = math.isfinite(score) and score > self.score
        self._since = 0 if better else self._since + 1
        if better:
            self.score, self.step, self.metrics = score, step, dict(metrics)
        return better

    def far_from(self, last: Mapping[str, float]) -> bool:
        """Returns whether the last evaluation is worse by more than 2%."""
        score = self._sign * last.get(self._name, math.nan)
        return bool(self.score - score > abs(self.score) / 50)

    @property
    def exhausted(self) -> bool:
        """Whether the patience is used up."""
        return 0 < self._patience <= self._since
