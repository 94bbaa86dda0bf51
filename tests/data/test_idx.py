"""IDX files: every dtype against bytes from struct, broken files, and the original ones."""

import gzip
import hashlib
import struct
import tracemalloc

import numpy as np
import pytest

from jaxdl.data import DataError, MissingData, load_images, read_idx
from jaxdl.data import idx as idx_module

TYPES = {
    "u1": (0x08, "B"),
    "i1": (0x09, "b"),
    "i2": (0x0B, "h"),
    "i4": (0x0C, "i"),
    "f4": (0x0D, "f"),
    "f8": (0x0E, "d"),
}


def idx_bytes(array: np.ndarray) -> bytes:
    """Writes the format with struct: the header and every number."""
    code, letter = TYPES[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + struct.pack(f">{array.size}{letter}", *array.ravel().tolist())


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [(5,), (3, 2), (7, 3, 2), (2, 3, 1, 5)])
@pytest.mark.parametrize("packed", [False, True])
def test_every_dtype(tmp_path, kind, shape, packed):
    values = np.random.default_rng(0).integers(0 if kind == "u1" else -99, 100, shape).astype(kind)
    path = tmp_path / "a-file"
    path.write_bytes(gzip.compress(idx_bytes(values)) if packed else idx_bytes(values))
    read = read_idx(path)
    assert read.dtype == np.dtype(kind)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, values)


def complaint(path) -> str:
    """Returns the reader's DataError as text, or ""; any other exception fails the test."""
    try:
        read_idx(path)
    except DataError as e:
        return str(e)
    return ""


GOOD = idx_bytes(np.arange(7 * 3 * 2, dtype=np.uint8).reshape(7, 3, 2))
HEADER = struct.pack(">BBBBIII", 0, 0, 8, 3, 7, 3, 2)
BROKEN = {
    "empty": (b"", "0 bytes"),
    "three bytes": (GOOD[:3], "3 bytes"),
    "first byte": (b"\1" + GOOD[1:], "0x01000803"),
    "second byte": (GOOD[:1] + b"\1" + GOOD[2:], "0x00010803"),
    "little-endian magic": (b"\3\x08\0\0" + GOOD[4:], "0x03080000"),
    "unknown type": (b"\0\0\x0a" + GOOD[3:], "0x00000a03"),
    "no axes": (b"\0\0\x08\0" + GOOD[4:], "0x00000800"),
    "many axes": (b"\0\0\x08\xff" + GOOD[4:], "0x000008ff"),
    "text": (b"label,pixel\n5,0\n", "0x6c616265"),
    "html": (b"<!DOCTYPE html>", "0x3c21444f"),
    "only magic": (GOOD[:4], "byte 4 of the 16-byte header"),
    "half a header": (GOOD[:11], "byte 11 of the 16-byte header"),
    "no data": (HEADER, "only 0"),
    "one byte short": (GOOD[:-1], "42 bytes of data, but only 41"),
    "one byte long": (GOOD + b"\0", "too long"),
    "twice": (GOOD * 2, "too long"),
    "sizes swapped for more": (
        struct.pack(">BBBBIII", 0, 0, 8, 3, 8, 3, 2) + GOOD[16:],
        "48 bytes of data, but only 42",
    ),
    "too large": (struct.pack(">BBBBIII", 0, 0, 8, 3, 2**31, 28, 28), "4,294,967,296"),
    "overflowing": (struct.pack(">BBBBIII", 0, 0, 14, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "4,294,967,296"),
    "gzip of nothing": (gzip.compress(b""), "0 bytes"),
    "gzip cut off": (gzip.compress(GOOD)[:-3], "gzip"),
    "gzip header only": (gzip.compress(GOOD)[:10], "gzip"),
    "gzip checksum": (gzip.compress(GOOD)[:-5] + b"\0" + gzip.compress(GOOD)[-4:], "gzip"),
    "gzip garbage": (b"\x1f\x8b" + bytes(range(40)), "gzip"),
    "gzip bomb": (gzip.compress(HEADER + bytes(10**8)), "too long"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_name_the_file_and_the_place(tmp_path, name):
    content, message = BROKEN[name]
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError) as e:
        read_idx(path)
    assert str(e.value).startswith(f"{path}: ")
    assert message in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("packed", [False, True])
def test_cut_off_at_every_byte(tmp_path, packed):
    content = gzip.compress(GOOD) if packed else GOOD
    path = tmp_path / "images"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            read_idx(path)


def test_flipped_bytes_are_refused_or_read_never_worse(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "images"
    for content in (GOOD, gzip.compress(GOOD)):
        for at, change in zip(rng.integers(0, len(content), 150), rng.integers(1, 256, 150), strict=True):
            path.write_bytes(content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])
            assert "\n" not in complaint(path)


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(HEADER + bytes(10**8)))
    tracemalloc.start()
    with pytest.raises(DataError):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_a_folder_and_nothing_in_its_place(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}: .*folder"):
        read_idx(tmp_path)
    with pytest.raises(MissingData, match=f"{tmp_path}/nothing: "):
        read_idx(tmp_path / "nothing")


NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def small_mnist(folder, ending="", **changes):
    """Writes 7 training and 5 test images; `changes` replaces whole files by position: file0 ... file3."""
    rng = np.random.default_rng(1)
    arrays = [
        *(rng.integers(0, 256, (7, 28, 28)), rng.integers(0, 10, 7)),
        *(rng.integers(0, 256, (5, 28, 28)), rng.integers(0, 10, 5)),
    ]
    arrays = [changes.get(f"file{i}", array.astype(np.uint8)) for i, array in enumerate(arrays)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(NAMES, arrays, strict=True):
        content = idx_bytes(array)
        (folder / (name + ending)).write_bytes(gzip.compress(content) if ending else content)
    return arrays


@pytest.mark.parametrize(("name", "folder"), [("mnist", "mnist"), ("fashion_mnist", "fashion-mnist"), ("mnist", "")])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_four_files_become_images(tmp_path, name, folder, ending):
    arrays = small_mnist(tmp_path / folder, ending)
    images = load_images(name, tmp_path, valid=0)
    for part, (x, y) in ((images.train, arrays[:2]), (images.test, arrays[2:])):
        assert (part["x"].dtype, part["y"].dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(part["x"][..., 0], x)
        np.testing.assert_array_equal(part["y"], y)
    assert len(images.names) == 10
    assert "7 training and 5 test images, 28x28x1" in images.note
    assert "not the original files" in images.note
    assert not images.original


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_original_content_is_recognised_however_it_is_packed(tmp_path, monkeypatch, ending):
    arrays = small_mnist(tmp_path, ending)
    sums = tuple(hashlib.md5(idx_bytes(array)).hexdigest() for array in arrays)
    monkeypatch.setitem(idx_module.ORIGINALS, "mnist", sums)
    images = load_images("mnist", tmp_path)
    assert "not the original" not in images.note
    assert images.original
    with pytest.raises(DataError, match="--dataset=mnist"):
        load_images("fashion_mnist", tmp_path)


LABELS = np.arange(7, dtype=np.uint8)


@pytest.mark.parametrize(
    ("changes", "file", "message"),
    [
        ({"file1": LABELS[:6]}, 1, "6 labels for 7 images"),
        ({"file1": LABELS + np.uint8(5)}, 1, "image 5 has label 10"),
        ({"file1": LABELS.astype(np.int32)}, 1, "int32 [7]"),
        ({"file1": LABELS[:, None]}, 1, "uint8 [7, 1]"),
        ({"file0": np.zeros((7, 27, 28), np.uint8)}, 0, "uint8 [7, 27, 28]"),
        ({"file0": np.zeros((7, 784), np.uint8)}, 0, "uint8 [7, 784]"),
        ({"file0": np.zeros((7, 28, 28), np.float32)}, 0, "float32"),
        ({"file0": np.zeros((0, 28, 28), np.uint8)}, 0, "no images"),
        ({"file0": LABELS}, 0, "uint8 [7]"),
        ({"file3": np.full(5, 255, np.uint8)}, 3, "image 0 has label 255"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path, changes, file, message):
    small_mnist(tmp_path, **changes)
    with pytest.raises(DataError) as e:
        load_images("mnist", tmp_path)
    assert str(e.value).startswith(f"{tmp_path / NAMES[file]}: ")
    assert message in str(e.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(tmp_path, name):
    small_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / name).unlink()
    with pytest.raises(MissingData, match=f"mnist/{name} or {name}") as e:
        load_images("mnist", tmp_path)
    assert str(e.value).startswith(f"--data_dir={tmp_path}: ")


def test_a_folder_in_the_place_of_a_file(tmp_path):
    small_mnist(tmp_path)
    (tmp_path / NAMES[2]).unlink()
    (tmp_path / NAMES[2]).mkdir()
    with pytest.raises(DataError, match=f"{NAMES[2]}: .*folder"):
        load_images("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "first", "class_name", "mean"),
    # The published means of the training pixels for normalisation: 0.1307 and 0.2860.
    [("mnist", [5, 0, 4, 1, 9], "5", 0.1307), ("fashion_mnist", [9, 0, 0, 3, 0], "Ankle boot", 0.2860)],
)
def test_original_files(data_dir, name, first, class_name, mean):
    images = load_images(name, data_dir, valid=0)
    assert images.train["x"].shape == (60_000, 28, 28, 1)
    assert images.test["x"].shape == (10_000, 28, 28, 1)
    assert images.train["y"][:5].tolist() == first
    assert images.names[first[0]] == class_name
    assert images.train["x"].mean() / 255 == pytest.approx(mean, abs=5e-5)
    assert "original" not in images.note
    assert images.original
    if name == "fashion_mnist":
        assert np.bincount(images.train["y"]).tolist() == [6000] * 10
        assert np.bincount(images.test["y"]).tolist() == [1000] * 10
    else:  # class counts of the test set as published with the set
        assert np.bincount(images.test["y"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
