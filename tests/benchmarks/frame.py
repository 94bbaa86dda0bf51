"""Overhead of the framework: steps per second of `jaxdl.run.fit` relative to a plain jitted optax loop.

    python -m tests.benchmarks.frame [--steps=2000] [--rounds=5]

Both train the same network with Adam on the same batches of 28x28 images of random pixels; `fit` also writes its log,
checkpoints and TensorBoard events. The two alternate, and the ratio is the median over the rounds. The plain loop keeps
arrays on the host, gathers batches with NumPy, donates the state to one jitted step and reads no metric.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time

import jax
import numpy as np
import optax

from jaxdl.data import Batches
from jaxdl.losses import softmax_cross_entropy
from jaxdl.nn import CNN, MLP
from jaxdl.run import RunConfig, fit
from jaxdl.supervision import supervised

BATCH = 128


def bare(model, arrays, order, steps):
    """Returns steps per second of a hand-written loop."""
    tx = optax.adam(1e-3)
    params = model.init(jax.random.key(0), arrays["x"][:1])

    def loss_fn(params, x, y):
        return softmax_cross_entropy(model.apply(params, x, train=True), y).mean()

    def step(params, opt_state, x, y):
        loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    step = jax.jit(step, donate_argnums=(0, 1))
    opt_state = tx.init(params)
    for t in range(2 * steps):
        if t == steps:
            jax.block_until_ready(params)
            start = time.perf_counter()
        rows = order(0, t)
        params, opt_state, _ = step(params, opt_state, arrays["x"][rows], arrays["y"][rows])
    jax.block_until_ready(params)
    return steps / (time.perf_counter() - start)


def framed(model, train, steps, folder):
    """Returns steps per second of `fit`, including everything that it writes."""
    config = RunConfig(steps=2 * steps, eval_every=steps, batch_size=BATCH, progress=False)
    config = dataclasses.replace(config, workdir=folder) if folder else config
    experiment = supervised(
        model,
        config.make_optimizer(),
        example=train.example,
        loss=lambda logits, batch: softmax_cross_entropy(logits, batch["y"]),
    )
    return fit(experiment, train, config).steps_per_second


def main():
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=2000, help="timed steps of the MLP; the CNN makes a tenth of them")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    arrays = {"x": rng.random((6000, 28, 28, 1), np.float32), "y": rng.integers(10, size=6000).astype(np.int32)}
    train = Batches(arrays, BATCH)
    print(f"{'model':22} {'bare steps/s':>13} {'fit steps/s':>12} {'fit/bare':>9} {'in memory only':>15}")
    for name, model, steps in (
        ("MLP 784-128-10", MLP((128, 10)), args.steps),
        ("CNN 32-64", CNN(), args.steps // 10),
    ):
        rows = []
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory() as folder:
                plain = bare(model, arrays, train.order, steps)
                rows.append((plain, framed(model, train, steps, folder), framed(model, train, steps, "")))
        middle = statistics.median
        ratios = middle(f / b for b, f, _ in rows), middle(m / b for b, _, m in rows)
        print(f"{name:22} {middle(b for b, _, _ in rows):13.0f} {middle(f for _, f, _ in rows):12.0f} "
              f"{ratios[0]:9.3f} {ratios[1]:15.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
