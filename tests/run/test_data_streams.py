"""Training data and parts that are not arrays in memory: loaders, generators, lists, functions of a seed."""

import os
import re
import signal
import sys
import threading
import time

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxdl import losses, metrics, run
from jaxdl.core import Experiment, State
from jaxdl.data import Batches, Data, DataError, Stream
from jaxdl.run import FlagError, RunConfig, fit
from jaxdl.run.engine import ahead
from jaxdl.run.engine.ahead import Ahead
from jaxdl.run.store.identity import digest_of_data
from jaxdl.supervision import supervised
from tests.budget import first

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
    return supervised(model, optax.adam(0.01), **{"example": LIST[0]} | options | more)


class Listed:
    """Batches by number, without end."""

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


def fetching():
    """The prefetching threads."""
    return [thread for thread in threading.enumerate() if thread.name == "jaxdl-feed"]


def bits(result):
    return b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(result.state.learner))


@pytest.fixture(scope="module")
def plain():
    """The same batches by number."""
    return fit(classifier(), Data(Listed(), test=Batches({"x": X, "y": Y}, 16)), QUIET)


@pytest.mark.parametrize(
    "make",
    first(
        [
            lambda: LIST,
            lambda: generator(times=3),
            lambda: lambda seed: generator(times=3),
            lambda: lambda seed: LIST,
            loader,
            grain_rows,
            lambda: [*LIST, TAIL],
            lambda: [(batch["x"], batch["y"]) for batch in LIST],
            lambda: iter([[batch["x"].astype(np.float64), batch["y"].astype(np.int64)] for batch in [*LIST, TAIL] * 3]),
            lambda: lambda seed: generator([*LIST, TAIL]),
        ],
        4,
    ),
)
def test_the_same_batches_are_the_same_bits(plain, make):
    found = fit(classifier(), Data(make(), test=[*LIST, TAIL]), QUIET)
    assert bits(found) == bits(plain)
    assert found.metrics == pytest.approx(plain.metrics, rel=1e-5)
    assert not fetching()


@pytest.mark.parametrize(
    "make", first([lambda: generator([*LIST, TAIL]), loader, grain_rows, lambda: lambda: generator([*LIST])], 2)
)
def test_parts_are_read_whole(plain, make):
    """The last batch is padded, and the padding does not count."""
    found = fit(classifier(), Data(Listed(), test=make()), QUIET)
    rows = N if make in (loader,) or "TAIL" in str(make.__code__.co_names) else 7 * B
    z = X[:rows] @ np.asarray(found.state.learner.params["kernel"]) + np.asarray(found.state.learner.params["bias"])
    assert found.metrics["accuracy"] == pytest.approx((z.argmax(-1) == Y[:rows]).mean())


class Numbered:
    """Batches by number, with a length and without __iter__."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, t):
        return self.batches[t]


@pytest.mark.claims
def test_arrays_become_batches_and_predictions_follow_any_part(plain):
    arrays = {"x": X, "y": Y}
    found = fit(classifier(), Data(arrays, arrays, arrays), QUIET, batch_size=B)
    same = fit(classifier(), Data(Batches(arrays, B), test=Batches(arrays, 16)), QUIET)
    assert bits(found) == bits(same)
    expected = found.predict(Batches(arrays, 16))
    for part in (arrays, [*LIST, TAIL], generator([*LIST, TAIL]), Numbered([*LIST, TAIL])):
        np.testing.assert_allclose(found.predict(part), expected, rtol=1e-5, atol=1e-6)
    see = lambda scale, batch: scale * batch["x"]
    np.testing.assert_array_equal(run.map_batches(see, 2, [*LIST, TAIL]), 2 * X)


def test_epochs_of_what_has_a_length_and_early_stopping_over_a_stream(capsys):
    found = fit(
        classifier(), Data(loader(), valid=loader()), QUIET.replace(steps=None, epochs=2, patience=2, eval_every=3)
    )
    assert int(found.state.step) <= 16
    assert len([row for row in found.history if "valid/loss" in row]) >= 3
    assert re.search("train: .* 4 rows .* 7 ", capsys.readouterr().err)


@pytest.mark.claims
def test_a_stopped_fit_goes_on_behind_the_batches_that_it_has_seen(plain, tmp_path, capsys):
    fit(classifier(), Data(LIST), QUIET, steps=11, workdir=str(tmp_path))
    found = fit(classifier(), Data(generator(times=3)), QUIET.replace(workdir=str(tmp_path / "other")), steps=11)
    assert int(found.state.step) == 11
    later = fit(classifier(), Data(generator(times=3)), QUIET, workdir=str(tmp_path / "other"))
    assert bits(later) == bits(plain)
    assert "11 batches" in capsys.readouterr().err


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


def test_nothing_is_fetched_behind_an_error_nor_after_ctrl_c():
    """The source fails, or the main thread is interrupted while waiting for it: the thread ends with the fit."""

    def interrupt():
        end = time.monotonic() + 10
        while sys._current_frames()[threading.main_thread().ident].f_code.co_name != "wait" and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    for error, end in ((ZeroDivisionError, lambda: 1 / 0), (KeyboardInterrupt, interrupt)):
        asked, opened = [], []

        class Ending:
            def __iter__(self):
                opened.append(1)
                for t in range(7):
                    asked.append(t)
                    if t == 3:
                        end()
                    yield LIST[t]

        with pytest.raises(error):
            fit(classifier(), Ending(), QUIET)
        assert asked[-1] <= 3 + ahead.AHEAD * (error is KeyboardInterrupt)
        assert len(opened) == 1
        assert not fetching()


def test_ahead_fetches_in_order_what_nobody_has_asked_for_yet(monkeypatch):
    fetched, three = [], threading.Event()

    def fetch(seed, t):
        fetched.append((seed, t))
        if len(fetched) == 3:
            three.set()
        return 10 * seed + t

    one = Ahead(fetch, 4)
    assert one.get(1, 0) == 10
    assert three.wait(10)
    assert fetched == [(1, 0), (1, 1), (1, 2)]
    assert [one.get(1, t) for t in (1, 2, 3)] == [11, 12, 13]
    assert [one.get(2, 1), one.get(2, 2)] == [21, 22]
    one.close()
    broken = Ahead(lambda seed, t: 6 // (2 - t), 9)
    assert [broken.get(0, 0), broken.get(0, 1)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        broken.get(0, 2)
    assert broken.get(0, 3) == -6
    broken.close()
    assert [t for seed, t in fetched if seed == 1] == [0, 1, 2, 3]
    assert not fetching()
    monkeypatch.setattr(ahead, "LONGEST", 0.01)
    go_on = threading.Event()
    stuck = Ahead(lambda seed, t: t and go_on.wait(60), 4)
    stuck.get(0, 0)
    stuck.close()
    assert all(thread.daemon for thread in fetching())
    go_on.set()


def test_an_iterable_is_opened_once_an_epoch():
    """The batch that was read for its shapes is the first of the first pass."""

    class Opened:
        times = 0

        def __iter__(self):
            self.times += 1
            return iter(LIST)

    source = Opened()
    fit(classifier(), source, QUIET)
    assert source.times == 3


@pytest.mark.claims
def test_a_function_of_a_seed_may_make_arrays(plain):
    arrays = {"x": X, "y": Y}
    by_seed = lambda seed: {name: values[seed:] for name, values in arrays.items()}
    found = fit(classifier(), by_seed, QUIET, batch_size=B, seeds=2)
    for seed, one in enumerate(found.runs):
        rows = Batches(by_seed(seed), B)
        assert bits(one) == bits(fit(classifier(), rows, QUIET, seed=seed))
    assert digest_of_data(lambda seed: rows) == digest_of_data(rows)


def test_batches_may_be_arrays_alone():
    class Walk(State):
        sum: jax.Array

    def step(state, batch):
        return state.advance(sum=state.sum + batch.sum()), {"sum": batch.sum()}

    experiment = Experiment(lambda key: Walk.create(key, sum=np.float32(0)), step)
    found = fit(experiment, [batch["x"] for batch in LIST], QUIET, steps=14)
    assert float(found.state.sum) == pytest.approx(2 * X[: 7 * B].sum(), rel=1e-4)


def test_a_digest_of_a_stream_reads_nothing_of_it():
    once = Stream(iter(LIST))
    assert digest_of_data(once) == digest_of_data(Stream([{**batch, "x": batch["x"] + 1} for batch in LIST]))
    assert digest_of_data(once) != digest_of_data(Stream([{**batch, "x": batch["x"][:, :3]} for batch in LIST]))
    assert len(list(once)) == 7


@pytest.mark.claims
@pytest.mark.parametrize("parallel", ["jit", "pmap", "fsdp"])
def test_several_devices(parallel):
    """Four devices: a stream gives the bits of the same batches by number, and the metrics of one device."""
    batches = [{"x": X[i : i + 12], "y": Y[i : i + 12]} for i in range(0, 48, 12)]

    class Numbered:
        def __getitem__(self, t):
            return batches[t % 4]

    parts = [{name: rows[i : i + 7] for name, rows in {"x": X, "y": Y}.items()} for i in range(0, N, 7)]
    config = QUIET.replace(parallel=parallel, scan=16)
    four, same = (
        fit(classifier(), Data(train, test=test), config, devices=4)
        for train, test in ((iter(batches * 5), parts), (Numbered(), Batches({"x": X, "y": Y}, 7)))
    )
    assert bits(four) == bits(same)
    assert four.metrics == pytest.approx(same.metrics, rel=1e-6)
    assert four.metrics == pytest.approx(fit(classifier(), Data(batches, test=parts), QUIET).metrics, rel=1e-5)


def test_epochs_are_counted_in_batches_of_what_has_a_length():
    steps = lambda train: RunConfig(epochs=3, batch_size=B).resolve(Data(train)).steps
    for train in (LIST, {"x": X[:49], "y": Y[:49]}, lambda seed: LIST, lambda seed: {"x": X[:49]}, Listed7()):
        assert steps(train) == 21
    for endless in (generator(), lambda seed: generator(), Listed()):
        with pytest.raises(FlagError, match="--epochs"):
            steps(endless)


class Listed7(Listed):
    def __len__(self):
        return 7


class Rows:
    """A map-style data set as in PyTorch: entry i is one example."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i], Y[i]


class Frame:
    columns = ("x", "y")


class Endless:
    def __iter__(self):
        while True:
            yield LIST[0]

    def __len__(self):
        return sys.maxsize


def torch_rows():
    torch = pytest.importorskip("torch")
    return torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))


def torch_gradient():
    return {"x": pytest.importorskip("torch").tensor(X, requires_grad=True), "y": Y}


def counting():
    """An experiment whose steps must not run."""
    experiment = classifier()
    never = lambda _: pytest.fail("a step was made")

    def step(state, batch):
        jax.debug.callback(never, state.step)
        return experiment.step(state, batch)

    return experiment._replace(step=step)


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
    "rows of a torch data set": (lambda: fit(classifier(), torch_rows(), QUIET), "one example"),
    "a pandas table": (lambda: fit(classifier(), pytest.importorskip("pandas").DataFrame(X), QUIET), "DataFrame"),
    "a pair of arrays": (lambda: fit(classifier(), (X, Y), QUIET), '"x"'),
    "lists in a dict": (lambda: fit(classifier(), {"x": X.tolist(), "y": Y.tolist()}, QUIET), "x is a list"),
    "an empty dict": (lambda: fit(classifier(), {}, QUIET), "train"),
    "tensors with a gradient": (lambda: fit(classifier(), torch_gradient(), QUIET), "array x"),
    "columns of different lengths": (lambda: fit(classifier(), [{"x": X[:7], "y": Y[:6]}], QUIET), "x 7, y 6"),
    "integers beyond 32 bits": (
        lambda: fit(classifier(), [{"x": X[:7], "y": Y[:7].astype(np.int64) + 2**40}], QUIET), "train.0.: y"),
    "tuples without names": (lambda: fit(classifier(), [(X[:7], Y[:7], Y[:7])], QUIET), "tuple"),
    "arrays without names": (lambda: fit(classifier(), [X[:7]], QUIET), "data"),
    "no data": (lambda: fit(classifier(), None, QUIET), "no batch"),
    "other features": (lambda: fit(classifier(), [{"x": X[:7, :3], "y": Y[:7]}], QUIET), "example"),
    "rows that the devices do not divide": (lambda: fit(classifier(), LIST, QUIET, devices=2), "--devices.*7 rows"),
    "a function without a seed": (lambda: fit(classifier(), lambda: LIST, QUIET), "train.*seed"),
    "a function that makes a number": (lambda: fit(classifier(), lambda seed: 7, QUIET), "train: int"),
    "a part made of a seed": (
        lambda: fit(classifier(), Data(LIST, lambda seed: LIST), QUIET), "valid.*no arguments"),
    "a part that is a number": (lambda: fit(classifier(), Data(LIST, 7), QUIET), "valid"),
    "a part without end": (lambda: fit(classifier(), Data(LIST, Endless()), QUIET), "valid: .*Endless"),
    "a part without names": (lambda: fit(classifier(), Data(LIST, [(X[:7], Y[:7], Y[:7])]), QUIET), "valid.*tuple"),
    "a table to validate by": (lambda: fit(classifier(), Data(LIST, {"a": Frame()}), QUIET), "valid a"),
    "a test part without labels": (lambda: fit(counting(), Data(LIST, test=[{"x": X[:7]}]), QUIET), "data: .*'y'"),
    "a generator to watch": (
        lambda: fit(classifier(), Data(LIST, test=generator()), QUIET, watch_test=True), "test: a generator"),
    "no example": (lambda: classifier(example=None), "example"),
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
    "a generator that ends": (lambda: fit(classifier(), generator(), QUIET), "--steps: .* 7 full batches"),
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


class HandsOn(nn.Module):
    inner: nn.Module

    def __call__(self, x, **options):
        return self.inner(x, **options)


TOLD = [Train(), Training(), Deterministic(), DENSE, HandsOn(Train()), nn.Sequential([Deterministic(), lambda x: x])]


@pytest.mark.claims
@pytest.mark.parametrize("model", TOLD)
def test_a_module_is_told_in_its_own_words(model):
    experiment = classifier(model)
    state, batch = experiment.init(jax.random.key(0)), LIST[0]
    (kernel,) = (x for x in jax.tree.leaves(state.learner.params) if x.ndim == 2)
    z = X[:B] @ np.asarray(kernel)
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
    with pytest.raises(DataError, match="mine: this list_iterator"):
        list(once)
    spent = iter(LIST)
    again = Stream(lambda: spent, "mine")
    assert len(list(again)) == 7
    with pytest.raises(DataError, match=r"mine: .*pass"):
        list(again)
