"""Where arrays live and how a pure step becomes one compiled call on one device or many."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.core import AXIS
from jaxdl.data import Batches
from jaxdl.guard import guarded
from jaxdl.run.flags import FlagError

ASKED = 8
LEAST = 1024  # elements of an array that fsdp splits; below, the message costs more than the memory


def make_mesh(devices: int = 0, *, local: bool = False) -> Mesh:
    """A mesh of the first `devices` devices (0: all) along one axis; `local`: of this process alone.

    Auto axes, because linen's pooling, embeddings and recurrences do not take the explicit ones that are JAX's default.
    """
    there = jax.local_devices() if local else jax.devices()
    if devices > len(there):
        raise FlagError(f"--devices={devices}: this machine has {len(there)} (launch.sh --cpu-devices=N fakes N)")
    chosen = there[: devices or None]
    return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen)


def by_field(state: Any, replicated: Any, per_example: Any) -> Any:
    """A prefix tree of a State: `per_example` for the fields marked so, `replicated` for all others."""
    marked = {f.name: f.metadata.get("per_example", False) for f in dataclasses.fields(state)}
    return type(state)(**{name: per_example if mark else replicated for name, mark in marked.items()})


def shardings(state: Any, mesh: Mesh, parallel: str = "jit") -> Any:
    """Every leaf on every device, but for the leaves of per-example fields, which are split.

    Under fsdp the leaves of at least LEAST elements are split too, along their longest axis that the devices divide.
    """
    split = NamedSharding(mesh, P(AXIS))
    if parallel != "fsdp":
        return by_field(state, NamedSharding(mesh, P()), split)

    def place(x: Any) -> NamedSharding:
        axes = [i for i, n in enumerate(x.shape) if n % mesh.size == 0]
        if x.size < LEAST or not axes:
            return NamedSharding(mesh, P())
        longest = max(axes, key=lambda i: x.shape[i])
        return NamedSharding(mesh, P(*[None] * longest, AXIS))

    marked = {f.name: f.metadata.get("per_example", False) for f in dataclasses.fields(state)}
    return type(state)(
        **{n: jax.tree.map(lambda x: split, getattr(state, n)) if mark else jax.tree.map(place, getattr(state, n))
           for n, mark in marked.items()}
    )  # fmt: skip


def place(tree: Any, mesh: Mesh, spec: P) -> Any:
    """The same arrays on the mesh's devices, split as `spec` says; every process has the whole of them."""
    return _put(tree, jax.tree.map(lambda x: NamedSharding(mesh, spec), tree))


def place_state(state: Any, mesh: Mesh, parallel: str = "jit") -> Any:
    """A copy of the state on the mesh's devices, no two leaves of which share a buffer."""
    where = shardings(state, mesh, parallel)
    return _put(jax.tree.map(jnp.copy, state), jax.tree.broadcast(where, state))


def _put(tree: Any, where: Any) -> Any:
    if jax.process_count() == 1:
        return jax.device_put(tree, where)

    def put(x: Any, to: NamedSharding) -> Any:
        if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(x), to), impl=jax.random.key_impl(x))
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, to, lambda index: x[index])

    return jax.tree.map(put, tree, where)


def agreed(arrived: Sequence[int]) -> Callable[[], int]:
    """() -> the signal that has reached any of the processes, or 0; all of them must ask equally often.

    A process that went on alone would wait for the others in the next collective for ever. They ask each other every
    ASKED-th time, because that waits for the steps in flight.
    """
    calls = found = 0

    def ask() -> int:
        nonlocal calls, found
        mine = arrived[0] if arrived else 0
        if jax.process_count() == 1:
            return mine
        if not found and calls % ASKED == 0:
            found = int(multihost_utils.process_allgather(np.int32(mine)).max())
        calls += 1
        return found

    return ask


def whole(tree: Any, mesh: Mesh) -> Any:
    """The arrays as this process can use them by itself: of several processes each has a copy on its first device."""
    if jax.process_count() == 1:
        return tree
    gathered = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, P()))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), gathered)


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
    where = shardings(state, mesh, parallel)
    if parallel == "pmap" and jax.process_count() > 1:
        # the same on a mesh of several processes, whose global arrays pmap does not take inside jit
        pmapped = jax.shard_map(
            replica,
            mesh=mesh,
            in_specs=(P(), by_field(state, P(), P(AXIS)), P(None, AXIS)),
            out_specs=(by_field(state, P(), P(AXIS)), P()),
            check_vma=False,
        )
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
