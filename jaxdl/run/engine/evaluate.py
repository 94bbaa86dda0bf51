"""Evaluation: metrics on a test set, functions applied to data, and the cost of a call."""

import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.errors import ScopeParamShapeError
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.core import AXIS, Experiment
from jaxdl.data import Batches, Data, Stream
from jaxdl.data.streamed import rows_of
from jaxdl.run.command.flags import FlagError
from jaxdl.run.engine.feed import IN_FLIGHT
from jaxdl.run.engine.parallel import make_mesh, place, remembered

ROWS = 256  # batch size of arrays that do not define one
Part = Batches | Stream
Parts = Part | Mapping[str, Part] | None


def _over(data: Part, devices: int, call: Callable[[Any], Any]) -> list[tuple[int, Any]]:
    """Calls call(batch) for every batch in order and returns [(number of rows, result on the host)].

    Batches have the batch size of `data`, rounded up to a multiple of the number of devices, so one program serves all
    sets of one shape. A smaller batch is padded with copies of its last row, whose mask is 0.
    """
    out, flying = [], deque[tuple[int, Any]]()
    for rows, batch in _padded(data, -(-data.batch_size // devices) * devices):
        flying.append((rows, call(batch)))
        if len(flying) > IN_FLIGHT:
            out.append(jax.device_get(flying.popleft()))
    return out + jax.device_get(list(flying))


def _padded(data: Part, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (number of valid rows, batch of `size` rows with its mask) for all batches in order."""
    if isinstance(data, Batches):
        found = ((dict(data.take(data.arrays, rows)), valid) for rows, valid in data.in_order(size))
    else:
        valid = lambda n: (np.arange(size) < n).astype(np.float32)
        fill = lambda x: np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)])
        found = ((jax.tree.map(fill, batch), valid(rows_of(batch))) for batch in data)
    for batch, valid_rows in found:
        mask = batch.get("mask", valid_rows)
        batch["mask"] = mask * valid_rows.reshape((-1,) + (1,) * (mask.ndim - 1))
        yield int(valid_rows.sum()), batch


def evaluator(experiment: Experiment, mesh: Mesh) -> Callable[[Any, Parts], dict[str, float]]:
    """Returns (state, part) -> {metric: number}; every example counts once, the last batch is padded and masked.

    It runs under jit on the global state, however the state was trained, and is compiled once for all parts whose
    batches have one shape. The sums are accumulated in float64 on the host. A dict of sets gives
    {"name/metric": number}; None calls `experiment.evaluate(state, None)` once.
    """
    evaluate = experiment.evaluate
    if evaluate is None:
        return lambda state, part: {}
    split, whole = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())
    sums = remembered(jax.jit(evaluate, in_shardings=(None, split), out_shardings=whole))
    alone = remembered(jax.jit(lambda state: evaluate(state, None)))

    def run(state: Any, part: Parts) -> dict[str, float]:
        if part is None:
            return experiment.summarize(jax.device_get(alone(state)))
        report: dict[str, float] = {}
        for name, source in ({"": part} if isinstance(part, Part) else part).items():
            sets = [found for _, found in _over(source, mesh.size, lambda x: sums(state, place(x, mesh, P(AXIS))))]
            added = jax.tree.map(lambda *x: np.sum(np.asarray(x, np.float64), axis=0), *sets)
            found = {key: float(value) for key, value in experiment.summarize(added).items()}
            report |= {f"{name}/{key}".lstrip("/"): value for key, value in found.items()}
        return report

    return run


def traced(experiment: Experiment, part: Parts, state: Any) -> tuple[Any, list[str]]:
    """Returns the jaxpr of an evaluation and the names of the metrics that `evaluator` reports, from shapes alone."""
    names: list[str] = []
    program: Any = None
    if experiment.evaluate is None:
        return program, names
    for name, source in (part if isinstance(part, Mapping) else {"": part}).items():
        batch: Any = None
        if source is not None:
            ones = np.ones(source.batch_size, np.float32)
            batch = {**source.example, "mask": source.example.get("mask", ones)}
        with understood(batch):
            program, sums = jax.make_jaxpr(experiment.evaluate, return_shape=True)(state, batch)
        ones = jax.tree.map(lambda x: np.ones(x.shape), sums)
        names += [f"{name}/{key}".lstrip("/") for key in experiment.summarize(ones)]
    return program, names


NOT_NAMED = ("subscriptable", "indices must be", "string index", "__contains__")


@contextlib.contextmanager
def understood(batch: Any) -> Iterator[None]:
    """Raises FlagError, which lists the arrays of the batch, if a traced function reads one that does not exist."""
    try:
        yield
    except KeyError as error:
        if isinstance(batch, Mapping) and error.args[:1] and error.args[0] in batch:
            raise
        has = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
        raise FlagError(f"data: a batch has {has}, but the experiment reads {error}") from error
    except (TypeError, IndexError) as error:
        if isinstance(batch, Mapping) or not any(words in str(error) for words in NOT_NAMED):
            raise
        has = "there is no batch" if batch is None else f"a batch is a {type(batch).__name__}"
        told = 'the experiment reads arrays by name; pass {"x": ..., "y": ...}'
        raise FlagError(f"data: {has}, but {told}") from error
    except ScopeParamShapeError as error:
        told = "was built for an `example` with other shapes"
        raise FlagError(f"data: the experiment {told} ({str(error).partition(' (http')[0]})") from error


def map_batches(function: Callable[[Any, Any], Any], state: Any, data: Any, *, devices: int | None = None) -> Any:
    """Applies function(state, batch) -> [B, ...] to all rows of `data` in order and joins the results on the host.

    For predictions, samples and other results per row. `batch["mask"]` is 0 on the padding of the last batch, whose
    results are dropped. A function is compiled once, however often it is applied. `data` is a `Batches`, a dict of
    arrays, or an iterable of batches.

    Returns:
      The pytree that `function` returns, as NumPy arrays with one row for each row of `data`. With several processes,
      each computes all of it.
    """
    data = Data(test=data).batched(ROWS).test
    mesh = make_mesh(devices if jax.process_count() == 1 else 1, local=True)
    if data.batch_size % mesh.size:
        mesh = make_mesh(1, local=True)
    call, state = _applied(function, mesh), place(state, mesh, P())
    parts = _over(data, mesh.size, lambda batch: call(state, batch))
    return jax.tree.map(lambda *x: np.concatenate(x), *(jax.tree.map(lambda x, n=n: x[:n], out) for n, out in parts))


@functools.lru_cache(maxsize=32)
def _applied(function: Callable[[Any, Any], Any], mesh: Mesh) -> Callable[[Any, Any], Any]:
    return remembered(jax.jit(function, in_shardings=(None, NamedSharding(mesh, P(AXIS)))))


def compiled(function: Callable[..., Any], quick: bool = False) -> Callable[..., Any]:
    """Returns a pure function compiled for one device when it is first called; all calls have the shapes of the first.

    For what a report calculates besides its fits: gradients, a few steps by hand. Equal programs are compiled once per
    process, also if they differ in constants; `experiment.init` is the program that `fit` has compiled.

    Args:
      function: arrays -> a pytree of arrays.
      quick: optimise less; it compiles in half the time, for functions that are called a few dozen times.
    """
    found: list[Any] = []
    options = {"xla_backend_optimization_level": 0} if quick else None

    def call(*args: Any) -> Any:
        if not found:
            closed, like = jax.make_jaxpr(function, return_shape=True)(*args)
            program = remembered(jax.jit(functools.partial(jax.core.eval_jaxpr, closed.jaxpr)), options)
            found.extend((program, closed.consts, jax.tree.structure(like)))
        program, constants, structure = found
        return jax.tree.unflatten(structure, program(constants, *jax.tree.leaves(args)))

    return call


class Cost(NamedTuple):
    """The cost of one call: seconds (the best of several), and the compiler's count of operations and bytes moved.

    dispatch: seconds until the call returns, before its results are ready.
    """

    seconds: float
    operations: float
    bytes: float
    dispatch: float


def benchmark(function: Callable[..., Any], *args: Any, repeats: int = 5, compiled: bool = True) -> Cost:
    """Compiles function(*args) and times it, waiting for each call; if not `compiled`, operations run one by one."""
    call: Any = function
    analysis: Any = {}
    if compiled:
        call = jax.jit(function).lower(*args).compile()
        analysis = call.cost_analysis() or {}
    jax.block_until_ready(call(*args))
    times, returned = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call(*args)
        returned.append(time.perf_counter() - start)
        jax.block_until_ready(result)
        times.append(time.perf_counter() - start)
    counts = float(analysis.get("flops", 0.0)), float(analysis.get("bytes accessed", 0.0))
    return Cost(min(times), *counts, min(returned))
