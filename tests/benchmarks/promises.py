"""Overhead of the checks that make runs reliable, and the time for which a save blocks training.

    python -m tests.benchmarks.promises [--pairs=50] [--compiled=2] [--saves=20]

The network is the 32-64 CNN on batches of 128 random images of 28x28, with a save every 50 steps. A machine's speed can
drift by a fifth within seconds, far more than the overhead, so whole runs cannot be compared. Instead these are
measured as fractions of a step:

    finite check   the step as `fit` compiles it and the same step without the check (not `guarded`, and `make_update`
                   keeps every update) alternate every 5 steps; the median ratio of neighbouring turns, over several
                   compilations, for each of four optimisers
    checksums      seconds within `seal` during a fit, counted in full although another thread spends them
    signals        the check for signals, once a call, and setting the handlers, once a run
    lock           acquiring and releasing the lock, once a run

Costs per run are divided by the 50 steps to the first save. The targets are 2 % for the sum, with the optimiser for
which the check is slowest, and 5 % of the time between two saves for which a save blocks the loop.

With Adam the step is faster with the check on a CPU. Without it, XLA writes the new parameters and both moments in
three loops that each read the old ones, so none can be written in place and all are copied first. The check reads the
new moments, which are then computed once, without copies.
"""

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data import Batches
from jaxdl.losses import softmax_cross_entropy
from jaxdl.nn import CNN
from jaxdl.run import RunConfig, fit
from jaxdl.run.engine.parallel import agreed, compile_steps, make_mesh, place_state
from jaxdl.run.engine.signals import caught
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.run.store.lock import locked
from jaxdl.run.store.seal import seal
from jaxdl.supervision import supervised
from tests.benchmarks.batches import _images

BATCH, INTERVAL, TURN = 128, 50, 5
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")
UNCHECKED = {
    "jaxdl.run.engine.parallel.guarded": lambda step: step,
    "jaxdl.core._first_fault": lambda *parts: jnp.zeros((), jnp.int32),  # XLA removes what depends on it
    "jaxdl.core.keep": lambda good, new, old: new,
}


def make(train, optimizer="adam"):
    """Returns the experiment."""
    return supervised(
        CNN(),
        RunConfig(optimizer=optimizer).make_optimizer(),
        example=train.example,
        loss=lambda logits, batch: softmax_cross_entropy(logits, batch["y"]),
    )


def turns(train, optimizer, checked):
    """Returns a function that makes one turn and returns its seconds per step."""
    mesh = make_mesh(1)
    with contextlib.ExitStack() as stack:
        for name, value in {} if checked else UNCHECKED.items():
            stack.enter_context(mock.patch(name, value))
        experiment = make(train, optimizer)
        state = place_state(experiment.init(jax.random.key(0)), mesh)
        call = compile_steps(experiment.step, state, mesh, take=lambda arrays, rows: train.take(arrays, rows))
        state, _ = call(train.arrays, state, train.order(0, 0)[None])
    t = 0

    def turn():
        nonlocal state, t
        start = time.perf_counter()
        for _ in range(TURN):
            t += 1
            state, _ = call(train.arrays, state, train.order(0, t)[None])
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / TURN

    return turn


def finite_check(train, optimizer, pairs, compiled):
    """Returns seconds per step with and without the check, [2, compiled * pairs], of neighbouring turns."""
    found = []
    for _ in range(compiled):
        both = turns(train, optimizer, True), turns(train, optimizer, False)
        for pair in range(pairs):
            order = (0, 1) if pair % 2 else (1, 0)  # the order alternates
            seconds = {which: both[which]() for which in order}
            found.append((seconds[0], seconds[1]))
    return np.array(found).T


def timed(seconds, function):
    """Wraps the function to append the seconds of each call to `seconds`."""

    def call(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    return call


def saves(train, count):
    """Returns the median seconds for which a save blocks the loop, and of sealing its files."""
    blocked, sealed = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(Checkpoints, "save", timed(blocked, Checkpoints.save)),
        mock.patch("jaxdl.run.store.checkpoint.seal", timed(sealed, seal)),
    ):
        config = RunConfig(steps=count * INTERVAL, checkpoint_every=INTERVAL, batch_size=BATCH, progress=False,
                           tensorboard=False, devices=1, workdir=str(Path(folder) / "fit"))  # fmt: skip
        fit(make(train), train, config)
    return statistics.median(blocked), statistics.median(sealed)


def each(function, times):
    """Returns the mean seconds per call."""
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times


def take_lock():
    """Acquires and releases a run's lock."""
    with locked(Path(tempfile.gettempdir()) / f"promises-{threading.get_ident()}"):
        pass


def set_handlers():
    """Sets and resets the signal handlers of a run."""
    with caught(True, print):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--compiled", type=int, default=2)
    parser.add_argument("--saves", type=int, default=20)
    words = parser.parse_args()
    train = Batches({key: np.tile(x, (4, *[1] * (x.ndim - 1))) for key, x in _images(BATCH, 28, 1).items()}, BATCH)
    print(f"{jax.devices()[0].device_kind}; {words.compiled} x {words.pairs} pairs of turns")
    checks, steps = {}, {}
    for optimizer in OPTIMIZERS:
        whole, without = finite_check(train, optimizer, words.pairs, words.compiled)
        ratios = whole / without
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        error = 1.253 * ratios.std() / len(ratios) ** 0.5  # of a median of normal values
        checks[optimizer], steps[optimizer] = middle - 1, np.median(whole)
        print(f"{optimizer:9} {1e3 * steps[optimizer]:6.2f} ms per step, {1e3 * np.median(without):6.2f} ms without "
              f"the check; ratio {middle:.3f} +- {error:.3f}, quartiles {low:.3f} and {high:.3f}")  # fmt: skip
    worst, step = max(checks, key=checks.get), steps["adam"]
    blocked, sealed = saves(train, words.saves)
    costs = {
        f"finite check ({worst})": checks[worst],
        "checksums": sealed / INTERVAL / step,
        "signals": (each(agreed([]), 100_000) + each(set_handlers, 200) / INTERVAL) / step,
        "lock": each(take_lock, 200) / INTERVAL / step,
    }
    for name, cost in costs.items():
        print(f"{name:24}  {100 * cost:+.2f} % of a step")
    print(f"{'together':24}  {100 * sum(costs.values()):+.2f} %   (target 2 %)")
    print(f"a save blocks the loop for {1e3 * blocked:.1f} ms, {100 * blocked / (INTERVAL * step):.2f} % of the "
          f"{INTERVAL} steps between two saves   (target 5 %)")  # fmt: skip


if __name__ == "__main__":
    main()
