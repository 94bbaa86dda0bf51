import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxdl import core
from jaxdl.core import (
    AXIS,
    Learner,
    State,
    WeightedSum,
    axis_name,
    divide,
    make_update,
    mean_over_devices,
    weighted_mean,
    weighted_sum,
)
from jaxdl.optim import optimizer
from jaxdl.supervision import Supervised, supervised

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def on_devices(function, *args, devices=4):
    """Runs function on each of `devices` slices of args [devices * n, ...], as fit's pmap does."""
    split = [jnp.reshape(a, (devices, -1, *a.shape[1:])) for a in args]
    return jax.pmap(function, AXIS, devices=jax.devices()[:devices])(*split)


class TestDevices:
    def test_no_axis_outside_pmap(self):
        assert axis_name() is None
        assert jax.jit(lambda x: mean_over_devices(x))(jnp.float32(3)) == 3

    def test_average_over_devices(self):
        x = jnp.arange(8.0)
        np.testing.assert_array_equal(on_devices(lambda x: mean_over_devices(jnp.sum(x)), x), np.full(4, 28 / 4))


class TestTotals:
    def test_weighted_sum_by_hand(self):
        values = jnp.array([[1.0, 2, 3], [4, 5, 6]])
        assert weighted_sum(values, jnp.array([2.0, 0.5])) == WeightedSum(2 * 6 + 0.5 * 15, 3 * 2 + 3 * 0.5)
        assert weighted_sum(values, jnp.array([[1.0, 0, 1], [0, 0, 1]])) == WeightedSum(1 + 3 + 6, 3)
        assert weighted_sum(values) == WeightedSum(21, 6)

    def test_nan_in_padding_does_no_harm(self):
        assert weighted_sum(jnp.array([1.0, jnp.nan, 5]), jnp.array([1.0, 0, 1])) == WeightedSum(6, 2)

    def test_nan_in_padding_is_in_the_gradient_of_what_is_computed_before(self):
        x, where = jnp.array([1.0, 0]), jnp.array([1.0, 0])
        assert weighted_mean(jnp.log(x), where) == 0
        np.testing.assert_array_equal(jax.grad(lambda v: weighted_mean(v, where))(jnp.array([3.0, jnp.nan])), [1, 0])
        np.testing.assert_array_equal(jax.grad(lambda x: weighted_mean(jnp.log(x), where))(x), [1, jnp.nan])
        masked = lambda x: weighted_mean(jnp.log(jnp.where(where > 0, x, 1)), where)  # as the docstring advises
        np.testing.assert_array_equal(jax.grad(masked)(x), [1, 0])

    def test_bools_count_as_numbers(self):
        assert weighted_sum(jnp.array([True, False, True])) == WeightedSum(2, 3)

    def test_a_mask_of_another_shape_is_refused(self):
        with pytest.raises(AssertionError):
            weighted_sum(jnp.ones((3, 5)), jnp.ones(5))

    def test_mean_of_nothing_is_zero(self):
        assert weighted_mean(jnp.ones(3), jnp.zeros(3)) == 0

    def test_mean_over_devices_weighs_by_count(self):
        """Local means 1 (3 valid) and 9 (1 valid): their mean is 5, the mean over the global batch 3."""
        values, where = jnp.array([1.0, 1, 1, 9, 0, 0]), jnp.array([1.0, 1, 1, 1, 0, 0])
        result = on_devices(lambda v, w: mean_over_devices(weighted_mean(v, w)), values, where, devices=2)
        np.testing.assert_allclose(result, 3.0, rtol=1e-6)
        assert np.mean([1.0, 9.0]) != 3

    def test_means(self):
        assert divide({"a": WeightedSum(np.float64(6), np.float64(4))}) == {"a": 1.5}


class TestState:
    def state(self, step=0):
        return State.create(jax.random.key(3)).replace(step=jnp.int32(step))

    def data(self, key):
        return tuple(np.ravel(jax.random.key_data(key)).tolist())

    def test_a_step_never_meets_the_keys_that_init_split_off(self):
        root = jax.random.key(3)
        split = {self.data(k) for k in jax.random.split(root, 64)}
        steps = [self.state(t) for t in range(64)]
        drawn = {self.data(s.step_key()) for s in steps} | {self.data(s.step_key(shared=True)) for s in steps}
        drawn |= {self.data(jax.random.fold_in(s.key, s.step)) for s in steps}
        assert len(drawn) == 3 * 64
        assert not drawn & split

    def test_other_steps_other_keys_and_the_same_again(self):
        assert self.data(self.state(1).step_key()) == self.data(self.state(1).step_key())
        assert self.data(self.state(1).step_key()) != self.data(self.state(2).step_key())

    def test_keys_of_examples_do_not_depend_on_the_number_of_devices(self):
        state = self.state(5)
        alone = jax.random.key_data(state.example_keys(12))
        spread = on_devices(lambda _: jax.random.key_data(state.example_keys(3)), jnp.zeros(12))
        np.testing.assert_array_equal(np.reshape(spread, alone.shape), alone)

    def test_device_keys_differ_unless_shared(self):
        state = self.state(5)
        apart = on_devices(lambda _: jax.random.key_data(state.step_key()), jnp.zeros(4))
        shared = on_devices(lambda _: jax.random.key_data(state.step_key(shared=True)), jnp.zeros(4))
        assert len({tuple(k) for k in np.asarray(apart).tolist()}) == 4
        assert len({tuple(k) for k in np.asarray(shared).tolist()}) == 1

    def test_advance(self):
        moved = self.state(4).advance(key=jax.random.key(9))
        assert moved.step == 5
        assert moved.step.dtype == jnp.int32


class TestDescend:
    def test_one_step_by_hand(self):
        """loss (w - 3)^2 at w = 1: gradient -4, step 0.1: w = 1.4."""
        tx = optax.sgd(0.1)
        update = make_update(lambda w, target: ((w - target) ** 2, "aux"), tx)
        learner, aux = update(Learner.create(jnp.float32(1), tx), jnp.float32(3))
        np.testing.assert_allclose(learner.params, 1.4, rtol=1e-6)
        assert aux == "aux"

    def test_gradients_are_those_of_the_global_batch(self):
        tx, x = optax.sgd(1.0), jnp.arange(8.0)

        def moved(average):
            update = make_update(lambda w, x: (weighted_mean(w * x), None), tx, average=average)
            return np.asarray(on_devices(lambda x: update(Learner.create(jnp.float32(0), tx), x)[0].params, x))

        np.testing.assert_allclose(moved(core.mean_over_devices), -3.5)
        np.testing.assert_allclose(moved(None), [-0.5, -2.5, -4.5, -6.5])

    def test_a_line_search_gets_the_loss(self):
        tx = optax.lbfgs()
        update = jax.jit(
            make_update(lambda w: (jnp.sum((w - jnp.array([3.0, -1])) ** 2 * jnp.array([1.0, 50])), None), tx)
        )
        learner = Learner.create(jnp.zeros(2), tx)
        for _ in range(8):
            learner, _ = update(learner)
        np.testing.assert_allclose(learner.params, [3, -1], atol=1e-4)

    def test_count_weighs_accumulated_batches(self):
        tx = optimizer("sgd", 1.0, accumulate=2)
        update = make_update(lambda w, slope: (w * slope, None), tx)
        learner, _ = update(Learner.create(jnp.float32(0), tx), jnp.float32(1), count=jnp.float32(3))
        assert learner.params == 0
        learner, _ = update(learner, jnp.float32(5), count=jnp.float32(1))
        np.testing.assert_allclose(learner.params, -(3 * 1 + 1 * 5) / 4)


class Net(nn.Module):
    """Batch norm and dropout, for statistics and noise."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(7, use_bias=False)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        return nn.Dense(3)(x)


rng = np.random.default_rng(0)
BATCH = {"x": jnp.array(rng.normal(size=(11, 5)), jnp.float32), "y": jnp.array(rng.integers(3, size=11))}


class TestSupervised:
    def experiment(self, tx=None, net=None, **options):
        return supervised(
            net or Net(),
            tx or optimizer("sgd", 0.5),
            example=BATCH,
            loss=lambda logits, batch: cross_entropy(logits, batch["y"]),
            metrics=lambda logits, batch: {"accuracy": logits.argmax(-1) == batch["y"]},
            **options,
        )

    def test_step_by_hand(self):
        net, e = Net(), self.experiment()
        state = jax.jit(e.init)(jax.random.key(0))
        new, metrics = e.step(state, BATCH)

        def loss(params):
            variables = {"params": params, **state.stats}
            logits, stats = net.apply(variables, BATCH["x"], train=True, mutable=["batch_stats"])
            return jnp.mean(cross_entropy(logits, BATCH["y"])), stats

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state.learner.params)
        expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.learner.params, grads)
        for got, want in ((new.learner.params, expected), (new.stats, stats), (metrics["loss"], value)):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)
        assert set(metrics) == {"loss", "accuracy", "learning_rate"}
        assert metrics["learning_rate"] == 0.5
        assert isinstance(new, Supervised)
        assert new.step == 1

    @pytest.mark.parametrize(
        ("reduced", "told"),
        [({"loss": lambda z, b: jnp.mean(z)}, "^loss "),
         ({"metrics": lambda z, b: {"r2": jnp.mean(z)}}, "^the metric r2 ")],
    )  # fmt: skip
    @pytest.mark.parametrize("run", ["step", "evaluate"])
    def test_a_loss_that_is_reduced_already_says_so(self, reduced, told, run):
        options = {"loss": lambda z, b: cross_entropy(z, b["y"])} | reduced
        e = supervised(nn.Sequential([Flat()]), optimizer("sgd", 0.5), example=BATCH, **options)
        state = jax.eval_shape(e.init, jax.random.key(0))
        with pytest.raises(ValueError, match=rf"{told}.*\[B, ...\].*mean\(\)"):
            jax.eval_shape(getattr(e, run), state, BATCH | {"mask": jnp.ones(11)})

    def test_masked_rows_are_as_if_absent(self):
        e = self.experiment(net=nn.Sequential([Flat()]))
        state = jax.jit(e.init)(jax.random.key(0))
        mask = jnp.array([1.0] * 7 + [0.0] * 4)
        short, _ = e.step(state, {k: v[:7] for k, v in BATCH.items()})
        bad = BATCH | {"x": BATCH["x"].at[7:].set(1e6), "mask": mask}
        long, metrics = e.step(state, bad)
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6)
        jax.tree.map(close, short.learner.params, long.learner.params)
        sums = e.evaluate(state, bad)
        assert sums["loss"].weight == 7
        np.testing.assert_allclose(divide(sums)["loss"], metrics["loss"], rtol=1e-6)

    def test_weights_repeat_examples(self):
        """Weight 2 on a row equals the row twice."""
        e = self.experiment(net=nn.Sequential([Flat()]))
        state = jax.jit(e.init)(jax.random.key(0))
        twice = {k: jnp.concatenate([v, v[:1]]) for k, v in BATCH.items()}
        a, _ = e.step(state, twice)
        b, _ = e.step(state, BATCH | {"mask": jnp.ones(11).at[0].set(2.0)})
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6), a.learner.params, b.learner.params)

    @pytest.mark.claims
    def test_evaluation_has_no_noise_and_no_batch_statistics(self):
        e = self.experiment(net=Net(dropout=0.5))
        state = jax.jit(e.init)(jax.random.key(0))
        full = e.evaluate(state, BATCH | {"mask": jnp.ones(11)})
        halves = [e.evaluate(state, {k: v[s] for k, v in (BATCH | {"mask": jnp.ones(11)}).items()})
                  for s in (slice(0, 4), slice(4, 11))]  # fmt: skip
        added = jax.tree.map(lambda a, b: a + b, *halves)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), full, added)

    def test_dropout_changes_with_the_step_only(self):
        e = self.experiment(net=Net(dropout=0.5), tx=optax.sgd(0.0))
        state = jax.jit(e.init)(jax.random.key(0))
        one, again = e.step(state, BATCH)[1], e.step(state, BATCH)[1]
        other = e.step(state.replace(step=state.step + 1), BATCH)[1]
        assert one["loss"] == again["loss"] != other["loss"]
        assert "learning_rate" not in one

    def test_augmentation_is_for_training_alone_with_a_key_for_each_row(self):
        seen = []

        def augment(keys, batch):
            seen.append(keys.shape)
            return batch | {"x": batch["x"] + 100}

        e, plain = self.experiment(augment=augment), self.experiment()
        state = jax.jit(e.init)(jax.random.key(0))
        masked = BATCH | {"mask": jnp.ones(11)}
        assert e.evaluate(state, masked)["loss"] == plain.evaluate(state, masked)["loss"]
        moved, _ = e.step(state, BATCH)
        assert seen == [(11,)]
        expected, _ = plain.step(state, BATCH | {"x": BATCH["x"] + 100})
        moved, expected = moved.learner.params, expected.learner.params
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), moved, expected)


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3)(x)
