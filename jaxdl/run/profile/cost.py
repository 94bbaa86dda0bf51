"""Operations and bytes of a compiled training step, and the matrix-product throughput of this machine."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params


def devices_of(compiled: Any) -> list[Any]:
    """Returns the devices that a compiled call runs on."""
    return list(jax.tree.leaves(compiled.input_shardings)[0].device_set)


class StepCost(NamedTuple):
    """The cost of one step, over all devices."""

    operations: float
    bytes: float
    note: str


def cost(traced: Any, compiled: Any, steps: int) -> StepCost:
    """Returns the cost of one of the `steps` steps of a compiled call, as XLA counts it.

    XLA counts the body of a loop once, whatever its length. So its count for a call that loops over steps is that of
    one step. Loops inside the step make it too low; the note says so.
    """
    analysis, devices = compiled.cost_analysis() or {}, len(devices_of(compiled))
    loops = _loops(traced.jaxpr.jaxpr) - (steps > 1)
    note = f" (too low: {loops} loops in the step are counted as one iteration each)" if loops else ""
    operations, moved = (devices * analysis.get(key, 0.0) for key in ("flops", "bytes accessed"))
    return StepCost(operations, moved, note)


def _loops(jaxpr: Any) -> int:
    inner = lambda equation: sum(map(_loops, jaxprs_in_params(equation.params)))
    return sum((equation.primitive.name in ("scan", "while")) + inner(equation) for equation in jaxpr.eqns)


def matmul_rate(devices: list[Any], width: int = 0, repeats: int = 5) -> tuple[float, int]:
    """Returns (operations per second of a float32 matrix product on all devices at once, its width)."""
    width = width or (2048 if devices[0].platform == "cpu" else 8192)
    inputs = [jax.device_put(jnp.ones((width, width), jnp.float32), device) for device in devices]
    product = jax.jit(jnp.matmul)
    seconds = []
    for _ in range(repeats + 1):  # the first compiles
        start = time.perf_counter()
        jax.block_until_ready([product(x, x) for x in inputs])
        seconds.append(time.perf_counter() - start)
    return 2 * width**3 * len(devices) / min(seconds[1:]), width
