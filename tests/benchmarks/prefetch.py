"""Gain of prefetching: training from a slow source with and without the thread that fetches ahead.

    python -m tests.benchmarks.prefetch [--milliseconds=20] [--steps=100] [--rounds=3]

`train[t]` sleeps for the given number of milliseconds, like a slow disk or network, and then copies its rows. The width
of the network makes a step about as long on two cores. "memory" has the same batches in memory with one step per call,
so its time is that of the step. The three variants alternate; each result is the median over the rounds.
"""

import argparse
import statistics
import time

import numpy as np

from jaxdl.data import Batches
from jaxdl.losses import softmax_cross_entropy
from jaxdl.nn import MLP
from jaxdl.run import RunConfig, fit
from jaxdl.run.engine import ahead
from jaxdl.supervision import supervised

BATCH = 256


class Slow:
    """Data whose batches take a fixed time to fetch."""

    def __init__(self, rows, seconds):
        self.rows, self.seconds = rows, seconds

    def __getitem__(self, t):
        time.sleep(self.seconds)
        return self.rows.batch(0, t)


def main():
    """Prints milliseconds a step and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--milliseconds", type=float, default=20, help="time to fetch a batch")
    parser.add_argument("--steps", type=int, default=100, help="timed steps, after as many steps of warm-up")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    arrays = {"x": rng.random((4096, 784), np.float32), "y": rng.integers(10, size=4096).astype(np.int32)}
    memory = Batches(arrays, BATCH)
    slow = Slow(memory, args.milliseconds / 1000)
    config = RunConfig(steps=2 * args.steps, eval_every=args.steps, progress=False, scan=1)
    experiment = supervised(
        MLP((896, 896, 10)),
        config.make_optimizer(),
        example=memory.example,
        loss=lambda logits, batch: softmax_cross_entropy(logits, batch["y"]),
    )
    most = ahead.AHEAD
    variants = {"memory": (memory, most), "without": (slow, 0), "with": (slow, most)}
    found = {name: [] for name in variants}
    for _ in range(args.rounds):
        for name, (train, batches) in variants.items():
            ahead.AHEAD = batches
            found[name].append(1000 / fit(experiment, train, config).steps_per_second)
    ahead.AHEAD = most
    middle = {name: statistics.median(times) for name, times in found.items()}
    print(f"{args.milliseconds:g} ms per batch; ms per step: " + ", ".join(f"{k} {v:.1f}" for k, v in middle.items()))
    print(f"without/with {middle['without'] / middle['with']:.2f}")


if __name__ == "__main__":
    main()
