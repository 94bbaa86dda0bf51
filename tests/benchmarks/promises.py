"""What keeping the promises costs a run, and how long a save holds it up.

    python -m tests.benchmarks.promises [--pairs=50] [--compiled=2] [--saves=20]

The 32-64 CNN on batches of 128 random images of 28x28, one save every 50 steps. This machine's speed drifts
by a fifth within seconds, far more than is sought, so whole runs cannot be compared. Hence

    finite check   two compiled programs, the step as `fit` compiles it and the same without the check (not `guarded`,
                   and `make_update` keeps every update), take turns every 5 steps; the median over the pairs of turns,
                   of programs compiled anew several times, for each of four optimisers
    checksums      seconds within `seal` during a fit, all of them counted though they pass on another thread
    signals        the question that the loop asks once a call, and setting the handlers, once a run
    lock           taking it and giving it back, once a run

in parts of a step; what is paid once a run is spread over the 50 steps to the first save. The target is 2 % for all of
them together, with the optimiser for which the check costs most, and that a save holds the loop up for 5 % of the time
between two.

Under Adam the step with the check is the faster one on a CPU. There XLA writes the new parameters and both moments in
three loops that each read the old ones, so none of them can be written in place and all are copied first; the check
reads the new moments, which are then computed once, and the copies are gone.
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
    """The experiment."""
    return supervised(
        CNN(),
        RunConfig(optimizer=optimizer).make_optimizer(),
        example=train.example,
        loss=lambda logits, batch: softmax_cross_entropy(logits, batch["y"]),
    )


def turns(train, optimizer, checked):
    """() -> seconds a step of one turn."""
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
    """(seconds of a step [compiled * pairs], of one without the check), of neighbouring turns."""
    found = []
    for _ in range(compiled):
        both = turns(train, optimizer, True), turns(train, optimizer, False)
        for pair in range(pairs):
            order = (0, 1) if pair % 2 else (1, 0)  # who goes first alternates
            seconds = {which: both[which]() for which in order}
            found.append((seconds[0], seconds[1]))
    return np.array(found).T


def timed(seconds, function):
    """The function, which notes how long each call took."""

    def call(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    return call


def saves(train, count):
    """(seconds that a save holds the loop up, seconds in which its files are sealed), medians."""
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
    """Seconds of one call."""
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times


def take_lock():
    """Once a run."""
    with locked(Path(tempfile.gettempdir()) / f"promises-{threading.get_ident()}"):
        pass


def set_handlers():
    """Once a run."""
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
        error = 1.253 * ratios.std() / len(ratios) ** 0.5  # of a median, were they normal
        checks[optimizer], steps[optimizer] = middle - 1, np.median(whole)
        print(f"{optimizer:9} {1e3 * steps[optimizer]:6.2f} ms a step, {1e3 * np.median(without):6.2f} ms without the "
              f"check; ratio {middle:.3f} +- {error:.3f}, middle half {low:.3f} to {high:.3f}")  # fmt: skip
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
    print(f"a save holds the loop up for {1e3 * blocked:.1f} ms, {100 * blocked / (INTERVAL * step):.2f} % of the "
          f"{INTERVAL} steps between two   (target 5 %)")  # fmt: skip


if __name__ == "__main__":
    main()
