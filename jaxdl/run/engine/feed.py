"""Feeds training data to the compiled calls: the batch of each step, and the number of steps per call."""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxdl.core import AXIS
from jaxdl.data import DataError, Stream
from jaxdl.data.parts import batches_in, in_memory, is_batches, item
from jaxdl.data.streamed import rows_of, unlike
from jaxdl.run.command.flags import FlagError
from jaxdl.run.engine.ahead import Ahead
from jaxdl.run.engine.parallel import check_divisible, place
from jaxdl.run.show.report import log

IN_FLIGHT = 2  # calls not waited for; with more in flight, collectives deadlock on several CPU devices
# steps per call unless loops are slow: a small MLP's step falls from 40 to 17 us, a large one loses nothing
SCAN = 16


class Feed:
    """Training data placed on the devices; `rows(seed, t, count)` is the input of a compiled call.

    `Batches` and pytrees of them stay on the devices, and a call receives row numbers. For anything else a thread
    fetches batch t while the devices compute: `train[t]`, the t-th batch of a stream, or that of `train(seed)` if
    `train` is a function of the seed. With None there is no batch.
    """

    def __init__(self, train: Any, mesh: Mesh, steps: int = 0, example: Any = None) -> None:
        """Places the arrays; raises FlagError if a batch is not divisible by the number of devices.

        steps: of a fit; nothing is prefetched beyond. example: a batch of data that is not in memory.
        """
        self._ahead = Ahead(self._fetch, steps)
        self._told, self._first = False, None
        self._flow: tuple[int, int, Iterator[Any]] | None = None  # of a stream: seed, index of the next batch
        self._sources = jax.tree.leaves(train, is_leaf=is_batches)
        self._structure = jax.tree.structure(train, is_leaf=is_batches)
        self.in_memory = in_memory(train)
        self._train, self._mesh = train, mesh
        self._of_seed = functools.lru_cache(maxsize=4)(
            lambda seed: self._full(train(seed) if callable(train) else train)
        )
        self.arrays: Any = ()
        if self.in_memory:
            check_divisible(self._sources, mesh)
            self.arrays = place(jax.tree.unflatten(self._structure, [s.arrays for s in self._sources]), mesh, P())
        elif train is not None:
            check_rows(example, mesh)

    @property
    def epoch(self) -> float:
        """Steps per pass over the training data, of the longest source; 0 if the length is unknown."""
        return 0.0 if callable(self._train) else batches_in(self._train, 1) or 0.0

    def take(self, arrays: Any, rows: Any) -> Any:
        """Returns the batch for the row numbers [B]; data that is not `Batches` is already the batch."""
        if not self.in_memory:
            return rows
        return jax.tree.map(lambda source, a, r: source.take(a, r), self._train, arrays, rows, is_leaf=is_batches)

    def rows(self, seed: int, t: int, count: int, length: int = 0) -> Any:
        """Returns the row numbers [max(count, length), B] of batches t ... t + count - 1, padded with the last ones.

        For data that is not in memory: batch t itself with a leading axis of 1.
        """
        if self.in_memory:
            steps = [t + min(i, count - 1) for i in range(max(count, length))]
            rows = jax.tree.unflatten(
                self._structure, [np.stack([s.order(seed, step) for step in steps]) for s in self._sources]
            )
        else:
            rows = None if self._train is None else self._ahead.get(seed, t)
        return rows if jax.process_count() == 1 else place(rows, self._mesh, P(None, AXIS))

    def _fetch(self, seed: int, t: int) -> Any:
        source = self._of_seed(seed)
        if in_memory(source):
            batch = jax.tree.map(lambda one: one.batch(seed, t), source, is_leaf=is_batches)
        else:
            batch = self._next(source, seed, t) if isinstance(source, Stream) else item(source, t)
        batch = jax.tree.map(np.asarray, batch)
        self._first = batch if self._first is None else self._first
        if told := unlike(batch, self._first):
            raise DataError(f"train: batch {t} {told}")
        return jax.tree.map(lambda x: x[None], batch)

    def _next(self, stream: Stream, seed: int, t: int) -> Any:
        """Returns batch t of a stream; after a resume, earlier batches are read and skipped."""
        of, at, flow = self._flow or (seed, 0, iter(stream))
        if of != seed or at > t:
            at, flow = 0, iter(stream)
        if t > at:
            log(f"{stream.name}: skipping {t - at:,} batches; resume is exact if every pass gives the same batches")
        some, batch = True, None
        while at <= t:
            found = next(flow, None)
            if found is None:
                if stream.once or not some:
                    told = "pass a list, a loader, or a function from a seed to the generator"
                    ended = f"ended after {at} full batches, but step {t + 1} needs another"
                    raise FlagError(f"--steps: {stream.name} {ended}; {told}")
                flow, some = iter(stream), False  # the next epoch
            elif rows_of(found) == stream.batch_size:
                batch, at, some = found, at + 1, True
            else:
                self._left_out(found, stream.batch_size)
        self._flow = seed, at, flow
        return batch

    def _full(self, source: Any) -> Any:
        """Drops a smaller last batch of a list; returns anything else unchanged."""
        if isinstance(source, list) and not in_memory(source) and rows_of(source[-1]) < rows_of(source[0]):
            self._left_out(source[-1], rows_of(source[0]))
            return source[:-1]
        return source

    def _left_out(self, batch: Any, size: int) -> None:
        """Logs once that a smaller batch is skipped: a step on fewer rows would be another program."""
        if not self._told:
            self._told = True
            log(f"train: the last batch has {rows_of(batch)} rows instead of {size} and is left out of training")

    def close(self) -> None:
        """Stops the prefetching thread."""
        self._ahead.close()

    def scan(self, program: Any, asked: int | None) -> int:
        """Returns the maximum number of steps per call: `asked`, or if that is None, as many as pay off.

        Args:
          program: the jaxpr of a step. XLA on the CPU runs a convolution inside a loop about 30 times slower.
          asked: --scan.
        """
        if not self.in_memory:
            return 1
        if asked is not None:
            return asked
        slow = jax.default_backend() == "cpu" and "conv_general_dilated" in str(program)
        return 1 if slow else SCAN


def check_rows(example: Any, mesh: Mesh) -> None:
    """Raises FlagError if the rows of a ready-made batch are not divisible by the number of devices."""
    for x in jax.tree.leaves(example):
        if np.ndim(x) and len(x) % mesh.size:
            fits = -(-len(x) // mesh.size) * mesh.size
            told = f"a batch of {len(x)} rows is not divisible by {mesh.size} devices"
            raise FlagError(f"--devices: {told}; use batches of {fits} rows, or --devices=1")


def advance(
    call: Callable[[Any, Any, int], tuple[Any, Any]],
    state: Any,
    rows: Callable[[int, int], Any],
    t: int,
    goal: int,
    *,
    scan: int,
    land: Callable[[int, int, Any], None],
    stop: Callable[[], int],
) -> tuple[Any, int]:
    """Runs steps t+1 ... goal, or fewer if `stop` returns nonzero -> (state, steps done).

    Metrics are read after the call after next has been dispatched, so the devices never wait for the host. Every call
    runs the same program; the last one before `goal` makes fewer of its steps.

    Args:
      call: (state, rows, steps to make) -> (state, metrics).
      rows: (steps done, steps in the call) -> the input of the call.
      stop: () -> nonzero to end early.
      land: receives (steps done before the call, steps in it, metrics [>= steps in it]) of each call, in order.
    """
    flying: deque[tuple[int, int, Any]] = deque()
    while t < goal and not stop():
        count = min(scan, goal - t)
        state, metrics = call(state, rows(t, count), count)
        flying.append((t, count, metrics))
        t += count
        if len(flying) > IN_FLIGHT:
            land(*flying.popleft())
    while flying:
        land(*flying.popleft())
    return state, t
