"""Operations and bytes of a compiled training step, and how fast this machine multiplies matrices."""

import time
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun, jaxprs_in_params
from jax.sharding import PartitionSpec as P


def devices_of(compiled: Any) -> list[Any]:
    """The devices that a compiled call runs on."""
    return list(jax.tree.leaves(compiled.input_shardings)[0].device_set)


class StepCost(NamedTuple):
    """Of one step, over all devices."""

    operations: float
    bytes: float
    note: str


def cost(traced: Any, compiled: Any, steps: int) -> StepCost:
    """What one of the `steps` steps of a compiled call costs.

    XLA counts the body of a loop once, whatever its length. So its count of a call that loops over the steps is that of
    one step; to this is added, for every scan of length L inside the step, L - 1 times the count of its body. The
    length of a `while` is known to nobody.
    """
    counts, notes = _xla(compiled, len(devices_of(compiled))), Counter[str]()
    counts.update(_loops(traced.jaxpr.jaxpr, steps, None, notes))
    note = f", {notes['scan']} loops in the step with all their turns" if notes["scan"] else ""
    note += f", {notes['while']} `while` loops of unknown length with one turn: too low" if notes["while"] else ""
    return StepCost(counts["flops"], counts["bytes accessed"], f" ({note[2:]})" if note else "")


def _xla(compiled: Any, devices: int) -> Counter[str]:
    analysis = compiled.cost_analysis() or {}
    return Counter({key: devices * analysis.get(key, 0.0) for key in ("flops", "bytes accessed")})


def _loops(jaxpr: Any, steps: int, mesh: Any, notes: Counter[str]) -> Counter[str]:
    """What XLA leaves out of a program; `steps` > 1: the loop over the steps is still to come, and is counted once."""
    missing = Counter[str]()
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, list(jaxprs_in_params(equation.params))
        if name == "while" and steps > 1:
            missing.update(_loops(equation.params["body_jaxpr"].jaxpr, 1, mesh, notes))
        elif name == "scan":
            notes["scan"] += 1
            body, length = equation.params["jaxpr"], equation.params["length"]
            deeper = _loops(inner[0], 1, mesh, notes)
            once = _xla(_compile(body, mesh), mesh.size if mesh else 1)
            missing.update({key: (length - 1) * once[key] + length * deeper[key] for key in once})
        elif name == "cond":  # XLA counts the costliest branch
            branches = [_loops(branch, steps, mesh, notes) for branch in inner]
            missing.update(max(branches, key=lambda branch: branch["flops"]))
        else:
            notes["while"] += name == "while"
            for part in inner:
                missing.update(_loops(part, steps, equation.params["mesh"] if name == "shard_map" else mesh, notes))
    return missing


def _compile(body: Any, mesh: Any) -> Any:
    """The body of a loop as a program of its own; inside pmap (mesh is not None) with its axis bound."""
    function = jaxpr_as_fun(body)
    if mesh is not None:
        function = jax.shard_map(function, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in body.in_avals)).compile()


def matmul_rate(devices: list[Any], width: int = 0, repeats: int = 5) -> tuple[float, int]:
    """(operations per second of a float32 matrix product on all devices at once, its width): the best of several."""
    width = width or (2048 if devices[0].platform == "cpu" else 8192)
    inputs = [jax.device_put(jnp.ones((width, width), jnp.float32), device) for device in devices]
    product = jax.jit(jnp.matmul)
    seconds = []
    for _ in range(repeats + 1):  # the first compiles
        start = time.perf_counter()
        jax.block_until_ready([product(x, x) for x in inputs])
        seconds.append(time.perf_counter() - start)
    return 2 * width**3 * len(devices) / min(seconds[1:]), width
