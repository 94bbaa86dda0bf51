"""What is not a training step: scores over a test set, a function applied to data, the cost of a call."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.core import AXIS, Experiment
from jaxdl.data import Batches
from jaxdl.run.feed import IN_FLIGHT
from jaxdl.run.parallel import check_divisible, make_mesh, place

Tests = Batches | Mapping[str, Batches] | None


def _over(data: Batches, call: Callable[[Any, Any, Any], Any], arrays: Any) -> list[Any]:
    """call(arrays, rows [B], valid [B]) for every batch in order -> the results, on the host."""
    out, flying = [], deque[Any]()
    for rows, valid in data.in_order():
        flying.append(call(arrays, rows, valid))
        if len(flying) > IN_FLIGHT:
            out.append(jax.device_get(flying.popleft()))
    return out + jax.device_get(list(flying))


def _masked(batch: dict[str, Any], valid: Any) -> dict[str, Any]:
    mask = batch.get("mask", valid)
    batch["mask"] = mask * valid.reshape((-1,) + (1,) * (mask.ndim - 1))
    return batch


def evaluator(experiment: Experiment, test: Tests, mesh: Mesh) -> Callable[[Any], dict[str, float]]:
    """state -> {metric: number} over all of `test`: every example counted once, the last batch padded and masked.

    It runs under jit on the global state, however the state was trained. The sums are added up in float64 on the host.
    A dict of test sets gives {"name/metric": number}; None calls `experiment.evaluate(state, None)` once.
    """
    evaluate = experiment.evaluate
    if evaluate is None:
        return lambda state: {}
    if test is None:
        alone = jax.jit(lambda state: evaluate(state, None))
        return lambda state: experiment.summarize(jax.device_get(alone(state)))
    sources = {"": test} if isinstance(test, Batches) else {f"{name}/": source for name, source in test.items()}
    check_divisible(list(sources.values()), mesh)
    arrays = {name: place(source.arrays, mesh, P()) for name, source in sources.items()}
    split = NamedSharding(mesh, P(AXIS))
    sums = jax.jit(
        lambda take, state, arrays, rows, valid: evaluate(state, _masked(take(arrays, rows), valid)),
        static_argnums=0,
        in_shardings=(None, None, split, split),
        out_shardings=NamedSharding(mesh, P()),
    )

    def run(state: Any) -> dict[str, float]:
        report: dict[str, float] = {}
        for name, source in sources.items():
            call = lambda a, rows, valid: sums(source.take, state, a, *place((rows, valid), mesh, P(AXIS)))
            parts = _over(source, call, arrays[name])
            added = jax.tree.map(lambda *x: np.sum(np.asarray(x, np.float64), axis=0), *parts)
            report |= {name + key: float(value) for key, value in experiment.summarize(added).items()}
        return report

    return run


def metric_names(experiment: Experiment, test: Tests, state: Any) -> list[str]:
    """The names of what `evaluator` will report, found from shapes alone."""
    sources = test if isinstance(test, Mapping) else {"": test}
    names = []
    for name, source in sources.items():
        batch = source and {
            **source.example,
            "mask": source.example.get("mask", np.ones(source.batch_size, np.float32)),
        }
        sums = jax.eval_shape(experiment.evaluate or (lambda state, batch: {}), state, batch)
        ones = jax.tree.map(lambda x: np.ones(x.shape), sums)
        names += [f"{name}/{key}".lstrip("/") for key in experiment.summarize(ones)]
    return names


def apply(function: Callable[[Any, Any], Any], state: Any, data: Batches, *, devices: int = 0) -> Any:
    """function(state, batch) -> [B, ...] over all rows of `data` in order; the results are joined on the host.

    For predictions, samples and whatever else is wanted row by row. `batch["mask"]` is 0 on the padding of the last
    batch, whose results are cut off.

    Returns:
      The pytree that `function` returns, as NumPy arrays with `data.length` rows; each of several processes computes
      them for itself.
    """
    mesh = make_mesh(devices if jax.process_count() == 1 else 1, local=True)
    if data.batch_size % mesh.size:
        mesh = make_mesh(1, local=True)
    split = NamedSharding(mesh, P(AXIS))
    call = jax.jit(
        lambda state, arrays, rows, valid: function(state, _masked(data.take(arrays, rows), valid)),
        in_shardings=(None, None, split, split),
    )
    state, arrays = place(state, mesh, P()), place(data.arrays, mesh, P())
    parts = _over(data, lambda a, rows, valid: call(state, a, rows, valid), arrays)
    return jax.tree.map(lambda *x: np.concatenate(x)[: data.length], *parts)


class Cost(NamedTuple):
    """What one call costs: seconds (the best of several), and the compiler's count of operations and bytes moved.

    dispatch: seconds until the call returns, which is before its results are there.
    """

    seconds: float
    operations: float
    bytes: float
    dispatch: float


def measure(function: Callable[..., Any], *args: Any, repeats: int = 5, compiled: bool = True) -> Cost:
    """Compiles function(*args) and times it, each call waited for; not `compiled`, each operation runs by itself."""
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
