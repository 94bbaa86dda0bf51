"""R4: batch t is a function of (seed, t): from any position, the remaining batches are the same."""

import jax
import numpy as np
import pytest

from jaxdl.data import Batches, split, streams, windows
from jaxdl.run.engine.feed import Feed
from jaxdl.run.engine.parallel import make_mesh

LENGTH, BATCH, SEEDS = 47, 6, (0, 3)
TOKENS = np.random.default_rng(5).integers(11, size=211, dtype=np.int32)


def table(length=LENGTH, batch_size=BATCH):
    rng = np.random.default_rng(1)
    return Batches({"x": rng.normal(size=(length, 5)), "y": rng.integers(3, size=length)}, batch_size)


PIPELINES = {
    "shuffled rows": table,
    "windows of a text": lambda: windows(TOKENS, 7, BATCH),
    "streams of a text": lambda: streams(TOKENS, 7, 4),
}


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_rest_is_the_same_from_every_position(name, promise):
    """A fresh pipeline, read at t = 0, 1, ... beyond three epochs, forwards and backwards."""
    steps = 3 * -(-LENGTH // BATCH) + 2
    passed = 0
    for seed in SEEDS:
        whole = PIPELINES[name]()
        expected = [whole.batch(seed, t) for t in range(steps)]
        for position in range(steps):
            resumed = PIPELINES[name]()
            rest = [resumed.batch(seed, t) for t in range(position, steps)]
            back = [resumed.batch(seed, t) for t in reversed(range(position, steps))]
            passed += all(map(equal, rest, expected[position:])) and all(map(equal, back[::-1], expected[position:]))
    promise("R4", passed, steps * len(SEEDS), f"positions of {name}, seeds {list(SEEDS)}")


def test_other_seeds_give_other_orders():
    first = [PIPELINES["shuffled rows"]().batch(seed, 0)["x"] for seed in range(5)]
    assert all((a != b).any() for i, a in enumerate(first) for b in first[:i])


@pytest.mark.parametrize("devices", [1, 2])
def test_rows_do_not_depend_on_how_steps_are_grouped(devices, promise):
    """The input of a call of several steps equals the inputs of calls of one step, in order."""
    train = {"a": table(), "b": windows(TOKENS, 7, 10)}
    feed, steps, passed, tried = Feed(train, make_mesh(devices)), 30, 0, 0
    one = [jax.tree.map(lambda x: x[0], feed.rows(3, t, 1)) for t in range(steps)]
    for count in (1, 2, 3, 5, 7, 16):
        for t in range(steps - count):
            rows = Feed(train, make_mesh(devices)).rows(3, t, count) if t % 7 == 0 else feed.rows(3, t, count)
            tried += 1
            passed += all(equal(jax.tree.map(lambda x, i=i: x[i], rows), one[t + i]) for i in range(count))
    promise("R4", passed, tried, f"groupings, {devices} devices, seed 3")


@pytest.mark.full
@pytest.mark.parametrize("batch_size", [1, 6, 47, 50, 101])
@pytest.mark.parametrize("kind", ["rows", "split", "windows", "far windows", "streams"])
def test_every_format(kind, batch_size, promise):
    """Every source of batches, batch sizes below and above the length, 200 random distant positions, 10 seeds."""

    def make():
        if kind == "rows":
            return table(batch_size=batch_size)
        if kind == "split":
            return Batches(split(table().arrays, 0.3, 1)[0], batch_size)
        if kind == "streams":
            return streams(TOKENS, 2, batch_size)
        return windows(TOKENS, 7, batch_size, stride=1 if kind == "windows" else 7)

    draw, passed, used = np.random.default_rng(0), 0, make()
    for _ in range(200):
        seed, t = int(draw.integers(10)), int(draw.integers(100_000))
        passed += equal(used.batch(seed, t), make().batch(seed, t))
    promise("R4", passed, 200, f"positions of {kind}, batches of {batch_size}, draws of seed 0")
