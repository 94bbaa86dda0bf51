"""A loss or gradient that is not finite is detected in the compiled step and changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl.core import Experiment, Learner, State, make_update
from jaxdl.data import Batches
from jaxdl.guard import fault_name, guarded, learners, raise_fault
from jaxdl.run import Diverged, RunConfig, fit
from jaxdl.run.store.checkpoint import Checkpoints
from tests.budget import first

STEPS, ROWS = 23, 6


class Two(State):
    """Two learners, one after the other."""

    first: Learner
    second: Learner
    seen: jax.Array


def experiment():
    """Losses mean(w x) + sqrt(z b): finite at z = 0, where the gradient of b is 0 / 0."""
    tx = optax.adam(0.01)

    def loss(params, x, z):
        return jnp.mean(params["w"] * x) ** 2 + jnp.sqrt(z.mean() * params["b"]), ()

    update = make_update(loss, tx)

    def init(key):
        learner = lambda: Learner.create({"w": jnp.ones(()), "b": jnp.ones(())}, tx)
        return Two.create(key, first=learner(), second=learner(), seen=jnp.zeros((), jnp.int32))

    def step(state, batch):
        first, _ = update(state.first, batch["x1"], batch["z1"])
        second, _ = update(state.second, batch["x2"], batch["z2"])
        return state.advance(first=first, second=second, seen=state.seen + 1), {"loss": first.params["w"]}

    return Experiment(init, step)


def data(at=None, field=None, value=0.0):
    """Batch t is rows t R ... of arrays of ones; `field` is `value` in one row of batch `at`."""
    arrays = {name: np.ones(STEPS * ROWS, np.float32) for name in ("x1", "z1", "x2", "z2")}
    if field:
        arrays[field][at * ROWS : (at + 1) * ROWS] = value
    order = lambda seed, t: np.arange(t * ROWS, (t + 1) * ROWS, dtype=np.int32)
    return Batches(arrays, ROWS, order)


FAULTS = [
    ("x1", np.nan, "the loss of learner 0"),
    ("z1", 0.0, "the gradient of b of learner 0"),
    ("x2", np.inf, "the loss of learner 1"),
    ("z2", 0.0, "the gradient of b of learner 1"),
]


WAYS = [("pmap", 4, 2), ("jit", 1, 7), ("jit", 16, 19)]
ALL_WAYS = [(parallel, scan, at) for parallel in ("jit", "pmap", "fsdp") for scan in (1, 4, 16) for at in range(STEPS)]
OTHERS = [pytest.param(*way, marks=pytest.mark.full) for way in ALL_WAYS if way not in WAYS][::2]


@pytest.mark.parametrize(("parallel", "scan", "at"), [*first(WAYS), *OTHERS])
@pytest.mark.parametrize(("field", "value", "name"), FAULTS)
def test_the_run_ends_naming_step_and_leaf_and_no_checkpoint_holds_it(tmp_path, field, value, name, at, parallel, scan):
    config = RunConfig(steps=STEPS, parallel=parallel, scan=scan, devices=2, workdir=str(tmp_path), progress=False,
                       tensorboard=False, checkpoint_every=1 if scan == 1 else scan)  # fmt: skip
    with pytest.raises(Diverged, match=rf"^{name} is not finite at step {at + 1}; .*--learning_rate"):
        fit(experiment(), data(at, field, value), config)
    saved = Checkpoints(tmp_path / "checkpoints", write=False)
    step, state = saved.restore(jax.jit(experiment().init)(jax.random.key(0))) or (0, None)
    saved.close()
    assert step == at // scan * scan if scan > 1 else step == at
    assert state is None or all(int(learner.fault) == 0 for learner in learners(state))


@pytest.mark.parametrize(("field", "value", "name"), FAULTS)
def test_calls_in_flight_change_nothing(field, value, name):
    e, broken, whole = experiment(), data(7, field, value), data()
    step = jax.jit(guarded(e.step))
    state = before = jax.jit(e.init)(jax.random.key(3))
    for t in range(7):
        state, metrics = step(state, whole.batch(0, t))
        assert int(metrics["fault"]) == 0
        assert int(state.step) == int(state.seen) == t + 1
    before = jax.device_get(state.replace(key=None))
    for t in range(7, 11):  # the batches after the broken one are good
        state, metrics = step(state, broken.batch(0, t))
        assert fault_name(state, int(metrics["fault"])) == name
    faults = [int(learner.fault) for learner in learners(state)]
    assert sorted(faults) == [0, 1 if name.startswith("the loss") else 2]  # leaf 1 of the gradient is b
    after = jax.device_get(state.replace(key=None))
    clear = lambda s: s.replace(first=s.first.replace(fault=0), second=s.second.replace(fault=0))
    jax.tree.map(np.testing.assert_array_equal, clear(after), clear(before))


def test_of_two_faults_in_one_step_the_first_is_named():
    first, second = data(0, "z1", 0.0), data(0, "x2", np.inf)
    batch = first.batch(0, 0) | {"x2": second.batch(0, 0)["x2"]}
    e = experiment()
    state, metrics = jax.jit(guarded(e.step))(e.init(jax.random.key(3)), batch)
    assert fault_name(state, int(metrics["fault"])) == "the gradient of b of learner 0"
    assert [int(learner.fault) for learner in learners(state)] == [2, 1]


def test_one_learner_is_not_numbered_and_none_is_no_fault():
    learner = Learner.create({"Dense_0": {"kernel": jnp.ones((3, 5))}}, optax.sgd(1.0))
    assert fault_name({"learner": learner}, 1) == "the loss"
    assert fault_name({"learner": learner}, 2) == "the gradient of Dense_0.kernel"
    count = guarded(lambda state, batch: (state + 1, {"loss": batch}))
    assert set(count(jnp.ones((), jnp.int32), jnp.nan)[1]) == {"loss", "fault"}


class TestWhatIsKept:
    """Loss and gradient are finite, but the new parameters or moments are not."""

    def after(self, tx, x):
        update = make_update(lambda w, x: (jnp.sum(w * x), ()), tx)
        return jax.jit(update)(Learner.create(jnp.ones(3), tx), jnp.full(3, x))[0]

    @pytest.mark.parametrize(
        ("tx", "x", "name"),
        [
            (optax.sgd(3e38), 7.0, "the parameter  after the update"),
            (optax.adam(1e-3), 1e20, "the optimiser's 0.nu"),
            (optax.sgd(1e-3, momentum=0.9, accumulator_dtype=jnp.float16), 1e5, "the optimiser's 0.trace"),
        ],
    )
    def test_a_parameter_or_moment_that_overflows_is_not(self, tx, x, name):
        learner = self.after(tx, x)
        with pytest.raises(FloatingPointError, match=name):
            raise_fault(learner)
        fresh = Learner.create(jnp.ones(3), tx)
        jax.tree.map(np.testing.assert_array_equal, learner.replace(fault=fresh.fault), fresh)

    def test_an_optimiser_may_begin_with_an_infinite_number(self):
        tx = optax.chain(optax.sgd(0.5), optax.contrib.reduce_on_plateau())
        learner = self.after(tx, 1.0)
        raise_fault(learner)
        np.testing.assert_array_equal(learner.params, np.full(3, 0.5, np.float32))

    def test_large_and_finite_is_no_fault(self):
        tx = optax.adam(1e-3)
        update = make_update(lambda w, x: (jnp.sum(w * x) / 1e9, ()), tx)
        learner, _ = jax.jit(update)(Learner.create(jnp.ones(100_003), tx), jnp.full(100_003, 1e27))
        raise_fault(learner)
        assert float(learner.opt_state[0].nu[0]) > 1e32

    def test_arrays_outside_of_learners(self):
        step = guarded(lambda state, batch: ({"mask": state["mask"], "mean": state["mean"] * batch}, {}))
        state = {"mask": jnp.array([0.0, -jnp.inf]), "mean": jnp.full(5, 1e30)}
        new, metrics = jax.jit(step)(state, jnp.float32(2))
        assert (int(metrics["fault"]), float(new["mean"][0])) == (0, np.float32(2e30))
        new, metrics = jax.jit(step)(state, jnp.float32(1e30))
        assert fault_name(state, int(metrics["fault"])) == "the state's mean"
        np.testing.assert_array_equal(new["mean"], state["mean"])


def test_a_learner_stops_by_itself_without_the_guard():
    update = make_update(lambda w, x: (w * x, ()), optax.sgd(0.5))
    learner = Learner.create(jnp.float32(3), optax.sgd(0.5))
    learner, _ = update(learner, jnp.float32(jnp.inf))
    learner, _ = update(learner, jnp.float32(1))
    assert (float(learner.params), int(learner.fault)) == (3.0, 1)


def test_a_loop_without_the_guard_is_told():
    e, broken, whole = experiment(), data(0, "z2", 0.0), data()
    state, _ = e.step(e.init(jax.random.key(3)), whole.batch(0, 0))
    raise_fault(state)
    state, _ = e.step(state, broken.batch(0, 0))
    with pytest.raises(FloatingPointError, match=r"^the gradient of b of learner 1 is not finite"):
        raise_fault(state)


def test_learners_of_several_seeds_are_all_asked():
    learner = Learner.create({"w": jnp.ones(())}, optax.sgd(1.0))
    several = jax.tree.map(lambda x: jnp.stack([x, x, x]), learner)
    raise_fault(several)
    with pytest.raises(FloatingPointError, match=r"^the gradient of w is not finite"):
        raise_fault(several.replace(fault=jnp.int32([0, 0, 2])))
