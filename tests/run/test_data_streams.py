"""Training data and parts that are no arrays in memory: loaders, generators, lists, functions of a seed."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxdl import losses, metrics, run
from jaxdl.data import Batches, Data, Stream
from jaxdl.run import FlagError, RunConfig, fit
from jaxdl.supervision import supervised

ROOT = Path(__file__).parents[2]
N, B, D = 53, 7, 5
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(np.int32)
LIST = [{"x": X[i : i + B], "y": Y[i : i + B]} for i in range(0, N - B + 1, B)]  # 7 full batches
TAIL = {"x": X[7 * B :], "y": Y[7 * B :]}  # of 4 rows
QUIET = RunConfig(steps=18, progress=False, tensorboard=False, devices=1)


DENSE = nn.Dense(3)


def classifier(model=DENSE, **more):
    options = {
        "loss": lambda z, b: losses.softmax_cross_entropy(z, b["y"]),
        "metrics": lambda z, b: {"accuracy": metrics.accuracy(z, b["y"])},
    }
    return supervised(model, optax.adam(0.01), example=LIST[0], **options | more)


class Listed:
    """train[t], as long as anybody likes."""

    def __getitem__(self, t):
        return LIST[t % 7]


def generator(batches=LIST, times=1):
    for _ in range(times):
        yield from batches


def loader(shuffle=False):
    torch = pytest.importorskip("torch")
    rows = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(rows, batch_size=B, shuffle=shuffle)


def grain_rows():
    grain = pytest.importorskip("grain")
    rows = grain.MapDataset.source([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)])
    return rows.batch(B, drop_remainder=True).to_iter_dataset()


def bits(result):
    return b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(result.state.learner))


@pytest.fixture(scope="module")
def plain():
    """The same batches by number."""
    return fit(classifier(), Data(Listed(), test=Batches({"x": X, "y": Y}, 16)), QUIET)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LIST,
        lambda: generator(times=3),
        lambda: lambda seed: generator(times=3),
        lambda: lambda seed: LIST,
        loader,
        grain_rows,
        lambda: [*LIST, TAIL][:7],
    ],
)
def test_the_same_batches_are_the_same_bits(plain, make):
    found = fit(classifier(), Data(make(), test=[*LIST, TAIL]), QUIET)
    assert bits(found) == bits(plain)
    assert found.metrics == pytest.approx(plain.metrics, rel=1e-5)
    for thread in threading.enumerate():
        if thread.name.startswith("jaxdl-feed"):
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    "make", [lambda: generator([*LIST, TAIL]), loader, grain_rows, lambda: lambda: generator([*LIST])]
)
def test_parts_are_read_whole(plain, make):
    """The last batch is filled up, and its fill does not count."""
    found = fit(classifier(), Data(Listed(), test=make()), QUIET)
    rows = N if make in (loader,) or "TAIL" in str(make.__code__.co_names) else 7 * B
    z = X[:rows] @ np.asarray(found.state.learner.params["kernel"]) + np.asarray(found.state.learner.params["bias"])
    assert found.metrics["accuracy"] == pytest.approx((z.argmax(-1) == Y[:rows]).mean())


def test_arrays_become_batches_and_predictions_follow_any_part(plain):
    arrays = {"x": X, "y": Y}
    found = fit(classifier(), Data(arrays, arrays, arrays), QUIET, batch_size=B)
    same = fit(classifier(), Data(Batches(arrays, B), test=Batches(arrays, 16)), QUIET)
    assert bits(found) == bits(same)
    expected = found.predict(Batches(arrays, 16))
    for part in (arrays, [*LIST, TAIL], generator([*LIST, TAIL])):
        np.testing.assert_allclose(found.predict(part), expected, rtol=1e-5, atol=1e-6)


def test_epochs_of_what_has_a_length_and_early_stopping_over_a_stream(capsys):
    found = fit(
        classifier(), Data(loader(), valid=loader()), QUIET.replace(steps=None, epochs=2, patience=2, eval_every=3)
    )
    assert int(found.state.step) <= 16
    assert len([row for row in found.history if "valid/loss" in row]) >= 3
    assert "4 rows of 7, is left out" in capsys.readouterr().err


def test_a_stopped_fit_goes_on_behind_the_batches_that_it_has_seen(plain, tmp_path, capsys):
    fit(classifier(), Data(LIST), QUIET, steps=11, workdir=str(tmp_path))
    found = fit(classifier(), Data(generator(times=3)), QUIET.replace(workdir=str(tmp_path / "other")), steps=11)
    assert int(found.state.step) == 11
    later = fit(classifier(), Data(generator(times=3)), QUIET, workdir=str(tmp_path / "other"))
    assert bits(later) == bits(plain)
    assert "11 batches are passed over, which is exact if" in capsys.readouterr().err


def test_batches_are_fetched_ahead_and_never_beyond_the_end():
    asked = []

    class Counted:
        def __getitem__(self, t):
            asked.append((t, threading.current_thread().name.startswith("jaxdl-feed")))
            return LIST[t % 7]

    source = generator(times=4)
    fit(classifier(), Data(Counted()), QUIET, steps=9)
    assert [t for t, _ in asked[-9:]] == list(range(9))
    assert all(ahead for _, ahead in asked[-9:])
    fit(classifier(), source, QUIET, steps=18)
    assert len(list(source)) == 28 - 18


def test_an_error_of_the_source_comes_up_as_itself():
    def broken():
        yield from LIST[:3]
        raise ZeroDivisionError("of the source")

    with pytest.raises(ZeroDivisionError, match="of the source"):
        fit(classifier(), broken(), QUIET)


def test_several_devices(plain):
    """In a process of its own with four devices: jit, pmap and fsdp as one device."""
    code = """
import numpy as np, sys
sys.path.insert(0, ".")
import tests.run.test_data_streams as t
from jaxdl.data import Data
from jaxdl.run import fit
batches = [{name: rows[:4] for name, rows in batch.items()} for batch in t.LIST]
for parallel in ("jit", "pmap", "fsdp"):
    source = lambda seed: t.generator(batches, times=3)
    one, four = (fit(t.classifier(), Data(source, test=batches), t.QUIET, devices=n, parallel=parallel) for n in (1, 4))
    np.testing.assert_allclose(one.metrics["loss"], four.metrics["loss"], rtol=1e-5)
print("equal")
"""
    env = {"PATH": "/usr/bin:/bin", "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert done.stdout == "equal\n", done.stderr[-2000:]


class Rows:
    """A map-style data set, as PyTorch has them: entry i is one example."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i], Y[i]


class Frame:
    columns = ("x", "y")


class NoWeights(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x


GOOD = Data(LIST, test=LIST)
WRONG = {
    "a path": (lambda: fit(classifier(), "data.csv", QUIET), "train"),
    "a number": (lambda: fit(classifier(), 7, QUIET), "train"),
    "an array": (lambda: fit(classifier(), X, QUIET), "train"),
    "a table": (lambda: fit(classifier(), Frame(), QUIET), "train"),
    "a set": (lambda: fit(classifier(), {1, 2}, QUIET), "train"),
    "rows, not batches": (lambda: fit(classifier(), Rows(), QUIET), "one example"),
    "a list of rows": (lambda: fit(classifier(), [{"x": X[0], "y": Y[0]}], QUIET), "one example"),
    "an empty list": (lambda: fit(classifier(), [], QUIET), "train"),
    "an empty generator": (lambda: fit(classifier(), iter(()), QUIET), "no batch"),
    "arrays of other lengths": (lambda: fit(classifier(), {"x": X, "y": Y[:3]}, QUIET), "y 3"),
    "arrays of texts": (lambda: fit(classifier(), {"x": X.astype(str), "y": Y}, QUIET), "x"),
    "ragged rows": (lambda: fit(classifier(), iter([{"x": [[1.0], [1.0, 2.0]], "y": [0, 1]}]), QUIET), "x|array"),
    "shapes that change": (lambda: fit(classifier(), [LIST[0], {"x": X[:B, :3], "y": Y[:B]}], QUIET), "batch 1"),
    "shapes that change in a stream": (
        lambda: fit(classifier(), iter([LIST[0], {"x": X[:B, :3], "y": Y[:B]}]), QUIET), "batch 1"),
    "a key that is missing": (lambda: fit(classifier(), [{"x": X[:B]}], QUIET), "'y'"),
    "a test part of one row": (lambda: fit(classifier(), Data(LIST, test=[{"x": X[0], "y": Y[0]}]), QUIET), "test"),
    "a path for a test part": (lambda: fit(classifier(), Data(LIST, test="test.csv"), QUIET), "test"),
    "a generator to validate by": (lambda: fit(classifier(), Data(LIST, generator()), QUIET), "valid"),
    "a generator and seeds": (lambda: fit(classifier(), generator(), QUIET, seeds=2), "train"),
    "a generator that ends": (lambda: fit(classifier(), generator(), QUIET), "after 7 full batches"),
    "epochs without a length": (lambda: fit(classifier(), generator(), QUIET, steps=None, epochs=1), "--epochs"),
    "neither steps nor epochs": (lambda: fit(classifier(), LIST, progress=False), "--steps"),
    "both": (lambda: fit(classifier(), LIST, QUIET, epochs=2), "--steps"),
    "steps below 0": (lambda: fit(classifier(), LIST, QUIET, steps=-1), "--steps"),
    "an unknown flag": (lambda: fit(classifier(), LIST, QUIET, step=7), "step"),
    "a module": (lambda: fit(run, LIST, QUIET), "Experiment"),
    "a network": (lambda: fit(nn.Dense(3), LIST, QUIET), "Experiment"),
    "a test part for a config": (lambda: fit(classifier(), LIST, LIST), "config"),
    "a state of another network": (
        lambda: fit(classifier(), LIST, QUIET, state=classifier(nn.Sequential([nn.Dense(3)])).init(jax.random.key(0))),
        "state"),
    "no parameters": (lambda: fit(classifier(NoWeights()), LIST, QUIET), "param"),
    "a loss that is reduced": (lambda: fit(classifier(loss=lambda z, b: z.mean()), LIST, QUIET), "loss"),
    "a metric that is reduced": (
        lambda: fit(classifier(metrics=lambda z, b: {"a": z.mean()}), LIST, QUIET), "metric a"),
    "a metric of a step that is no number": (
        lambda: fit(vector(classifier()), LIST, QUIET), "metric"),
    "patience without a part": (lambda: fit(classifier(), LIST, QUIET, patience=3), "--patience"),
    "a monitor that is not there": (lambda: fit(classifier(), Data(LIST, LIST), QUIET, monitor="f1"), "--monitor"),
    "no test to watch": (lambda: fit(classifier(), LIST, QUIET, watch_test=True), "--watch_test"),
    "weights from nowhere": (lambda: fit(classifier(), LIST, QUIET, init="nowhere"), "--init"),
    "predict of a number": (lambda: fit(classifier(), LIST, QUIET, steps=1).predict(7), "test|part"),
}  # fmt: skip


def vector(experiment):
    def step(state, batch):
        state, found = experiment.step(state, batch)
        return state, found | {"each": batch["y"]}

    return experiment._replace(step=step)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_uses_are_one_clear_line(name):
    call, told = WRONG[name]
    with pytest.raises((FlagError, ValueError, TypeError, FileNotFoundError), match=told) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 300, text


class Told:
    def forward(self, x, train):
        return nn.Dense(3)(x) * (2 if train else 1)


class Train(nn.Module, Told):
    @nn.compact
    def __call__(self, x, train):
        return self.forward(x, train)


class Training(nn.Module, Told):
    @nn.compact
    def __call__(self, x, training):
        return self.forward(x, training)


class Deterministic(nn.Module, Told):
    @nn.compact
    def __call__(self, x, deterministic):
        return self.forward(x, not deterministic)


@pytest.mark.parametrize("model", [Train(), Training(), Deterministic(), DENSE])
def test_a_module_is_told_in_its_own_words(model):
    experiment = classifier(model)
    state, batch = experiment.init(jax.random.key(0)), LIST[0]
    dense = state.learner.params.get("Dense_0", state.learner.params)
    z = X[:B] @ np.asarray(dense["kernel"])
    np.testing.assert_allclose(experiment.predict(state, batch), z, atol=1e-5)
    loss = losses.softmax_cross_entropy(z * (1 if model is DENSE else 2), batch["y"]).mean()
    assert float(experiment.step(state, batch)[1]["loss"]) == pytest.approx(float(loss), rel=1e-5)


def test_a_stream_says_what_it_knows():
    stream = Stream(LIST)
    assert (stream.batches, stream.batch_size, stream.once) == (7, B, False)
    assert [batch["y"].tolist() for batch in stream] == [batch["y"].tolist() for batch in LIST]
    assert len(list(stream)) == 7
    once = Stream(iter(LIST), "mine")
    assert (once.batches, once.once) == (None, True)
    assert len(list(once)) == 7
    with pytest.raises(ValueError, match="mine: this list_iterator has been read"):
        list(once)


def test_fetching_hides_behind_the_steps():
    """A source that sleeps costs less than its sleep and the step one after another."""

    class Slow:
        def __getitem__(self, t):
            time.sleep(0.02)
            return LIST[t % 7]

    experiment = classifier()

    def step(state, batch):
        paused = jax.pure_callback(lambda _: (time.sleep(0.02), np.float32(0))[1], np.float32(0), batch["y"])
        return experiment.step(state, {**batch, "x": batch["x"] + paused})

    found = fit(experiment._replace(step=step), Slow(), QUIET, steps=60, eval_every=20)
    assert 1 / found.steps_per_second < 0.038
