"""What keeping the promises costs: a step of `jaxdl.run.fit` with and without its safeguards, and what a save blocks.

    python -m tests.benchmarks.promises [--steps=100] [--rounds=5] [--seconds=90]

The 32-64 CNN under Adam on batches of 128 random images of 28x28, one save every 50 steps. Variants are compiled once
and take turns, each in a different order every round; figures are medians over the rounds. A variant lacks one thing:

    finite check    the step is not `guarded`, and `descend` keeps every update
    checksums       no seal is written and none is compared
    lock            the folder is not locked: once a run, shown as if the run had --steps steps
    signals         no handler is set

The target is 2 % of a step for all of them together, and that a save holds the loop up for 5 % of the interval.
"""

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import supervised
from jaxdl.data import Batches
from jaxdl.losses import softmax_cross_entropy
from jaxdl.nn import CNN
from jaxdl.run import RunConfig, fit
from jaxdl.run.checkpoint import Checkpoints
from jaxdl.run.lock import locked
from tests.benchmarks.batches import _images

BATCH, INTERVAL = 128, 50


@contextlib.contextmanager
def nobody(active):
    """In place of `caught`: no signal ever arrives."""
    yield []


def plain(step):
    """In place of `guarded`."""
    return step


def first_fault(value, grads):
    """In place of the sums over gradients: nothing is ever wrong, and XLA removes what depends on it."""
    return jnp.zeros((), jnp.int32)


VARIANTS = {
    "all": [],
    "finite check": [("jaxdl.run.parallel.guarded", plain), ("jaxdl.core._first_fault", first_fault),
                     ("jaxdl.core.keep", lambda good, new, old: new)],
    "checksums": [("jaxdl.run.checkpoint.seal", lambda folder: None),
                  ("jaxdl.run.checkpoint.verify", lambda folder: None)],
    "signals": [("jaxdl.run.loop.caught", nobody)],
    "lock": [],
}  # fmt: skip
VARIANTS["none"] = [patch for patches in VARIANTS.values() for patch in patches]


class Clock:
    """Time inside a function, added up."""

    def __init__(self, function) -> None:
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __get__(self, instance, owner):
        return lambda *args: self(instance, *args)

    def __call__(self, *args):
        start = time.perf_counter()
        try:
            return self.function(*args)
        finally:
            self.seconds, self.calls = self.seconds + time.perf_counter() - start, self.calls + 1


def run(variant, train, steps):
    """(seconds a step, seconds that one save blocks) of a fit in a new folder; the first interval, which compiles, is
    left out."""
    config = RunConfig(steps=steps + INTERVAL, eval_every=INTERVAL, log_every=INTERVAL,
                       batch_size=BATCH, progress=False, tensorboard=False, devices=1)  # fmt: skip
    clock = Clock(Checkpoints.save)
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        for name, value in VARIANTS[variant]:
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(mock.patch("jaxdl.run.loop.save_figure"))
        stack.enter_context(mock.patch.object(Checkpoints, "save", clock))
        if variant not in ("lock", "none"):
            stack.enter_context(locked(Path(folder)))
        experiment = supervised(
            CNN(),
            config.make_optimizer(),
            example=train.example,
            loss=lambda logits, batch: softmax_cross_entropy(logits, batch["y"]),
        )
        result = fit(experiment, train, None, dataclasses.replace(config, workdir=str(Path(folder) / "fit")))
    return 1 / result.steps_per_second, clock.seconds / clock.calls


def lock_seconds(times=200):
    """Taking and giving back a lock."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for _ in range(times):
            with locked(Path(folder)):
                pass
        return (time.perf_counter() - start) / times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=90, help="begin no further round after these")
    words = parser.parse_args()
    begun = time.monotonic()
    train = Batches({key: np.tile(x, (4, *[1] * (x.ndim - 1))) for key, x in _images(BATCH, 28, 1).items()}, BATCH)
    names = list(VARIANTS)
    step, block = ({name: [] for name in names} for _ in range(2))
    for r in range(words.rounds):
        if r and (time.monotonic() - begun) * (r + 1) / r > words.seconds:
            break
        for name in itertools.islice(itertools.cycle(names), r, r + len(names)):
            seconds, blocked = run(name, train, words.steps)
            step[name].append(seconds)
            block[name].append(blocked)
    whole = statistics.median(step["all"])
    print(
        f"{jax.devices()[0].device_kind}, {words.steps} steps, {len(step['all'])} rounds; a step {1e3 * whole:.2f} ms"
    )
    print("without          ms a step   cost, median and range over the rounds")
    for name in names[1:]:
        costs = sorted(100 * (a - b) / b for a, b in zip(step["all"], step[name], strict=True))
        print(f"{name:15}  {1e3 * statistics.median(step[name]):9.2f}   {statistics.median(costs):+.1f} % "
              f"({costs[0]:+.1f} to {costs[-1]:+.1f} %)")  # fmt: skip
    blocked = statistics.median(block["all"])
    print(f"a lock: {1e6 * lock_seconds():.0f} us, once a run")
    print(f"a save holds the loop up for {1e3 * blocked:.1f} ms, {100 * blocked / (INTERVAL * whole):.1f} % of the "
          f"{INTERVAL} steps between two")  # fmt: skip


if __name__ == "__main__":
    main()
