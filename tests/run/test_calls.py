"""Compiled calls of several steps, and what several processes agree on between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.core import State
from jaxdl.run.engine import parallel
from jaxdl.run.engine.parallel import ASKED, agreed, compile_steps, make_mesh, place_state


class Sum(State):
    """The sum of all rows so far."""

    w: jax.Array


def step(state, batch):
    return state.advance(w=state.w + batch.sum()), {"rows": batch.sum()}


@pytest.mark.parametrize("how", ["jit", "pmap", "fsdp"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_call_does_all_its_steps_and_gives_the_old_state_away(length, how):
    mesh = make_mesh(2)
    state = place_state(Sum.create(jax.random.key(0), w=jnp.zeros(())), mesh, how)
    rows = np.arange(1.0, 4 * length + 1, dtype=np.float32).reshape(length, 4)
    call = compile_steps(step, state, mesh, parallel=how, take=lambda arrays, rows: rows)
    new, metrics = call({}, state, rows)
    parts = 2 if how == "pmap" else 1  # the mean over two devices of the sums of their halves
    assert int(new.step) == length
    assert metrics["rows"].shape == (length,)
    np.testing.assert_allclose(metrics["rows"], rows.sum(1) / parts)
    if how != "pmap":
        assert float(new.w) == rows.sum()
        assert state.w.is_deleted()


def test_processes_agree_on_the_signal_that_reached_one_of_them(monkeypatch):
    asked = []

    def gather(mine):
        asked.append(int(mine))
        return np.array([mine, 15 if len(asked) > 1 else 0])

    monkeypatch.setattr(parallel.jax, "process_count", lambda: 2)
    monkeypatch.setattr(parallel.multihost_utils, "process_allgather", gather)
    stop = agreed([])
    assert [stop() for _ in range(3 * ASKED)] == [0] * ASKED + [15] * 2 * ASKED
    assert asked == [0, 0]  # at the first time, ASKED later, and no more once it is known


def test_one_process_asks_nobody():
    arrived = []
    stop = agreed(arrived)
    assert stop() == 0
    arrived.append(2)
    assert stop() == 2
