"""Compiles, places and checks what one fit needs before its first step, for all seeds."""

import functools
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.core import Experiment
from jaxdl.data import Batches, Data, Stream
from jaxdl.optim import norms, with_peak_of
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError
from jaxdl.run.engine.evaluate import Part, Parts, evaluator, traced, understood
from jaxdl.run.engine.feed import Feed
from jaxdl.run.engine.parallel import compile_steps, make_mesh, place_state, remembered, whole
from jaxdl.run.show.report import start_line
from jaxdl.run.store.about import facts_of
from jaxdl.run.store.identity import digest_of_arrays, digest_of_data, digest_of_program, identity
from jaxdl.run.store.weights import begun_with, check_weights, read_weights

EVALUATING = 0.04  # maximum share of a run's time for evaluations by default; an example is taken to cost a third


class Plan(NamedTuple):
    """Everything that is compiled and placed once and used by the runs of all seeds.

    call: (state, rows, steps to make) -> (state, metrics). scan: the maximum number of steps per call.
    valid, test: state -> metrics of that part, {} if there is none.
    every: steps between evaluations. epoch: steps per epoch, 0 if unknown.
    identity: of a seed's configuration; tested: of the test part, which is read for it.
    close: stops the prefetching thread.
    """

    experiment: Experiment
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
    epoch: float
    identity: Callable[[RunConfig], dict[str, Any]]
    tested: Callable[[], dict[str, Any]]
    close: Callable[[], None]


def prepare(experiment: Experiment, data: Data, config: RunConfig, state: Any, watch: Any) -> Plan:
    """Places the data, traces the functions and checks that everything requested exists; arguments as for `fit`."""
    train, valid, test = data.train, data.valid, data.test
    mesh = make_mesh(config.devices)
    if config.norms:
        experiment = experiment._replace(step=_with_norms(experiment.step))
    several = config.seeds > 1
    for part, again in ((train, several), (valid, True), (test, several or config.watch_test)):
        check_once(part, again)
    feed = Feed(train, mesh, config.steps or 0, data.example)
    try:
        init, like = jax.make_jaxpr(experiment.init, return_shape=True)(jax.random.key(0))
    except ValueError as error:  # images too small for the model, --freeze that matches nothing
        raise FlagError(str(error)) from error
    structure: Any = jax.tree.structure(like)
    initial = read_weights(config.init) if config.init and state is None else None
    begins = check_weights(like, initial, config.init_skip) if initial else ""
    if state is not None and jax.tree.structure(state) != structure:
        raise FlagError("state: its structure differs from that of the experiment's `init`")
    like = like if state is None else state
    # without any data, evaluation plays its own episodes
    evaluated = valid is not None or (train is None and test is None)
    program, names = traced(experiment, valid, like) if evaluated else (None, [])
    traced(experiment, _streams(test), like)  # their first batch has been read: check it before the first step
    check_monitor(config, names, evaluated, test)
    with understood(data.example):
        step, (_, metrics) = jax.make_jaxpr(experiment.step, return_shape=True)(like, data.example)
    for name, value in metrics.items():
        if value.shape:
            told = "must be a scalar, the mean over the batch"
            raise FlagError(f"step: the metric {name} {told}, got shape {list(value.shape)}")
    digests = {"init": digest_of_program(init), "step": digest_of_program(step)}
    if program is not None:
        digests["evaluate"] = digest_of_program(program, experiment.summarize)
    if initial:
        digests["start"] = digest_of_arrays(initial.arrays)
    made_of: dict[str, Any] = identity(config, {"train": train, "valid": valid}, digests, state)
    made_of["about"] = facts_of(data)
    made_of["experiment"] = type(config).__module__ if type(config).__module__.startswith("experiments.") else ""

    @functools.cache
    def tested() -> dict[str, Any]:
        if test is None:
            return {}
        digest = digest_of_program(traced(experiment, test, like)[0], experiment.summarize)
        return {"data": {"test": digest_of_data(test)}, "program": {"evaluate": digest}}

    # the constants of init, such as the learning rate, are arguments: runs that differ in them share a program
    make = remembered(jax.jit(partial(jax.core.eval_jaxpr, init.jaxpr)))

    def start(seed: int) -> Any:
        new = jax.tree.unflatten(structure, make(init.consts, jax.random.key(seed)))
        # the configured learning rate, which is part of the state, replaces that of a given state
        begun = new if state is None else with_peak_of(new, state).replace(key=new.key)
        begun = begun_with(begun, initial, config.init_skip) if initial else begun
        # a copy: the caller's state stays valid, and donation refuses a buffer that two fields share
        return place_state(begun, mesh, config.parallel)

    call = compile_steps(experiment.step, like, mesh, parallel=config.parallel, take=feed.take)
    score = evaluator(experiment, mesh)
    return Plan(
        experiment=experiment,
        start=start,
        call=partial(call.program if config.profile else call, feed.arrays),
        rows=feed.rows,
        valid=(lambda state: score(state, valid)) if evaluated else lambda state: {},
        test=(lambda state: score(state, test)) if test is not None else lambda state: {},
        watch=jax.jit(watch, out_shardings=NamedSharding(mesh, P())) if watch else None,
        whole=lambda tree: whole(tree, mesh),
        scan=feed.scan(step, config.scan),
        every=config.eval_every or cadence(config.steps or 0, data.example, valid),
        title=start_line(like, feed.arrays, mesh) + (f" | {begins}" if begins else ""),
        epoch=feed.epoch,
        identity=lambda one: {**made_of, "flags": made_of["flags"] | {"seed": one.seed}},
        tested=tested,
        close=feed.close,
    )


def check_once(part: Any, again: bool) -> None:
    """Raises FlagError for a generator that would be read more than once."""
    for one in part.values() if isinstance(part, Mapping) else (part,):
        if again and isinstance(one, Stream) and one.once:
            told = "a list, a loader, or a function that makes the generator (from a seed, for training)"
            raise FlagError(
                f"{one.name}: a generator can be read once, but this part is read several times; pass {told}"
            )


def _streams(part: Parts) -> dict[str, Stream]:
    parts = part.items() if isinstance(part, Mapping) else [("", part)]
    return {name: one for name, one in parts if isinstance(one, Stream)}


def _with_norms(step: Any) -> Any:
    """Returns a step whose metrics include the norms that its optimisers record."""

    def observed(state: Any, batch: Any) -> tuple[Any, Any]:
        state, metrics = step(state, batch)
        return state, metrics | norms(state)

    return observed


def check_monitor(config: RunConfig, names: list[str], evaluated: bool, test: Parts) -> None:
    """Raises FlagError if the monitored metric, or the part to evaluate during training, does not exist."""
    if config.patience and not evaluated:
        raise FlagError(f"--patience={config.patience}: requires a validation part (see --valid_fraction)")
    if config.watch_test and test is None:
        raise FlagError("--watch_test: requires a test part")
    if config.monitor not in names and (config.patience or (names and config.monitor != "loss")):
        raise FlagError(
            f"--monitor={config.monitor}: the evaluation reports {', '.join(sorted(names)) or 'no metrics'}"
        )


def cadence(steps: int, example: Any, valid: Parts) -> int:
    """Returns the steps between evaluations: a tenth of the run, or more if that would exceed EVALUATING of its time.

    Evaluating an example is assumed to cost a third of training on it. No clock is used, so the same command evaluates
    at the same steps on every machine.
    """
    least = 1
    leaves = jax.tree_util.tree_leaves_with_path
    size = lambda batch: sum(np.size(x) for path, x in leaves(batch) if path[-1:] != (jax.tree_util.DictKey("mask"),))
    if example is not None and valid is not None:
        sets = [valid] if isinstance(valid, Part) else list(valid.values())
        count = lambda s: math.ceil(s.length / s.batch_size) if isinstance(s, Batches) else s.batches or 1
        looked = sum(count(s) * size(s.example) for s in sets)
        least = math.ceil(looked / 3 / EVALUATING / size(example))
    return max(1, math.ceil(steps / max(1, min(10, steps // least))))
