import re
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from jax import Array, lax
from jax.sharding import Mesh

from jaxdl.core import State, mean_over_devices
from jaxdl.data import Batches
from jaxdl.nn import MLP
from jaxdl.run.engine.feed import Feed
from jaxdl.run.engine.parallel import compile_steps, make_mesh, place_state
from jaxdl.run.profile import trace as module
from jaxdl.run.profile.cost import cost, matmul_rate
from jaxdl.run.profile.trace import difference, profiled, signature
from jaxdl.supervision import supervised

B, D, N = 4 * 13, 71, 53


class Linear(State):
    w: Array


def linear(state: Linear, batch: Any) -> tuple[Linear, dict[str, Array]]:
    x = batch["x"]
    return state.advance(w=state.w - mean_over_devices(x.T @ (x @ state.w))), {}


def recurrent(state: Linear, batch: Any) -> tuple[Linear, dict[str, Array]]:
    """Eleven products of a [B, D] with a [D, D] matrix in a loop of 11, and 3 in a loop of 3 inside one of 5."""
    v = state.w @ state.w.T / (D * N)  # a matrix of ones: its powers do not grow
    h, _ = lax.scan(lambda h, _: (h @ v, None), batch["x"], length=11)
    h, _ = lax.scan(lambda h, _: lax.scan(lambda h, _: (h @ v, None), h, length=3), h, length=5)
    return state.advance(w=state.w + mean_over_devices(jnp.mean(h))), {}


def prepared(step: Any, count: int, mesh: Mesh, parallel: str = "jit") -> tuple[Any, Any, Any]:
    """The compiled call, as `fit` makes it, a state and row numbers for `count` steps."""
    train = Batches({"x": np.random.default_rng(0).normal(size=(3 * B, D)).astype(np.float32) / 1e3}, B)
    state = Linear.create(jax.random.key(0), w=jnp.ones((D, N)))
    feed = Feed(train, mesh)
    call = compile_steps(step, state, mesh, parallel=parallel, take=feed.take)
    return partial(call.program, feed.arrays), place_state(state, mesh), lambda t: feed.rows(0, t, count)


def cost_of(step: Any, count: int, mesh: Mesh, parallel: str = "jit") -> Any:
    call, state, rows = prepared(step, count, mesh, parallel)
    traced = call.func.trace(*call.args, state, rows(0), count)
    return cost(traced, traced.lower().compile(), count)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("devices", "parallel"), [(1, "jit"), (4, "jit"), (4, "pmap")])
def test_the_count_of_a_step_is_that_of_its_products(count: int, devices: int, parallel: str) -> None:
    found = cost_of(linear, count, make_mesh(devices), parallel)
    checks = 5 * D * N * devices  # whether old and new weights are finite, and which of them are kept
    assert found.operations == pytest.approx(2 * 2 * B * D * N + checks, rel=0.08 if devices > 1 else 0.01)
    assert found.note == ""
    least = 4 * (B * D + 2 * D * N)  # the batch and the weights are read, the weights are written
    assert least < found.bytes < 20 * devices * least


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("devices", "parallel"), [(1, "jit"), (4, "pmap")])
def test_loops_in_a_step_are_told_of(count: int, devices: int, parallel: str) -> None:
    found = cost_of(recurrent, count, make_mesh(devices), parallel)
    once = 2 * N * D * D * devices  # w w^T, on every device
    assert found.operations == pytest.approx(once + 2 * 2 * B * D * D, rel=0.05)  # one iteration of 11 and one of 5 x 3
    assert "3 loops" in found.note


def test_the_count_of_an_mlp_is_that_by_hand() -> None:
    example = {"x": np.ones((B, D), np.float32), "y": np.ones((B, 11), np.float32)}
    loss = lambda outputs, batch: jnp.sum((outputs - batch["y"]) ** 2, axis=1)
    experiment = supervised(MLP((N, 11)), optax.sgd(0.1), example=example, loss=loss)
    state = jax.eval_shape(experiment.init, jax.random.key(0))
    call: Any = compile_steps(experiment.step, state, make_mesh(1), take=lambda arrays, rows: rows).program
    traced = call.trace((), state, jax.tree.map(lambda x: x[None], example), 1)
    # forward and gradient of both kernels; gradient of the hidden layer, none of the input
    by_hand = 2 * B * (2 * D * N + 3 * N * 11) + 2 * (D * N + N * 11)  # and whether gradient and weights are finite
    assert cost(traced, traced.lower().compile(), 1).operations == pytest.approx(by_hand, rel=0.06)


def test_the_rate_of_matrix_products() -> None:
    rate, width = matmul_rate(jax.devices()[:2], width=67, repeats=2)
    assert width == 67
    assert 1e6 < rate < 1e15


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(module, "log", said.append)
    monkeypatch.setattr(module, "matmul_rate", lambda devices: (1e9, 2048))
    return said


@pytest.mark.parametrize(("devices", "count"), [(1, 1), (1, 3), (4, 3)])
def test_a_profile_says_what_a_step_costs(lines: list[str], tmp_path: Path, devices: int, count: int) -> None:
    call, state, rows = prepared(recurrent, count, make_mesh(devices))
    with profiled(call, 5, tmp_path, first=7) as measured:
        for t in range(0, 24, count):
            state, _ = measured(state, rows(t))
    assert int(state.step) == 24
    time, operations, where = lines
    calls = -(-5 // count)
    steps = "1 step" if count == 1 else "3 steps"
    seconds = re.fullmatch(rf"profile: ([\d.]+) ([mu])s .* {calls} calls of {steps}, .*", time)
    assert seconds is not None
    rate = re.search(r"([\d.]+) Mflop and .*: .*, ([\d.]+)% of the 1 Gflop/s", operations)
    assert rate is not None
    step = float(seconds[1]) / {"m": 1e3, "u": 1e6}[seconds[2]]
    assert float(rate[2]) == pytest.approx(100 * float(rate[1]) * 1e6 / step / 1e9, rel=0.02)
    assert str(tmp_path / "profile") in where
    assert len(list(tmp_path.glob("profile/**/*.xplane.pb"))) == 1


def test_without_a_folder_a_temporary_one_is_used(lines: list[str], monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(module.tempfile, "mkdtemp", lambda prefix: str(tmp_path / prefix))
    call, state, rows = prepared(linear, 1, make_mesh(1))
    with profiled(call, 2, None) as measured:
        for t in range(5):
            state, _ = measured(state, rows(t))
    assert re.search(rf"trace of 2 .* {tmp_path}/jaxdl-profile-", lines[-1])


def test_nothing_is_wrapped_where_nothing_is_asked_for() -> None:
    call = partial(lambda arrays, state, rows: state, ())
    with profiled(call, 0, None) as same:
        assert same is call


def test_a_run_that_is_too_short_says_so(lines: list[str], tmp_path: Path) -> None:
    call, state, rows = prepared(linear, 3, make_mesh(1))
    with profiled(call, 9, tmp_path) as measured:
        for t in range(0, 9, 3):
            state, _ = measured(state, rows(t))
    (line,) = lines
    assert re.fullmatch("profile: 9 steps .* 9 .*--steps", line)


def test_a_run_that_fails_leaves_no_trace_open(lines: list[str], tmp_path: Path) -> None:
    call, state, rows = prepared(linear, 1, make_mesh(1))

    def run() -> None:
        nonlocal state
        with profiled(call, 3, tmp_path) as measured:
            for t in range(5):
                state, _ = measured(state, rows(t))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert lines == []
    jax.profiler.start_trace(str(tmp_path))
    jax.profiler.stop_trace()


def test_a_trace_ends_where_the_calls_change(lines: list[str], tmp_path: Path) -> None:
    call, state, rows = prepared(linear, 1, make_mesh(1))
    three = prepared(linear, 3, make_mesh(1))[2]
    with profiled(call, 4, tmp_path) as measured:
        for t in range(7):  # one compiles, 4 are timed, 2 traced
            state, _ = measured(state, rows(t))
        state, _ = measured(state, three(7))
    assert "trace of 2 " in lines[-2]
    assert lines[-1].startswith("profile: step 8 ")
    assert lines[-1].endswith(f": rows was int32[1,{B}], is int32[3,{B}]")


class Owner(struct.PyTreeNode):
    params: Any


class Tiny(struct.PyTreeNode):
    step: Any
    learner: Owner


def tiny(shape: tuple[int, ...], step: Any = np.int32(0), **more: Any) -> Tiny:  # noqa: B008
    return Tiny(step, Owner({"Dense_0": {"kernel": jnp.ones(shape)}} | more))


@pytest.mark.parametrize(
    ("second", "line"),
    [
        (tiny((7, 5)), "state.learner.params['Dense_0']['kernel'] was float32[3,5], is float32[7,5]"),
        (tiny((3, 5), np.int16(0)), "state.step was int32[], is int16[]"),
        (tiny((3, 5), 0), "state.step was int32[] (strong type), is int32[] (weak type)"),
        (tiny((3, 5), bias=jnp.ones(2)), "state.learner.params['bias'] was added"),
        (tiny((7, 5), np.int16(0)), "state.step was int32[], is int16[], and 1 more"),
    ],
)
def test_what_made_a_step_compile_again_is_named(lines: list[str], tmp_path: Path, second: Tiny, line: str) -> None:
    @jax.jit
    def call(arrays: Any, state: Any, rows: Any, count: int) -> Any:
        return jax.tree.map(lambda x: x + 1, state), {}

    with profiled(partial(call, ()), 1000, tmp_path, first=10) as measured:
        for state in (tiny((3, 5)), tiny((3, 5)), second, second, tiny((3, 5))):
            measured(state, np.zeros((1, 2), np.int32))
    assert lines[0].startswith("profile: step 13 ")
    assert lines[0].endswith(f": {line}")
    assert len(lines) == 2


def test_what_differs_is_told_apart() -> None:
    mesh = make_mesh(2)
    split = jax.device_put(jnp.ones((6, 5)), jax.NamedSharding(mesh, jax.P("devices")))
    whole = jax.device_put(jnp.ones((6, 5)), jax.NamedSharding(mesh, jax.P()))
    of = lambda x: signature(((), {"x": x}, 0))
    assert difference(of(whole), of(split)) == "state['x'] was float32[6,5] on P(), is float32[6,5] on P('devices',)"
    assert "no argument" in difference(of(whole), of(whole))
    assert "state['y']" in difference(signature(((), {"x": 1, "y": 2}, 0)), signature(((), {"x": 1}, 0)))


def test_a_run_on_several_devices_compiles_once(lines: list[str], tmp_path: Path) -> None:
    call, state, rows = prepared(linear, 1, make_mesh(4), "pmap")
    with profiled(call, 1000, tmp_path) as measured:
        for t in range(5):
            state, _ = measured(state, rows(t))
    (line,) = lines
    assert re.fullmatch("profile: 5 steps .* 1000 .*--steps", line)
