import collections
import dataclasses
import gc
import itertools
import math
import os
import re
import shutil
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import struct
from flax.core import FrozenDict

from jaxdl.core import Experiment, Learner, State, WeightedSum, make_update, weighted_mean, weighted_sum
from jaxdl.data import Batches, Data
from jaxdl.run import Diverged, FlagError, Interrupted, RunConfig, benchmark, compiled, fit, map_batches
from jaxdl.run.engine import training
from jaxdl.run.engine.parallel import COMPILED, compile_steps, make_mesh
from jaxdl.run.engine.plan import cadence
from jaxdl.run.engine.training import Training
from jaxdl.run.show.report import CLOCK
from jaxdl.run.store import checkpoint, history
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.supervision import supervised
from tests.budget import first
from tests.test_shapes_of_experiments import leaves

rng = np.random.default_rng(0)
X = rng.normal(size=(71, 5)).astype(np.float32)
Y = (X @ rng.normal(size=5) > 0).astype(np.int32)
TRAIN, VALID = Batches({"x": X[:53], "y": Y[:53]}, 8), Batches({"x": X[53:], "y": Y[53:]}, 8)
BASE = RunConfig(steps=20, progress=False, tensorboard=False, devices=1, log_every=1, eval_every=5)


class Both(struct.PyTreeNode):
    left: Any
    right: Any
    name: str = struct.field(pytree_node=False, default="static")


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(2)(nn.relu(nn.Dense(7)(x)))


def make(config=BASE):
    return supervised(
        Net(),
        config.make_optimizer(),
        example=TRAIN.example,
        loss=lambda logits, b: optax.softmax_cross_entropy_with_integer_labels(logits, b["y"]),
        metrics=lambda logits, b: {"accuracy": logits.argmax(-1) == b["y"]},
    )


def same(a, b):
    a, b = leaves(a), leaves(b)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


def rows(history):
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in history]


def with_dir(config, folder, **changes):
    return dataclasses.replace(config, workdir=str(folder), **changes)


class TestWithoutFolder:
    def test_equals_a_plain_loop(self):
        e = make()
        state = jax.jit(e.init)(jax.random.key(0))
        for t in range(20):
            state, metrics = jax.jit(e.step)(state, TRAIN.batch(0, t))
        result = fit(e, Data(TRAIN, VALID), dataclasses.replace(BASE, scan=1))
        assert same(result.state, state)
        assert result.history[-2]["train/loss"] == float(metrics["loss"])
        logits = Net().apply(state.variables, X[53:])
        assert result.metrics["accuracy"] == pytest.approx(float((logits.argmax(-1) == Y[53:]).mean()))

    @pytest.mark.parametrize("scan", first([3, 16, 1]))
    def test_steps_per_call_change_nothing(self, scan):
        result = fit(make(), Data(TRAIN, VALID), dataclasses.replace(BASE, scan=scan))
        reference = fit(make(), Data(TRAIN, VALID), dataclasses.replace(BASE, scan=5))
        assert [row["step"] for row in result.history] == [row["step"] for row in reference.history]
        for a, b in zip(rows(result.history), rows(reference.history), strict=True):
            assert a == pytest.approx(b, rel=1e-5)

    def test_every_logged_step_is_there_once(self):
        history = fit(make(), Data(TRAIN, VALID), BASE).history
        assert [r["step"] for r in history if "train/loss" in r] == list(range(1, 21))
        assert [r["step"] for r in history if "valid/loss" in r] == [5, 10, 15, 20]

    def test_the_caller_keeps_its_state(self):
        first = fit(make(), Data(TRAIN, VALID), BASE)
        again = fit(make(), Data(TRAIN, VALID), BASE, state=first.state)
        assert int(again.state.step) == 40
        assert again.history[0]["step"] == 21
        assert np.isfinite(first.metrics["loss"])
        assert np.isfinite(np.asarray(jax.tree.leaves(first.state.learner.params)[0])).all(), "not donated"

    @pytest.mark.claims
    def test_the_configured_learning_rate_wins_over_that_of_a_given_state(self):
        other = dataclasses.replace(BASE, learning_rate=0.03)
        start = jax.jit(make().init)(jax.random.key(0))
        result = fit(make(other), Data(TRAIN, VALID), other, state=start)
        assert same(result.state, fit(make(other), Data(TRAIN, VALID), other).state)
        assert result.curve("train/learning_rate")[1] == [pytest.approx(0.03)] * 20

    def test_runs_that_differ_in_the_learning_rate_alone_share_their_programs(self):
        def programs(rate):
            e = make(dataclasses.replace(BASE, learning_rate=rate, schedule="cosine", warmup=3))
            init, like = jax.make_jaxpr(e.init, return_shape=True)(jax.random.key(0))
            step = compile_steps(e.step, like, make_mesh(1), take=lambda arrays, rows: rows)
            batch = jax.tree.map(lambda x: x[None], TRAIN.batch(0, 0))
            return str(init), float(init.consts[-1]), step.program.lower((), like, batch, 1).as_text()

        one, other = programs(0.1), programs(0.2)
        assert (one[0], one[2]) == (other[0], other[2])
        assert (one[1], other[1]) == pytest.approx((0.1, 0.2))

    def test_seeds(self):
        result = fit(make(), Data(TRAIN, VALID), dataclasses.replace(BASE, seed=3, seeds=2))
        alone = fit(make(), Data(TRAIN, VALID), dataclasses.replace(BASE, seed=4))
        assert same(result.runs[1].state, alone.state)
        assert not same(result.runs[0].state, result.runs[1].state)
        assert result.values("loss") == [run.metrics["loss"] for run in result.runs]
        assert result.metrics["loss"] == pytest.approx(np.mean(result.values("loss")))

    @pytest.mark.claims
    def test_the_seed_orders_the_batches(self):
        e = make()
        spy = e._replace(step=lambda state, batch: (e.step(state, batch)[0], {"loss": batch["x"].sum()}))
        for seed in (0, 3):
            seen = fit(spy, Data(TRAIN, VALID), dataclasses.replace(BASE, seed=seed)).curve("train/loss")[1]
            expected = [float(TRAIN.batch(seed, t)["x"].sum()) for t in range(20)]
            assert seen == pytest.approx(expected, rel=1e-4, abs=1e-4)

    def test_several_validation_sets(self):
        result = fit(make(), Data(TRAIN, {"a": VALID, "b": TRAIN}), BASE)
        assert set(result.metrics) == {"a/loss", "a/accuracy", "b/loss", "b/accuracy"}

    def test_each_set_takes_its_own_rows(self):
        first_half = Batches(
            VALID.arrays, 8, take=lambda arrays, rows: {k: v[rows] for k, v in arrays.items()}, length=9
        )
        last_half = Batches(
            VALID.arrays, 8, take=lambda arrays, rows: {k: v[rows + 9] for k, v in arrays.items()}, length=9
        )
        parts = fit(make(), Data(TRAIN, {"first": first_half, "last": last_half}), BASE).metrics
        whole = fit(make(), Data(TRAIN, VALID), BASE).metrics
        assert parts["first/loss"] != parts["last/loss"]
        assert (parts["first/loss"] + parts["last/loss"]) / 2 == pytest.approx(whole["loss"], rel=1e-5)

    @pytest.mark.claims
    def test_data_by_index_and_sources_in_a_dict(self):
        class Indexed:
            def __getitem__(self, t):
                return TRAIN.batch(0, t)

        config = dataclasses.replace(BASE, scan=1)
        assert same(fit(make(), Data(Indexed(), VALID), config).state, fit(make(), Data(TRAIN, VALID), config).state)
        e = make()
        both = e._replace(step=lambda state, batch: e.step(state, batch["left"]))
        nested = fit(both, Data({"left": TRAIN, "right": Batches({"z": X}, 4)}, VALID), config)
        assert same(nested.state, fit(make(), Data(TRAIN, VALID), config).state)

    def test_data_by_seed(self):
        class Indexed:
            def __init__(self, seed):
                self.seed = seed

            def __getitem__(self, t):
                return TRAIN.batch(self.seed, t)

        config = dataclasses.replace(BASE, scan=1, seed=3, seeds=2)
        streamed, whole = (fit(make(), Data(data, VALID), config) for data in (Indexed, TRAIN))
        assert all(same(one.state, other.state) for one, other in zip(streamed.runs, whole.runs, strict=True))

    def test_any_pytree_of_batches_is_in_memory(self):
        """A NamedTuple, a dataclass, and None leaves: the example has the structure of the data."""
        Pair = collections.namedtuple("Pair", "left right")
        other = Batches({"z": X}, 4)
        for train, right in (
            (Pair(TRAIN, other), Pair),
            (Both(TRAIN, other), Both),
            ({"left": TRAIN, "right": None}, dict),
            (collections.defaultdict(list, left=TRAIN, right=other), collections.defaultdict),
            (FrozenDict(left=TRAIN, right=other), FrozenDict),
        ):
            data = Data(train)
            assert isinstance(data.example, right)
            whole = jax.tree.map(lambda one: one.example, train, is_leaf=lambda x: isinstance(x, Batches))
            assert jax.tree.structure(data.example) == jax.tree.structure(whole)
            assert RunConfig(epochs=1).resolve(train).steps in (7, 18)

    @pytest.mark.claims
    def test_a_grain_data_set_with_seeds(self):
        """Batch t of a data set that is never in memory, shuffled by the seed of the run."""
        grain = pytest.importorskip("grain")

        def data(seed):
            rows = grain.MapDataset.source([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)])
            return rows.seed(seed).shuffle().repeat().batch(8)

        config = dataclasses.replace(BASE, seeds=2, steps=6, log_every=1)
        result, again = (fit(make(), data, config) for _ in range(2))
        first, second = (one.curve("train/loss")[1] for one in result.runs)
        assert first != second
        assert first == again.runs[0].curve("train/loss")[1]
        alone = fit(make(), data, dataclasses.replace(config, seeds=1, seed=BASE.seed + 1))
        assert alone.curve("train/loss")[1] == second
        assert fit(make(), Data(data, VALID), config).metrics.keys() == {"loss"} | set(
            fit(make(), Data(TRAIN, VALID), BASE).metrics
        )

    def test_no_data_at_all(self):
        class Walker(State):
            place: jax.Array

        def step(state, _):
            place = state.place + jax.random.normal(state.step_key())
            return state.advance(place=place), {"place": place}

        init = lambda key: Walker.create(key, place=jnp.zeros(()))
        e = Experiment(init, step, lambda state, _: {"far": WeightedSum(jnp.abs(state.place), jnp.ones(()))})
        result = fit(e, None, BASE)
        assert result.metrics["far"] == pytest.approx(abs(float(result.state.place)))

    def test_zero_steps_evaluate_the_start(self):
        result = fit(make(), Data(TRAIN, VALID), dataclasses.replace(BASE, steps=0))
        assert int(result.state.step) == 0
        assert result.metrics["loss"] > 0

    def test_a_loss_that_is_no_number_stops_the_run(self):
        config = dataclasses.replace(BASE, optimizer="sgd", learning_rate=1e30)
        with pytest.raises(Diverged, match=r"step \d+.*--learning_rate"):
            fit(make(config), Data(TRAIN, VALID), config)

    def test_monitor_that_is_not_there(self):
        with pytest.raises(FlagError, match=r"--monitor=acc: .*accuracy, loss"):
            fit(make(), Data(TRAIN, VALID), dataclasses.replace(BASE, monitor="acc"))

    def test_batch_that_the_devices_do_not_divide(self):
        with pytest.raises(FlagError, match=r"--batch_size=9: .* 8 devices.* 16"):
            fit(make(), Data(Batches({"x": X, "y": Y}, 9), VALID), dataclasses.replace(BASE, devices=8))

    def test_freeze_that_matches_nothing(self):
        config = dataclasses.replace(BASE, freeze="Conv_9")
        with pytest.raises(FlagError, match="Conv_9"):
            fit(make(config), Data(TRAIN, VALID), config)


class TestEarlyStopping:
    """The metric is |step - 7|, so the best step is known."""

    class Counter(State):
        learner: Learner

    def experiment(self):
        tx = optax.sgd(1.0)
        update = make_update(
            lambda w, batch: (w - 0 * weighted_mean(batch["x"]), {}), tx
        )  # w decreases by one per step

        def step(state, batch):
            learner, _ = update(state.learner, batch)
            return state.advance(learner=learner), {"loss": learner.params}

        init = lambda key: self.Counter.create(key, learner=Learner.create(jnp.float32(0), tx))
        away = lambda state, batch: {
            "loss": weighted_sum(jnp.abs(state.learner.params + 7) + 0 * batch["x"][:, 0], batch["mask"])
        }
        return Experiment(init, step, away)

    config = dataclasses.replace(BASE, steps=40, eval_every=1, patience=3, scan=1)

    def test_the_best_state_comes_back(self):
        result = fit(self.experiment(), Data(TRAIN, VALID), self.config)
        assert result.metrics["loss"] == 0
        assert float(result.state.learner.params) == -7
        assert result.history[-1]["step"] == 10

    def test_equal_is_not_better(self):
        flat = lambda state, batch: {"loss": weighted_sum(0 * batch["x"][:, 0], batch["mask"])}
        result = fit(self.experiment()._replace(evaluate=flat), Data(TRAIN, VALID), self.config)
        assert int(result.state.step) == 1
        assert result.history[-1]["step"] == 4

    def test_also_from_a_folder_and_when_loaded_again(self, tmp_path):
        config = with_dir(self.config, tmp_path)
        first = fit(self.experiment(), Data(TRAIN, VALID), config)
        loaded = fit(self.experiment(), Data(TRAIN, VALID), config)
        assert same(first.state, loaded.state)
        assert loaded.metrics == {"loss": 0}
        assert int(loaded.state.step) == 7

    @pytest.mark.parametrize("steps", first([5, 8]))
    @pytest.mark.parametrize("checkpoint_every", first([None, 1]))
    def test_stopped_before_the_best_and_after_it(self, tmp_path, steps, checkpoint_every):
        config = with_dir(self.config, tmp_path, checkpoint_every=checkpoint_every)
        fit(self.experiment(), Data(TRAIN, VALID), dataclasses.replace(config, steps=steps))
        result = fit(self.experiment(), Data(TRAIN, VALID), config)
        assert int(result.state.step) == 7
        assert result.history[-1]["step"] == 10

    def test_the_best_state_is_saved_with_the_latest(self, tmp_path):
        """Saves are rare by default: the best state, of step 7, is still in memory when step 8 is saved."""
        config = with_dir(self.config, tmp_path, checkpoint_every=4)
        fit(self.experiment(), Data(TRAIN, VALID), dataclasses.replace(config, steps=9))
        assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"7", "8", "9"}
        assert int(fit(self.experiment(), Data(TRAIN, VALID), config).state.step) == 7


class TestFolder:
    @pytest.mark.claims
    @pytest.mark.parametrize(
        "flags",
        [
            {"ema": 0.9, "accumulate": 2, "freeze": "Dense_0/bias"}, {"ema": 0.9}, {"optimizer": "schedule_free"},
            {"optimizer": "muon", "rates": "Dense_0:0.5"}, {"optimizer": "lion", "norms": 3},
        ],
        ids=lambda flags: ",".join(flags),
    )  # fmt: skip
    def test_what_stands_beside_the_parameters_is_resumed_bitwise_and_evaluated(self, tmp_path, flags):
        config = dataclasses.replace(BASE, learning_rate=0.1, **flags)
        whole = fit(make(config), Data(TRAIN, VALID), config)
        fit(make(config), Data(TRAIN, VALID), with_dir(config, tmp_path, steps=10))
        resumed = fit(make(config), Data(TRAIN, VALID), with_dir(config, tmp_path))
        assert same(whole.state, resumed.state)
        assert rows(whole.history) == rows(resumed.history)
        averaged, last = whole.state.learner.averaged, whole.state.learner.params
        moved = not np.array_equal(averaged["Dense_1"]["kernel"], last["Dense_1"]["kernel"])
        assert moved == ("ema" in flags or flags.get("optimizer") == "schedule_free")
        logits = np.asarray(Net().apply({"params": averaged}, X[53:]), np.float64)
        loss = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), Y[53:]]
        assert whole.metrics["loss"] == pytest.approx(loss.mean(), rel=1e-5)
        if "norms" in flags:
            steps = [row["step"] for row in whole.history if "train/norm/grads/Dense_0" in row]
            assert steps == [3, 6, 9, 12, 15, 18]

    @pytest.mark.parametrize("parallel", first(["jit", "pmap"]))
    @pytest.mark.parametrize("half", first([13, 10]))
    def test_resume_is_bitwise(self, tmp_path, parallel, half):
        """Stopped at a multiple of eval_every and between two; the log is the same too."""
        config = dataclasses.replace(BASE, parallel=parallel, devices=4)
        whole = fit(make(), Data(TRAIN, VALID), with_dir(config, tmp_path / "whole"))
        fit(make(), Data(TRAIN, VALID), with_dir(config, tmp_path / "parts", steps=half))
        resumed = fit(make(), Data(TRAIN, VALID), with_dir(config, tmp_path / "parts"))
        assert same(whole.state, resumed.state)
        on_grid = lambda history: [row for row in rows(history) if "train/loss" in row or row["step"] % 5 == 0]
        assert on_grid(resumed.history) == on_grid(whole.history)
        written, _, _ = history.read(tmp_path / "parts/metrics.jsonl")
        assert written == resumed.history

    @pytest.mark.claims
    def test_saved_under_pmap_goes_on_under_jit_on_other_devices(self, tmp_path):
        whole = fit(make(), Data(TRAIN, VALID), BASE)
        fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path, steps=10, parallel="pmap", devices=8))
        resumed = fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path, devices=2))
        assert resumed.metrics == pytest.approx(whole.metrics, rel=1e-4)

    def test_an_ended_fit_is_loaded_not_run(self, tmp_path):
        config = with_dir(BASE, tmp_path)
        first = fit(make(), Data(TRAIN, VALID), config, name="one")
        broken = make()._replace(step=None)
        with pytest.raises(TypeError):
            fit(broken, Data(TRAIN, VALID), config, name="two")
        e = make()
        again = fit(e, Data(TRAIN, VALID), config, name="one")
        assert same(first.state, again.state)
        assert again.metrics == first.metrics
        assert again.history == first.history

    @pytest.mark.claims
    @pytest.mark.parametrize("stop", [12, 10])
    def test_what_is_watched_is_there_from_start_to_end(self, tmp_path, stop):
        watch = lambda state: {"kernel": state.learner.params["Dense_1"]["kernel"], "step": state.step}
        whole = fit(make(), Data(TRAIN, VALID), BASE, watch=watch).watched
        assert sorted(whole) == [0, 5, 10, 15, 20]
        assert all(seen["step"] == step for step, seen in whole.items())
        fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path, steps=stop, checkpoint_every=5), watch=watch)
        if stop == 12:  # killed after its checkpoint of step 10
            shutil.rmtree(tmp_path / "checkpoints" / "12")
            (tmp_path / "result.json").unlink()
        resumed = fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path), watch=watch)
        loaded = fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path), watch=watch)
        for run in (resumed, loaded):
            assert same(whole, run.watched)

    @pytest.mark.claims
    def test_a_damaged_frame_is_left_out_and_the_first_made_again(self, tmp_path, capfd):
        watch = lambda state: state.learner.params["Dense_1"]["kernel"]
        whole = fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path), watch=watch).watched
        frames = tmp_path / "watched"
        (frames / "0.npz").write_bytes(b"")
        (frames / "5.npz").write_bytes((frames / "10.npz").read_bytes())
        np.savez(frames / "15.npz", arr_0=np.array([{}]), sum="0")  # a pickle
        (frames / "20.npz").unlink()
        loaded = fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path), watch=watch).watched
        assert list(loaded) == [0, 10]
        assert all(np.array_equal(loaded[step], whole[step]) for step in loaded)
        said = capfd.readouterr().err
        assert "0.npz: is damaged (EOFError)" in said
        for step, what in ((5, "its content has changed since it was written"), (15, "is damaged"), (20, "is missing")):
            assert f"{step}.npz: {what}" in said
            assert f"step {step}\n" in said

    @pytest.mark.claims
    def test_named_fits_are_apart(self, tmp_path):
        config = with_dir(BASE, tmp_path)
        fit(make(), Data(TRAIN, VALID), config, name="one")
        fit(make(), Data(TRAIN, VALID), dataclasses.replace(config, seeds=2), name="two")
        folders = {str(p.parent.relative_to(tmp_path)) for p in tmp_path.glob("**/result.json")}
        assert folders == {"one", "two/seed0", "two/seed1"}

    def test_latest_and_best_are_kept(self, tmp_path):
        config = with_dir(BASE, tmp_path, monitor="step_3", monitor_mode="max", steps=30, checkpoint_every=5)
        e = make()
        peak = lambda state, batch: {
            "step_3": weighted_sum(-jnp.abs(state.step - 10.0) + 0 * batch["x"][:, 0], batch["mask"])
        }
        fit(e._replace(evaluate=peak), Data(TRAIN, VALID), config)
        assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"10", "25", "30"}

    def test_a_damaged_checkpoint_gives_way_to_the_one_before(self, tmp_path):
        config = with_dir(BASE, tmp_path, checkpoint_every=5)
        whole = fit(make(), Data(TRAIN, VALID), config)
        os.remove(tmp_path / "result.json")
        for path in (tmp_path / "checkpoints/20/state").glob("**/*"):
            if path.is_file():
                path.write_bytes(b"")
        with pytest.warns(UserWarning, match="checkpoint 20 cannot be used"):
            again = fit(make(), Data(TRAIN, VALID), config)
        assert same(whole.state, again.state)
        assert rows(again.history) == rows(whole.history)

    @pytest.mark.claims
    def test_what_a_killed_deletion_leaves_is_removed(self, tmp_path):
        config = with_dir(BASE, tmp_path, checkpoint_every=5)
        fit(make(), Data(TRAIN, VALID), dataclasses.replace(config, steps=10))
        (tmp_path / "checkpoints/3/state").mkdir(parents=True)
        (tmp_path / "checkpoints/12.orbax-checkpoint-tmp").mkdir()
        fit(make(), Data(TRAIN, VALID), config)
        assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"15", "20"}

    @pytest.mark.claims
    def test_a_half_written_last_line_of_the_log(self, tmp_path):
        config = with_dir(BASE, tmp_path)
        fit(make(), Data(TRAIN, VALID), dataclasses.replace(config, steps=10))
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 11, "train/lo')
        resumed = fit(make(), Data(TRAIN, VALID), config)
        assert rows(resumed.history) == rows(fit(make(), Data(TRAIN, VALID), BASE).history)

    @pytest.mark.claims
    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_saves_and_the_run_goes_on_bitwise(self, tmp_path, signum):
        config = with_dir(BASE, tmp_path, steps=3000, eval_every=1000, log_every=1000, scan=1)
        whole = fit(make(), Data(TRAIN, VALID), dataclasses.replace(config, workdir=None))

        def send():
            while not (tmp_path / "metrics.jsonl").exists():
                time.sleep(0.001)
            time.sleep(0.05)
            os.kill(os.getpid(), signum)

        threading.Thread(target=send).start()
        with pytest.raises(Interrupted) as caught:
            fit(make(), Data(TRAIN, VALID), config)
        assert caught.value.signum == signum
        resumed = fit(make(), Data(TRAIN, VALID), config)
        assert same(whole.state, resumed.state)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def test_tensorboard_events(self, tmp_path):
        fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path, tensorboard=True))
        (events,) = (tmp_path / "tensorboard").iterdir()
        content = events.read_bytes()
        assert b"train/loss" in content
        assert b"valid/accuracy" in content


class TestBeside:
    def test_apply_gives_every_row_once_in_order(self):
        data = Batches({"x": np.arange(23.0)}, 8)
        out = map_batches(lambda state, batch: {"y": batch["x"] * state}, jnp.float32(2), data)
        np.testing.assert_array_equal(out["y"], 2 * np.arange(23.0))

    def test_evaluation_counts_every_row_once(self):
        e = make()._replace(evaluate=lambda state, batch: {"rows": weighted_sum(batch["x"][:, 0], batch["mask"])})
        data = Batches({"x": X[:23], "y": Y[:23]}, 8)
        result = fit(e, Data(TRAIN, data), dataclasses.replace(BASE, devices=8))
        assert result.metrics["rows"] == pytest.approx(X[:23, 0].mean(), rel=1e-6)

    def test_measure(self):
        cost = benchmark(lambda a, b: a @ b, jnp.ones((31, 37)), jnp.ones((37, 41)))
        assert cost.operations == pytest.approx(2 * 31 * 37 * 41, rel=0.05)
        assert 0 < cost.seconds < 1


class TestParts:
    """Training, validation and test are three parts; no choice depends on the test part."""

    TEST = Batches({"x": X[60:], "y": Y[60:]}, 8)

    class Closed(Batches):
        """A test part that raises if it is read too early."""

        open = False

        def __getattribute__(self, name):
            if name in ("arrays", "take", "example", "digest") and not type(self).open:
                raise AssertionError(f"the test part's {name} is looked at before the end")
            return super().__getattribute__(name)

    def closed(self, monkeypatch):
        """The test part, readable once the last step is done."""
        monkeypatch.setattr(self.Closed, "open", True)
        part = self.Closed({"x": X[60:], "y": Y[60:]}, 8)
        monkeypatch.setattr(self.Closed, "open", False)
        return part

    @pytest.mark.parametrize("patience", [0, 2])
    def test_the_test_part_is_read_once_at_the_end(self, tmp_path, monkeypatch, patience):
        config, part = with_dir(BASE, tmp_path, patience=patience, learning_rate=0.1), self.closed(monkeypatch)
        finish = Training.finish

        def opened(training):
            monkeypatch.setattr(self.Closed, "open", True)
            return finish(training)

        monkeypatch.setattr(Training, "finish", opened)
        result = fit(make(config), Data(TRAIN, VALID, part), config)
        tests = [row for row in result.history if any(key.startswith("test/") for key in row)]
        assert [row["step"] for row in tests] == [int(result.state.step)]
        assert result.metrics["loss"] == tests[0]["test/loss"] != result.valid["loss"]
        kept = [row for row in result.history if "valid/loss" in row and row["step"] == int(result.state.step)]
        assert result.valid["loss"] == kept[0]["valid/loss"]

    def test_a_test_part_of_noise_changes_no_choice(self):
        config = dataclasses.replace(BASE, patience=2, learning_rate=0.1, steps=200)
        noise = Batches({"x": rng.normal(size=(11, 5)).astype(np.float32), "y": Y[60:]}, 8)
        fits = [fit(make(config), Data(TRAIN, VALID, part), config) for part in (self.TEST, noise, None)]
        assert all(same(fits[0].state, one.state) for one in fits)
        assert fits[0].valid == fits[1].valid == fits[2].valid == fits[2].metrics
        assert fits[0].metrics != fits[1].metrics

    @pytest.mark.claims
    def test_watched_and_still_not_chosen_by(self):
        config = dataclasses.replace(BASE, patience=2, learning_rate=0.1, steps=200)
        plain = fit(make(config), Data(TRAIN, VALID, self.TEST), config)
        config = dataclasses.replace(config, watch_test=True)
        watched = fit(make(config), Data(TRAIN, VALID, self.TEST), config)
        assert same(plain.state, watched.state)
        assert plain.metrics == watched.metrics
        assert watched.curve("test/loss")[0] == watched.curve("valid/loss")[0] != plain.curve("test/loss")[0]
        with pytest.raises(FlagError, match="--watch_test"):
            fit(make(config), Data(TRAIN, VALID), config)

    def test_without_a_validation_part_nothing_can_choose(self):
        result = fit(make(), Data(TRAIN, test=self.TEST), BASE)
        assert {key for row in result.history for key in row if "loss" in key} == {"train/loss", "test/loss"}
        assert result.valid == {}
        with pytest.raises(FlagError, match=r"--patience=1: .*validation part"):
            fit(make(), Data(TRAIN, test=self.TEST), dataclasses.replace(BASE, patience=1))

    @pytest.mark.claims
    def test_stopped_behind_the_row_of_the_test_part(self, tmp_path):
        config = with_dir(BASE, tmp_path)
        whole = fit(make(), Data(TRAIN, VALID, self.TEST), config)
        (tmp_path / "result.json").unlink()
        again = fit(make(), Data(TRAIN, VALID, self.TEST), config)
        assert rows(again.history) == rows(whole.history)

    @pytest.mark.claims
    def test_evaluations_depend_on_no_backend(self):
        """The number of steps per call does not change which steps are evaluated."""
        config = dataclasses.replace(BASE, eval_every=None, steps=400, patience=2, learning_rate=0.1)
        fits = [fit(make(config), Data(TRAIN, VALID), dataclasses.replace(config, scan=n)) for n in (1, 16, 64)]
        assert fits[0].curve("valid/loss")[0][0] == 40
        assert [one.curve("valid/loss") for one in fits[1:]] == [fits[0].curve("valid/loss")] * 2
        assert same(fits[0].state, fits[1].state)
        assert same(fits[0].state, fits[2].state)

    def test_a_large_validation_part_is_looked_at_less_often(self):
        large = Batches({"x": np.zeros((5000, 5)), "y": np.zeros(5000, np.int32)}, 8)
        assert cadence(1000, TRAIN.example, VALID) == 100
        # 625 batches cost as much as 208 steps, a 25th of 5,208
        assert cadence(60_000, TRAIN.example, large) == 6000
        assert cadence(50_000, TRAIN.example, large) == 5556  # nine times
        assert cadence(1000, TRAIN.example, large) == 1000


class TestIdentity:
    """The result of another fit is never returned."""

    @pytest.mark.parametrize(
        ("change", "words"),
        first(
            [
                ({"learning_rate": 0.1}, "--learning_rate was 0.001, is 0.1"),
                ({"seed": 7}, "--seed was 0, is 7"),
                ({"steps": 10}, "--steps was 20, is 10"),
                ({"steps": 40, "optimizer": "adamw"}, "--optimizer was adam, is adamw"),
            ],
            2,
        ),
    )
    @pytest.mark.parametrize("ended", first([True, False]))
    def test_another_configuration_is_refused(self, tmp_path, change, words, ended):
        first = fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path))
        if not ended:
            (tmp_path / "result.json").unlink()
        config = with_dir(BASE, tmp_path, **change)
        with pytest.raises(FlagError, match=words):
            fit(make(config), Data(TRAIN, VALID), config)
        assert fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path)).metrics == first.metrics

    def test_other_data_are_refused(self, tmp_path):
        config, test = with_dir(BASE, tmp_path), TestParts.TEST
        fit(make(), Data(TRAIN, VALID, test), config)
        flipped = {"x": X[:53].copy(), "y": Y[:53]}
        flipped["x"].view(np.int32)[3, 1] ^= 1
        for parts, name in (
            ((Batches(flipped, 8), VALID, test), "train"),
            ((TRAIN, Batches({"x": X[54:], "y": Y[54:]}, 8), test), "valid"),
            ((TRAIN, VALID, Batches({"x": X[61:], "y": Y[61:]}, 8)), "test"),
        ):
            with pytest.raises(FlagError, match=f"the {name} data .* rows with sha256"):
                fit(make(), Data(*parts), config)

    def test_other_code_is_refused(self, tmp_path):
        config = with_dir(BASE, tmp_path)
        fit(make(), Data(TRAIN, VALID), config)
        e, factor = make(), jnp.float32(2)
        scaled = lambda step, by: lambda state, batch: step(state, batch | {"x": by * batch["x"]})
        changed = {
            "step": e._replace(step=scaled(e.step, 2)),
            "evaluate": e._replace(summarize=lambda sums: {"loss": 1.0, "accuracy": 0.0}),
            "init": e._replace(init=lambda key: e.init(jax.random.fold_in(key, 1))),
        }
        for part, experiment in changed.items():
            with pytest.raises(FlagError, match=f"code of .*{part}"):
                fit(experiment, Data(TRAIN, VALID), config)
        other = with_dir(BASE, tmp_path / "other")
        fit(e._replace(step=scaled(e.step, factor)), Data(TRAIN, VALID), other)
        with pytest.raises(FlagError, match="code of step"):  # the same text with another constant
            fit(e._replace(step=scaled(e.step, factor + 1)), Data(TRAIN, VALID), other)

    def test_another_start_is_refused(self, tmp_path):
        start = fit(make(), Data(TRAIN, VALID), BASE).state
        fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path), state=start)
        with pytest.raises(FlagError, match="start"):
            fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path))

    @pytest.mark.claims
    def test_more_steps_where_no_schedule_depends_on_them(self, tmp_path):
        fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path))
        assert int(fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path, steps=30)).state.step) == 30
        with pytest.raises(FlagError, match="--steps was 30, is 20"):
            fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path))
        cosine = dataclasses.replace(BASE, schedule="cosine")
        fit(make(cosine), Data(TRAIN, VALID), with_dir(cosine, tmp_path / "cosine"))
        longer = with_dir(cosine, tmp_path / "cosine", steps=30)
        with pytest.raises(FlagError, match=r"--steps was 20, is 30, .*init, step"):
            fit(make(longer), Data(TRAIN, VALID), longer)

    def test_one_that_had_ended_says_so(self, tmp_path, capsys):
        config = with_dir(BASE, tmp_path, progress=True)
        fit(make(), Data(TRAIN, VALID), config)
        assert "loaded" not in capsys.readouterr().err
        fit(make(), Data(TRAIN, VALID), config)
        assert re.search(rf"^{tmp_path}: .*step 20.*loaded", capsys.readouterr().err, re.MULTILINE)

    @pytest.mark.claims
    def test_a_metric_that_is_no_number_comes_back_as_one(self, tmp_path):
        nan = make()._replace(summarize=lambda sums: {"loss": 1.0, "r2": math.nan})
        config = with_dir(BASE, tmp_path, seeds=2)
        for _ in range(2):
            found = fit(nan, Data(TRAIN, VALID), config)
            assert found.metrics["loss"] == 1
            assert math.isnan(found.metrics["r2"])

    @pytest.mark.claims
    def test_loading_leaks_no_descriptor(self, tmp_path):
        config, counts = with_dir(BASE, tmp_path), []
        for _ in range(4):
            fit(make(), Data(TRAIN, VALID), config)
            gc.collect()
            counts.append(len(os.listdir("/proc/self/fd")))
        assert counts[1:] == counts[1:2] * 3

    @pytest.mark.claims
    def test_a_folder_of_an_older_version(self, tmp_path):
        config = with_dir(BASE, tmp_path)
        fit(make(), Data(TRAIN, VALID), config)
        (tmp_path / "fit.json").unlink()
        with pytest.raises(FlagError, match=r"fit\.json"):
            fit(make(), Data(TRAIN, VALID), config)
        (tmp_path / "fit.json").write_text("{")
        with pytest.raises(FlagError, match="damaged"):
            fit(make(), Data(TRAIN, VALID), config)


class TestCost:
    def test_a_new_experiment_of_known_shapes_compiles_nothing(self, tmp_path):
        fit(make(), Data(TRAIN, VALID), BASE)
        compiled = []
        hear = lambda event, seconds, **_: compiled.append(event) if event.endswith("backend_compile_duration") else 0
        jax.monitoring.register_event_duration_secs_listener(hear)
        try:
            other = dataclasses.replace(BASE, learning_rate=0.03, steps=17)
            fit(make(other), Data(TRAIN, VALID), with_dir(other, tmp_path))
        finally:
            jax.monitoring.unregister_event_duration_listener(hear)
        assert compiled == []

    @pytest.mark.claims
    def test_saves_take_a_share_of_the_time(self, tmp_path, monkeypatch):
        clock, tick, saved = itertools.count(), 0.01, []
        monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: tick * next(clock)))
        monkeypatch.setattr(checkpoint, "time", SimpleNamespace(perf_counter=lambda: 0.0))
        save = Checkpoints.save
        monkeypatch.setattr(
            Checkpoints, "save", lambda self, *args, **facts: (saved.append(args[0]), save(self, *args, **facts))
        )
        fit(make(), Data(TRAIN, VALID), with_dir(BASE, tmp_path, steps=3000, eval_every=10))
        share = len(saved) / next(clock)  # a save takes one tick of this clock
        assert training.SAVING / 2 < share <= training.SAVING
        assert saved[-1] == 3000

    def test_a_function_is_compiled_once_for_all_its_data(self):
        traces = []

        def double(state, batch):
            traces.append(0)
            return batch["x"] * state

        for n in (23, 8, 16):
            data = Batches({"x": np.arange(float(n))}, 8)
            np.testing.assert_array_equal(map_batches(double, jnp.float32(2), data), 2 * np.arange(float(n)))
        assert len(traces) == 1

    def test_the_seeds_of_a_given_state_draw_their_own_noise(self):
        class Walker(State):
            place: jax.Array

        def step(state, _):
            return state.advance(place=state.place + jax.random.normal(state.step_key())), {}

        init = lambda key: Walker.create(key, place=jnp.zeros(()))
        e = Experiment(init, step, lambda state, _: {"place": WeightedSum(state.place, jnp.ones(()))})
        config = dataclasses.replace(BASE, seeds=3)
        alone = fit(e, None, config)
        given = fit(e, None, config, state=jax.jit(init)(jax.random.key(7)))
        assert given.values("place") == alone.values("place")
        assert len(set(given.values("place"))) == 3

    @pytest.mark.claims
    def test_evaluation_on_devices_that_do_not_divide_its_batch(self):
        odd = Batches({"x": X[53:], "y": Y[53:]}, 7)
        eight = Batches({"x": X[:48], "y": Y[:48]}, 8)
        one, many = (fit(make(), Data(eight, odd), dataclasses.replace(BASE, devices=n)).metrics for n in (1, 8))
        assert one == pytest.approx(many, rel=1e-4)


def test_functions_that_differ_in_constants_share_a_compiled_program():
    """Also optimised less; other arguments of the same shapes need no second program."""
    x = {"a": jnp.arange(7.0), "b": jnp.float32(3)}
    before = len(COMPILED)
    for quick in (False, True):
        for factor in (2.0, 5.0):
            times = jnp.full(7, factor)
            call = compiled(lambda x, times=times: {"y": x["a"] * times + x["b"]}, quick=quick)
            np.testing.assert_allclose(call(x)["y"], np.arange(7) * factor + 3)
            np.testing.assert_allclose(call({"a": x["a"] + 1, "b": x["b"]})["y"], np.arange(1, 8) * factor + 3)
    assert len(COMPILED) - before == 2
