"""`--profile=N`: the cost of a step, a trace of N steps, and the causes of recompilations."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxdl.machine import size
from jaxdl.run.engine.parallel import rows_in
from jaxdl.run.profile.cost import StepCost, cost, devices_of, matmul_rate
from jaxdl.run.show.report import log

ARGUMENTS = ("data", "state", "rows")  # of the compiled call
COMPILED = "/jax/core/compile/backend_compile_duration"


@contextmanager
def profiled(call: Callable[..., Any], steps: int, folder: Path | None, first: int = 0) -> Iterator[Callable[..., Any]]:
    """Yields the same call; for `steps` > 0 it measures itself and logs the results.

    After the first call, which compiles, calls of `steps` steps are timed, and those of as many more are traced into
    folder/profile. Every later compilation is logged with the argument that caused it.

    Args:
      call: `partial(jitted, arrays)`: (state, rows [S, B], count) -> (state, metrics) makes `count` steps.
      steps: number of steps to time and to trace, rounded up to whole calls.
      folder: of the fit; None: a temporary folder.
      first: steps done before.
    """
    if not steps:
        yield call
        return
    assert isinstance(call, partial)
    profile = _Profile(call, steps, folder, first)
    jax.monitoring.register_event_duration_secs_listener(profile.hear)
    try:
        yield profile
        profile.finish()
    finally:
        profile.stop()
        jax.monitoring.unregister_event_duration_listener(profile.hear)


class _Profile:
    def __init__(self, call: partial, steps: int, folder: Path | None, first: int) -> None:
        self._call, self._steps, self._t = call, steps, first
        self._jitted: Any = call.func
        self._folder = folder / "profile" if folder else Path(tempfile.mkdtemp(prefix="jaxdl-profile-"))
        self._last: Any = None
        self._measured: Any = None  # the signature of the calls that are measured
        self._times: list[float] = []  # seconds per step
        self._timed = self._traced = self._compilations = 0
        self._compiled: Any = None
        self._tracing = self._done = False

    def __call__(self, state: Any, rows: Any, count: Any = None) -> Any:
        count = rows_in(rows) if count is None else count
        args = (*self._call.args, state, rows)
        before, self._last = self._last, signature(args)
        if self._measured is None and self._last == before:
            self._measured = self._last
        if self._tracing and self._last != self._measured:
            self.finish()
        if self._done or self._measured is None or self._last != self._measured:
            result = self._run(state, rows, count, before)
        else:
            result = self._measure(state, rows, count)
        self._t += count
        return result

    def hear(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        """Counts compilations: on several devices the jitted function's cache grows without one."""
        self._compilations += event == COMPILED

    def _run(self, state: Any, rows: Any, count: int, before: Any) -> Any:
        self._compilations = 0
        result = self._call(state, rows, count)
        if self._compilations and before is not None:
            log(f"profile: step {self._t + 1} recompiled: {difference(before, self._last)}")
        return result

    def _measure(self, state: Any, rows: Any, count: int) -> Any:
        jax.block_until_ready(state)
        if self._timed < self._steps:
            start = time.perf_counter()
            result = jax.block_until_ready(self._run(state, rows, count, self._last))
            self._times.append((time.perf_counter() - start) / count)
            self._timed += count
            return result
        if not self._tracing:
            self._compiled = self._jitted.trace(*self._call.args, state, rows, count), count
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # Python events of the loop would fill the file and slow down the calls
            jax.profiler.start_trace(str(self._folder), profiler_options=options)
            self._tracing = True
        result = jax.block_until_ready(self._run(state, rows, count, self._last))
        self._traced += count
        if self._traced >= self._steps:
            self.finish()
        return result

    def stop(self) -> None:
        """Ends the trace."""
        if self._tracing:
            jax.profiler.stop_trace()
        self._tracing = False

    def finish(self) -> None:
        """Ends the trace and logs the results."""
        if self._done:
            return
        self._done = True
        self.stop()
        if not self._traced:
            log(f"profile: {self._t} steps are too few to profile {self._steps} after compilation; increase --steps")
            return
        traced, count = self._compiled
        compiled = traced.lower().compile()
        for line in self._report(cost(traced, compiled, count), compiled, count):
            log(line)

    def _report(self, cost: StepCost, compiled: Any, count: int) -> Iterator[str]:
        seconds = min(self._times)
        devices = devices_of(compiled)
        rate, width = matmul_rate(devices)
        yield (
            f"profile: {_si(seconds, 's')} per step, the minimum of {len(self._times)} calls of {count} "
            f"step{'s' * (count > 1)}, waiting for each call"
        )
        yield (
            f"profile: {_si(cost.operations, 'flop')} and {size(cost.bytes)} per step as counted by XLA{cost.note}: "
            f"{_si(cost.operations / seconds, 'flop/s')}, {cost.operations / seconds / rate:.1%} of the "
            f"{_si(rate, 'flop/s')} of a float32 matrix product of width {width:,}"
        )
        yield (
            f"profile: a trace of {self._traced} further steps is in {self._folder}; view its *.trace.json.gz with "
            "ui.perfetto.dev, or rank its operations with xprof (pip install xprof)"
        )


def _si(value: float, unit: str) -> str:
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value * 1e6:.3g} u{unit}"


def signature(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns what jit distinguishes calls by: the tree, and shape, dtype, weak type and sharding of every leaf."""
    leaves, structure = jax.tree.flatten(args)
    return structure, *((jax.typeof(leaf), getattr(leaf, "sharding", None)) for leaf in leaves)


def difference(before: tuple[Any, ...], now: tuple[Any, ...]) -> str:
    """Describes the first argument in which two signatures differ."""

    def named(signature: tuple[Any, ...]) -> dict[str, Any]:
        structure, *leaves = signature
        tree = jax.tree.unflatten(structure, range(len(leaves)))
        return {
            ARGUMENTS[path[0].idx] + jax.tree_util.keystr(path[1:]): leaves[i]
            for path, i in jax.tree_util.tree_leaves_with_path(tree)
        }

    def words(leaf: Any, other: Any) -> str:
        (aval, where), (other_aval, other_where) = leaf, other
        text = f"{aval.dtype}[{','.join(map(str, aval.shape))}]"
        if aval.weak_type != other_aval.weak_type:
            text += " (weak type)" if aval.weak_type else " (strong type)"
        return text if where == other_where else f"{text} on {getattr(where, 'spec', where)}"

    old, new = named(before), named(now)
    lines = [f"{name} was removed" for name in old if name not in new] + [
        f"{name} was added" for name in new if name not in old
    ]
    lines += [
        f"{name} was {words(old[name], leaf)}, is {words(leaf, old[name])}"
        for name, leaf in new.items()
        if name in old and old[name] != leaf
    ]
    if not lines:
        return "no argument has changed, but a JAX setting has"
    return lines[0] + (f", and {len(lines) - 1} more" if lines[1:] else "")
