"""Where arrays live and how a pure step becomes one compiled call on one device or many."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.core import AXIS, guarded
from jaxdl.data import Batches
from jaxdl.run.flags import FlagError


def make_mesh(devices: int = 0) -> Mesh:
    """A mesh of the first `devices` devices (0: all) along one axis.

    Auto axes, because linen's pooling, embeddings and recurrences do not take the explicit ones that are JAX's default.
    """
    if devices > jax.device_count():
        raise FlagError(
            f"--devices={devices}: this machine has {jax.device_count()} (launch.sh --cpu-devices=N fakes N)"
        )
    chosen = jax.devices()[: devices or None]
    return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen)


def by_field(state: Any, replicated: Any, per_example: Any) -> Any:
    """A prefix tree of a State: `per_example` for the fields marked so, `replicated` for all others."""
    marked = {f.name: f.metadata.get("per_example", False) for f in dataclasses.fields(state)}
    return type(state)(**{name: per_example if mark else replicated for name, mark in marked.items()})


def shardings(state: Any, mesh: Mesh) -> Any:
    """Every leaf on every device, but for the leaves of per-example fields, which are split."""
    return by_field(state, NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS)))


def place(tree: Any, mesh: Mesh, spec: P) -> Any:
    """The same arrays on the mesh's devices, split as `spec` says."""
    return jax.device_put(tree, NamedSharding(mesh, spec))


def place_state(state: Any, mesh: Mesh) -> Any:
    """A copy of the state on the mesh's devices, no two leaves of which share a buffer."""
    return jax.device_put(jax.tree.map(jnp.copy, state), shardings(state, mesh))


def has_convolution(step: Callable[..., Any], *args: Any) -> bool:
    """Whether the step convolves: XLA's CPU runs a convolution inside a loop some 30 times slower."""
    return "conv_general_dilated" in str(jax.make_jaxpr(step)(*args))


def compile_steps(
    step: Callable[[Any, Any], tuple[Any, Any]],
    state: Any,
    mesh: Mesh,
    *,
    parallel: str = "jit",
    take: Callable[[Any, Any], Any],
    replicas: bool = False,
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """One compiled call for as many steps as `rows` has leading entries: (arrays, state, rows) -> (state, metrics [S]).

    `take(arrays, rows)` is the batch of one step, `Feed.take`: `rows` are its row numbers, or the batch itself.
    The state given is donated. Under jit the compiler splits the batch and adds the collectives; under pmap each device
    runs `step` on its part, `jaxdl.core.average` is a real mean over devices, and so is that of the metrics. The
    step is `guarded`. With `replicas` (pmap only, for tests) each device's copy of the replicated state comes back,
    along a new first axis.
    """

    def many(arrays: Any, state: Any, rows: Any) -> tuple[Any, Any]:
        def body(state: Any, row: Any) -> tuple[Any, Any]:
            return guarded(step)(state, take(arrays, row))

        length = jax.tree.leaves(rows)[0].shape[0] if jax.tree.leaves(rows) else 1
        if length > 1:
            return lax.scan(body, state, rows)
        state, metrics = body(state, jax.tree.map(lambda x: x[0], rows))
        return state, jax.tree.map(lambda x: x[None], metrics)

    def replica(arrays: Any, state: Any, rows: Any) -> tuple[Any, Any]:
        state, metrics = many(arrays, state, rows)
        return state, lax.pmean(metrics, AXIS)

    def pmapped(arrays: Any, state: Any, rows: Any) -> tuple[Any, Any]:
        split, join = _split(mesh.size, 0), lambda x: x.reshape((-1, *x.shape[2:]))
        call = jax.pmap(
            replica,
            AXIS,
            in_axes=(None, by_field(state, None, 0), 1),
            out_axes=(by_field(state, 0 if replicas else None, 0), None),
            devices=list(mesh.devices.flat),
        )
        rows = jax.tree.map(_split(mesh.size, 1), rows)
        state, metrics = call(arrays, _on_per_example(split, state), rows)
        return (state if replicas else _on_per_example(join, state)), metrics

    if replicas:
        return jax.jit(pmapped)
    where = shardings(state, mesh)
    return jax.jit(
        pmapped if parallel == "pmap" else many,
        donate_argnums=1,
        in_shardings=(None, where, NamedSharding(mesh, P(None, AXIS))),
        out_shardings=(where, NamedSharding(mesh, P())),
    )


def _split(n: int, axis: int) -> Callable[[Any], Any]:
    return lambda x: x.reshape((*x.shape[:axis], n, x.shape[axis] // n, *x.shape[axis + 1 :]))


def _on_per_example(function: Callable[[Any], Any], state: Any) -> Any:
    names = [f.name for f in dataclasses.fields(state) if f.metadata.get("per_example")]
    return state.replace(**{name: jax.tree.map(function, getattr(state, name)) for name in names})


def check_divisible(sources: Sequence[Batches], mesh: Mesh, name: str = "batch_size") -> None:
    """Raises FlagError where the devices do not divide a batch."""
    for source in sources:
        if source.batch_size % mesh.size:
            fits = int(np.ceil(source.batch_size / mesh.size)) * mesh.size
            raise FlagError(f"--{name}={source.batch_size}: {mesh.size} devices do not divide it; {fits} would do")
