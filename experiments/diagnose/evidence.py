"""Collects the evidence of a run: of its history, of its states, and of rows of its parts."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdl import run
from jaxdl.core import Experiment
from jaxdl.data import Data
from jaxdl.methods import probes
from jaxdl.methods.diagnosis import NAN, WITHOUT_TRIALS, Evidence, diagnose, poor, seen

SCORES = ("accuracy", "r2")
LONG = 180  # steps of a trial at the rate of the run; those at other rates are shorter
Row = Mapping[str, Any]


class Tools(NamedTuple):
    """The functions of an experiment that the probes need, compiled when first used.

    init: key -> state. look: (state, rows) -> Look. step: as of the experiment. inputs: rows -> the network's inputs.
    """

    init: Callable[[Any], Any]
    look: Callable[[Any, probes.Rows], probes.Look]
    step: Callable[[Any, Any], tuple[Any, Any]]
    inputs: Callable[[Any], tuple[Any, ...]] | None


class Subject(NamedTuple):
    """A run to diagnose.

    tools: of its experiment, built with `trial_flags`; None if its state is not that of one supervised network. end:
    its last state; None if it stopped before the first checkpoint. rate: its peak learning rate. rows: of its history.
    diverged: the step at which a number was not finite, NaN: none, 0: unknown. frozen: some parameters were not to be
    trained.
    """

    tools: Tools | None
    end: Any
    rate: float
    rows: Sequence[Row]
    seed: int
    diverged: float = NAN
    frozen: bool = False


def tools_of(experiment: Experiment) -> Tools:
    """Returns the tools for an experiment."""
    quick = functools.partial(run.compiled, quick=True)
    look, step = probes.looker(experiment, quick), quick(experiment.step)
    return Tools(run.compiled(experiment.init), look, step, experiment.inputs)


def trial_flags(config: run.RunConfig) -> dict[str, Any]:
    """Returns changes for short trials: a constant learning rate, and no average of the parameters."""
    usual = {
        name: getattr(run.RunConfig, name) for name in ("decay_rate", "decay_every", "final_fraction", "accumulate")
    }
    rule = {"optimizer": "adam"} if config.optimizer == "schedule_free" else {}
    return usual | rule | {"schedule": "constant", "warmup": 0, "norms": None, "ema": None}


def of_history(rows: Sequence[Row], rate: float) -> Evidence:
    """Returns what the history of a run alone says."""
    values = lambda key: [row[key] for row in rows if key in row]
    last = lambda key, count=1: float(np.mean(values(key)[-count:])) if values(key) else NAN
    score = next((name for name in SCORES if values(f"valid/{name}") or values(f"test/{name}")), "accuracy")
    losses, rates = values("train/loss"), values("train/learning_rate")
    valid = [value for value in values("valid/loss") if math.isfinite(value)]
    return Evidence(
        train=last(f"train/{score}", 10),
        valid=last(f"valid/{score}"),
        test=last(f"test/{score}"),
        loss=last("train/loss", 10),
        start_loss=losses[0] if losses else NAN,
        rate=rate,
        last_rate=rates[-1] if rates else NAN,
        diverged=float(rows[-1]["step"]) if losses and not math.isfinite(losses[-1]) else NAN,
        rise=valid[-1] / min(valid) if len(valid) > 1 and min(valid) > 0 else NAN,
    )


def measured(subject: Subject, data: Data) -> tuple[Evidence, list[str]]:
    """Returns the evidence of a run, and what could not be measured, one line each."""
    evidence = of_history(subject.rows, subject.rate)
    if not math.isnan(subject.diverged):
        evidence = evidence._replace(diverged=subject.diverged)
    rows = [probes.first_rows(part) for part in (data.train, data.valid, data.test)]
    train, valid, test = rows
    if train is None:
        return evidence, ["its training rows are not arrays in memory, so only its history was read"]
    inputs = subject.tools.inputs if subject.tools else None
    x, notes = inputs_of(inputs, train), list[str]()
    found = probes.labels(x, train.get("y"))
    evidence = evidence._replace(
        probe=found.score, chance=found.chance, beyond=found.beyond, noise=found.noise, constant_loss=found.constant
    )
    if not found.kind:
        notes.append("no label for each row, so labels and simple models were not tried")
    if x is None:
        notes.append("its inputs are no numbers, so their scale and their distribution were not measured")
    else:
        evidence = evidence._replace(scale=probes.input_scale(x)[0])
        other = inputs_of(inputs, test) if test is not None else None
        if other is not None and other.shape[1:] == x.shape[1:]:
            evidence = evidence._replace(auc=probes.domain_auc(x, other))
    if subject.tools is None:
        return evidence, [*notes, "not one network on labelled rows, so its layers and learning rates were not tried"]
    return of_states(evidence, subject, train, valid, test, found), notes


def inputs_of(inputs: Callable[[Any], tuple[Any, ...]] | None, rows: Any) -> np.ndarray | None:
    """Returns the network's inputs [n, ...] for rows, if they are floats."""
    found = inputs(rows)[0] if inputs else rows.get("x")
    x = None if found is None else np.asarray(found)
    return x if x is not None and x.dtype.kind == "f" and x.ndim > 1 and np.isfinite(x).all() else None


def of_states(e: Evidence, s: Subject, train: Any, valid: Any, test: Any, labels: probes.Labels) -> Evidence:
    """Adds what the initial and the last state say, and where the fit is poor, what short trials say."""
    assert s.tools is not None
    look = s.tools.look
    start = s.tools.init(jax.random.key(s.seed))
    end = (
        start
        if s.end is None
        else start.replace(learner=start.learner.replace(params=s.end.learner.averaged), stats=s.end.stats)
    )
    layers = probes.structure(look, start, end, train)
    parts = [None if part is None else look(end, part).metrics for part in (train, valid, test)]
    scores = [NAN if found is None else score(found, labels) for found in parts]
    sizes = [1 if part is None else len(next(iter(part.values()))) for part in (train, valid, test)]
    noise = [3 * math.sqrt(max(p * (1 - p), 0) / n) if 0 <= p <= 1 else 0.0 for p, n in zip(scores, sizes, strict=True)]
    names = [name for key in ("equal", "dead", "missing", "vanishing") for name in layers.names[key][:3] if name]
    e = e._replace(
        train=scores[0], valid=scores[1], test=scores[2], valid_noise=noise[1], test_noise=noise[2],
        loss=parts[0]["loss"] if parts[0] else NAN, start_loss=look(start, train).metrics["loss"],
        frozen=float(s.frozen), equal=layers.equal, dead=layers.dead, missing=layers.missing,
        vanishing=layers.vanishing, layers=", ".join(dict.fromkeys(names)),
    )  # fmt: skip
    explained = any(one.fault in WITHOUT_TRIALS for one in seen(diagnose(e)))
    if not e.rate > 0 or explained or poor(e) < 1:
        return e
    step, loss = s.tools.step, lambda state: look(state, train).metrics["loss"]
    lower, higher = ([e.rate * 10.0**i for i in powers] for powers in ((0, -1, -2, -3), (1, 2, 3, 4)))
    (again, *before), after = (
        probes.trials(step, loss, start, train, lower),
        probes.trials(step, loss, end, train, higher),
    )
    (same,) = probes.trials(step, loss, end, train, [e.rate], steps=LONG, checks=5)
    best, most = int(np.argmin(before[::-1])), int(np.argmin(after))  # the lowest rate of several without a finite loss
    best = len(before) - 1 - best
    return e._replace(
        again=again, lower=before[best], lower_rate=lower[1 + best],
        same=same, higher=after[most], higher_rate=higher[most],
    )  # fmt: skip


def score(found: Mapping[str, float], labels: probes.Labels) -> float:
    """Returns the accuracy or R^2 of an evaluation; for numbers without an R^2, 1 - loss / variance."""
    for name in SCORES:
        if name in found:
            return found[name]
    return 1 - found["loss"] / labels.constant if labels.kind == "numbers" and labels.constant > 0 else NAN
