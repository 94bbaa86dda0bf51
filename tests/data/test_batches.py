"""Batches and their order, against the definition written out as a loop."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from jaxdl.data import Batches, shuffled

SIZES = [(7, 3), (7, 7), (5, 13), (1, 2), (13, 1)]  # (length, batch_size): carried, exact, several epochs a batch


def stream(length: int, seed: int, count: int) -> list[int]:
    rows: list[int] = []
    epoch = 0
    while len(rows) < count:
        rows += list(np.random.default_rng((seed, epoch)).permutation(length))
        epoch += 1
    return rows[:count]


@pytest.mark.parametrize(("length", "batch_size"), SIZES)
def test_order_is_the_stream_of_epochs_cut_into_batches(length, batch_size):
    order, steps = shuffled(length, batch_size), 23
    rows = np.concatenate([order(11, t) for t in range(steps)])
    assert rows.dtype == np.int32
    assert rows.tolist() == stream(length, 11, steps * batch_size)


@pytest.mark.parametrize(("length", "batch_size"), SIZES)
def test_every_position_resumes(length, batch_size):
    straight = [shuffled(length, batch_size)(3, t) for t in range(41)]
    for start in range(41):
        resumed = shuffled(length, batch_size)
        for t in range(start, 41):
            np.testing.assert_array_equal(resumed(3, t), straight[t])


def test_any_step_in_any_order_after_anything_else():
    order = shuffled(11, 4)
    straight = {(seed, t): shuffled(11, 4)(seed, t) for seed in range(5) for t in range(40)}
    for seed, t in np.random.default_rng(0).permutation(list(straight)):  # more epochs than are kept in memory
        np.testing.assert_array_equal(order(seed, t), straight[seed, t])


def test_each_epoch_is_a_permutation_and_epochs_and_seeds_differ():
    order = shuffled(12, 4)
    epochs = [np.concatenate([order(0, 3 * e + i) for i in range(3)]) for e in range(4)]
    assert all(sorted(rows) == list(range(12)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 4
    assert not np.array_equal(order(0, 0), order(1, 0))


def test_kept_permutations_cannot_be_written():
    order = shuffled(6, 6)
    order(0, 0)[:] = 0
    assert sorted(order(0, 0)) == list(range(6))


def test_late_steps_do_not_overflow():
    assert shuffled(60_000, 128)(0, 2**31).shape == (128,)


def test_order_refuses_negative_arguments():
    order = shuffled(5, 2)
    with pytest.raises(ValueError, match=r"t=-1"):
        order(0, -1)
    with pytest.raises(ValueError, match=r"seed=-3"):
        order(-3, 0)
    with pytest.raises(ValueError, match=r"length=0"):
        shuffled(0, 2)


def test_batch_gathers_the_rows_of_its_order():
    arrays = {"x": np.arange(7 * 3).reshape(7, 3), "y": np.arange(7) * 10}
    source = Batches(arrays, 5)
    for t in (4, 0, 9):
        batch, rows = source.batch(2, t), shuffled(7, 5)(2, t)
        for name in arrays:
            np.testing.assert_array_equal(batch[name], [arrays[name][row] for row in rows])


def test_own_order_is_used():
    source = Batches({"x": np.arange(7.0)}, 2, order=lambda seed, t: np.array([t % 7, seed], np.int32))
    assert source.batch(5, 3)["x"].tolist() == [3, 5]


@pytest.mark.parametrize(("length", "batch_size"), SIZES)
def test_in_order_counts_every_row_once(length, batch_size):
    counts, pads = np.zeros(length), 0
    for rows, valid in Batches({"x": np.zeros(length)}, batch_size).in_order():
        assert rows.shape == valid.shape == (batch_size,)
        assert (rows.dtype, valid.dtype) == (np.int32, np.float32)
        counts[rows[valid == 1]] += 1
        assert (rows[valid == 0] == length - 1).all()
        pads += (valid == 0).sum()
    np.testing.assert_array_equal(counts, np.ones(length))
    assert pads == -length % batch_size


@pytest.mark.parametrize("length", [2, 11])
def test_example_has_the_shapes_and_dtypes_of_a_batch(length):
    source = Batches({"x": np.zeros((length, 3, 2)), "y": list(range(length))}, 5)
    example, batch = source.example, source.batch(0, 0)
    assert {k: (v.shape, v.dtype) for k, v in example.items()} == {k: (v.shape, v.dtype) for k, v in batch.items()}
    assert example["y"].tolist() == [i % length for i in range(5)]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("f8", "f4"), ("i8", "i4"), ("u8", "u4"), ("c16", "c8"), ("f2", "f2"), ("u1", "u1"), ("?", "?"), ("i4", "i4")],
)
def test_dtypes_on_the_way_in(given, kept):
    array = Batches({"x": np.array([0, 1, 1], given)}, 2).arrays["x"]
    assert array.dtype == kept
    assert array.tolist() == [0, 1, 1]


def test_bfloat16_is_kept():
    assert Batches({"x": np.zeros(3, ml_dtypes.bfloat16)}, 2).arrays["x"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((7, 2)), "label": np.zeros(5)}, r"x 7, label 5"),
        ({}, r"no arrays"),
        ({"x": np.zeros((0, 2))}, r"empty: x"),
        ({"x": np.float32(1)}, r"x; .*leading axis"),
        ({"x": np.array(["a", "b"])}, r"x has dtype <U1"),
        ({"x": np.array([object()])}, r"x has dtype object"),
        ({"x": np.zeros(2, [("a", "f4")])}, r"x has dtype"),
        ({"x": np.array(["2020-01-01"], "M8[D]")}, r"x has dtype datetime64"),
        ({"x": np.array([0, 2**31])}, r"x .*int32.* 2147483648"),
        ({"x": np.array([-(2**31) - 1, 0])}, r"x .*int32.* -2147483649"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(arrays, message):
    with pytest.raises(ValueError, match=message) as e:
        Batches(arrays, 2)
    assert "\n" not in str(e.value)


def test_wrong_batch_size_is_refused():
    with pytest.raises(ValueError, match=r"batch_size=0"):
        Batches({"x": np.zeros(3)}, 0)


def test_digest_depends_on_all_arrays_and_the_length():
    x, y = np.arange(14, dtype=np.float32).reshape(7, 2), np.arange(7, dtype=np.int32)
    flipped = x.copy()
    flipped.view(np.uint32)[3, 1] ^= 1
    taken = {"take": lambda arrays, rows: {"x": arrays["x"][rows]}}
    different = [
        Batches({"x": x, "y": y}, 2),
        Batches({"x": flipped, "y": y}, 2),
        Batches({"x": x, "y": y.view(np.float32)}, 2),
        Batches({"x": x, "z": y}, 2),
        Batches({"x": x[::-1], "y": y[::-1]}, 2),
        Batches({"x": x.reshape(7, 2, 1), "y": y}, 2),
        Batches({"x": x}, 2),
        Batches({"x": x}, 2, **taken, length=5),
        Batches({"x": x.astype(np.float16)}, 2),
        Batches({"x": x.astype(np.float16).view(ml_dtypes.bfloat16)}, 2),
        Batches({"x": x.view(">f4")}, 2),
        Batches({"x": np.zeros((7, 0), np.float32)}, 2),
    ]
    assert len({batches.digest() for batches in different}) == len(different)
    same = Batches({"y": y, "x": np.asfortranarray(x)}, 5, order=lambda seed, t: np.zeros(5, np.int32), take=dict)
    assert same.digest() == different[0].digest()


@pytest.mark.claims
def test_digest_is_the_same_in_another_process():
    arrays = "{'b': np.ones(7), 'a': np.eye(7)}"
    code = f"import numpy as np; from jaxdl.data import Batches; print(Batches({arrays}, 2).digest())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Batches({"a": np.eye(7), "b": np.ones(7)}, 3).digest()
