"""Places arrays on devices and compiles a pure step for one device or many."""

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.extend.core import jaxpr_as_fun
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.core import AXIS
from jaxdl.data import Batches
from jaxdl.guard import guarded
from jaxdl.run.command.flags import FlagError

ASKED = 8
LEAST = 1024  # elements of the smallest array that fsdp splits; below, communication costs more than it saves


def make_mesh(devices: int | None = None, *, local: bool = False) -> Mesh:
    """Returns a mesh of the first `devices` devices (None: all) along one axis; `local`: of this process only.

    The axes are Auto: linen's pooling, embeddings and recurrences do not support explicit axes, JAX's default.
    """
    there = jax.local_devices() if local else jax.devices()
    if devices and devices > len(there):
        raise FlagError(f"--devices={devices}: this machine has {len(there)}; launch.sh --cpu-devices=N simulates N")
    chosen = there[:devices]
    return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen)


def by_field(state: Any, replicated: Any, per_example: Any) -> Any:
    """Returns a prefix tree of a State: `per_example` for split fields, also in nested structs, else `replicated`."""

    def marked(node: Any) -> bool:
        return _is_struct(node) and any(f.metadata.get("per_example") for f in dataclasses.fields(node))

    def inner(node: Any) -> bool:
        found = jax.tree.leaves(node, is_leaf=lambda x: x is not node and marked(x))
        return any(map(marked, found))

    def of(node: Any) -> Any:
        if not (marked(node) or inner(node)):
            return replicated
        if not _is_struct(node):  # a container with such a struct inside
            return jax.tree.map(of, node, is_leaf=marked)
        return dataclasses.replace(
            node,
            **{f.name: per_example if f.metadata.get("per_example") else of(getattr(node, f.name))
               for f in dataclasses.fields(node)},
        )  # fmt: skip

    return of(state)


def _is_struct(node: Any) -> bool:
    return dataclasses.is_dataclass(node) and not isinstance(node, type)


def shardings(state: Any, mesh: Mesh, parallel: str = "jit") -> Any:
    """Replicates every leaf on all devices, except the leaves of per-example fields, which are split.

    Under fsdp, leaves of at least LEAST elements are split too, along the longest axis that the number of devices
    divides.
    """
    everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))
    if parallel != "fsdp":
        return by_field(state, everywhere, split)

    def place(x: Any, where: NamedSharding) -> NamedSharding:
        axes = [i for i, n in enumerate(x.shape) if n % mesh.size == 0]
        if where is split or x.size < LEAST or not axes:
            return where
        longest = max(axes, key=lambda i: x.shape[i])
        return NamedSharding(mesh, P(*[None] * longest, AXIS))

    return jax.tree.map(place, state, jax.tree.broadcast(by_field(state, everywhere, split), state))


def place(tree: Any, mesh: Mesh, spec: P) -> Any:
    """Puts arrays on the mesh's devices, split as `spec` says; every process holds all of their data."""
    return _put(tree, jax.tree.map(lambda x: NamedSharding(mesh, spec), tree))


def place_state(state: Any, mesh: Mesh, parallel: str = "jit") -> Any:
    """Returns a copy of the state on the mesh's devices; no two leaves share a buffer."""
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
    """Returns () -> the signal that any process has received, or 0; all processes must call it equally often.

    A process that continued alone would wait forever for the others in the next collective. The processes communicate
    only every ASKED-th time, because that waits for the steps in flight.
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
    """Returns the arrays as this process can use them alone: with several processes, a copy on its first device."""
    if jax.process_count() == 1:
        return tree
    gathered = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, P()))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), gathered)


def first_decides(mine: bool) -> bool:
    """Returns the first process's answer, because clocks and disks may differ; all processes must call it."""
    return mine if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.int32(mine)))


def compile_steps(
    step: Callable[[Any, Any], tuple[Any, Any]],
    state: Any,
    mesh: Mesh,
    *,
    parallel: str = "jit",
    take: Callable[[Any, Any], Any],
    replicas: bool = False,
) -> "Steps":
    """Compiles several steps into one call: (arrays, state, rows, count=S) -> (state, metrics [S]).

    S is the length of the leading axis of `rows`; the first `count` steps are made, and later entries of the metrics
    are 0. So one program serves every number of steps up to S. `take(arrays, rows)` returns the batch of one step, as
    `Feed.take` does: `rows` are its row numbers, or the batch itself.

    The given state is donated. Under jit the compiler splits the batch and adds the collectives. Under pmap each
    device runs `step` on its part, and `jaxdl.core.mean_over_devices` averages over devices. The metrics are averaged
    too, except the fault, whose maximum is taken. The step is `guarded`. With `replicas` (pmap only, for tests) each
    device's copy of the replicated state is returned, along a new first axis.
    """

    def many(arrays: Any, state: Any, rows: Any, count: Any) -> tuple[Any, Any]:
        def body(state: Any, row: Any) -> tuple[Any, Any]:
            return guarded(step)(state, take(arrays, row))

        first, length = jax.tree.map(lambda x: x[0], rows), rows_in(rows)
        if length == 1:
            state, metrics = body(state, first)
            return state, jax.tree.map(lambda x: x[None], metrics)
        traced, (_, shapes) = jax.make_jaxpr(body, return_shape=True)(state, first)
        structure = jax.tree.structure((state, shapes))

        def one(i: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            state, seen = carry
            leaves = jax.tree.leaves((state, jax.tree.map(lambda x: x[i], rows)))
            state, metrics = jax.tree.unflatten(structure, jaxpr_as_fun(traced)(*leaves))
            return state, jax.tree.map(lambda all, x: all.at[i].set(x), seen, metrics)

        none = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)
        return lax.fori_loop(0, count, one, (state, none))

    def replica(arrays: Any, state: Any, rows: Any, count: Any) -> tuple[Any, Any]:
        state, metrics = many(arrays, state, rows, count)
        means = lax.pmean(metrics, AXIS)
        return state, means | {"fault": lax.pmax(metrics["fault"], AXIS)} if "fault" in metrics else means

    def pmapped(arrays: Any, state: Any, rows: Any, count: Any) -> tuple[Any, Any]:
        join = lambda x: x.reshape((-1, *x.shape[2:]))
        call = jax.pmap(
            replica,
            AXIS,
            in_axes=(None, by_field(state, None, 0), 1, None),
            out_axes=(by_field(state, 0 if replicas else None, 0), None),
            devices=list(mesh.devices.flat),
        )
        rows = jax.tree.map(_split(mesh.size, 1), rows)
        state, metrics = call(arrays, _on_per_example(_split(mesh.size, 0), state), rows, count)
        return (state if replicas else _on_per_example(join, state)), metrics

    where = shardings(state, mesh, parallel)
    if parallel == "pmap" and jax.process_count() > 1:
        # the same for several processes: inside jit, pmap does not accept their global arrays
        pmapped = jax.shard_map(
            replica,
            mesh=mesh,
            in_specs=(P(), by_field(state, P(), P(AXIS)), P(None, AXIS), P()),
            out_specs=(by_field(state, P(), P(AXIS)), P()),
            check_vma=False,
        )
    if replicas:
        program: Any = jax.jit(pmapped)
    else:
        program = jax.jit(
            pmapped if parallel == "pmap" else many,
            donate_argnums=1,
            in_shardings=(None, where, NamedSharding(mesh, P(None, AXIS)), None),
            out_shardings=(where, NamedSharding(mesh, P())),
        )
    return Steps(program)


class Steps:
    """The compiled call of `compile_steps`; `program` is its jitted function."""

    def __init__(self, program: Any) -> None:
        """Nothing is compiled before the first call."""
        self.program = program
        self._call = remembered(program)

    def __call__(self, arrays: Any, state: Any, rows: Any, count: int | None = None) -> tuple[Any, Any]:
        """Returns (state, metrics [S]) after the first `count` of S steps, by default all."""
        return self._call(arrays, state, rows, np.int32(rows_in(rows) if count is None else count))


def rows_in(rows: Any) -> int:
    """Returns the number of steps that `rows` covers."""
    leaves = jax.tree.leaves(rows)
    return leaves[0].shape[0] if leaves else 1


COMPILED: OrderedDict[str, Any] = OrderedDict()
KEPT = 64  # compiled programs


def remembered(program: Any, options: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """Wraps the jitted `program` so that a process compiles equal programs only once.

    options: the compiler's, by which the same program may be compiled to other bits.

    jit identifies a program by its Python function, and every fit makes new functions: a study of many small fits would
    spend more time compiling than training. Arguments with other shapes than those of the first call are left to jit.
    """
    found: list[Any] = []

    def call(*args: Any) -> Any:
        if not found:
            lowered = program.lower(*args)
            devices = [str(device) for device in jax.devices()]
            text = f"{lowered.as_text()}{devices}{options}{sorted(jax.config.values.items(), key=lambda item: item[0])}"
            key = hashlib.sha256(text.encode()).hexdigest()
            found.append(COMPILED.pop(key, None) or lowered.compile(options))
            COMPILED[key] = found[0]
            if len(COMPILED) > KEPT:
                COMPILED.popitem(last=False)
        try:
            return found[0](*args)
        except (TypeError, ValueError):  # raised before anything runs or is donated
            return program(*args)

    return call


def _split(n: int, axis: int) -> Callable[[Any], Any]:
    return lambda x: x.reshape((*x.shape[:axis], n, x.shape[axis] // n, *x.shape[axis + 1 :]))


def _on_per_example(function: Callable[[Any], Any], state: Any) -> Any:
    where = jax.tree.broadcast(by_field(state, False, True), state)
    return jax.tree.map(lambda x, mark: function(x) if mark else x, state, where)


def check_divisible(sources: Sequence[Batches], mesh: Mesh) -> None:
    """Raises FlagError if a training batch is not divisible by the number of devices."""
    for source in sources:
        if source.batch_size % mesh.size:
            fits = int(np.ceil(source.batch_size / mesh.size)) * mesh.size
            raise FlagError(
                f"--batch_size={source.batch_size}: must be divisible by the {mesh.size} devices, such as {fits}"
            )
