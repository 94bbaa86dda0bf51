"""CIFAR-10 batches: generated, broken and malicious pickles, and the original files."""

import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from jaxdl.data import DataError, MissingData, load_images
from jaxdl.data.cifar import NAMES, read_pickle
from tests.data.python2 import ARRAY, STATE, TYPE, dumps

RNG = np.random.default_rng(0)
DATA = RNG.integers(0, 256, (7, 3072), dtype=np.uint8)
LABELS = [6, 9, 9, 4, 1, 0, 3]


def batch(data: np.ndarray = DATA, labels: list = LABELS) -> bytes:
    return dumps({"labels": labels, "data": data})


def write(folder, train: dict[int, bytes], test: bytes | None = None, meta: bytes | None = None):
    folder.mkdir(parents=True, exist_ok=True)
    for i, content in train.items():
        (folder / f"data_batch_{i}").write_bytes(content)
    (folder / "test_batch").write_bytes(batch(DATA[:2], LABELS[:2]) if test is None else test)
    if meta is not None:
        (folder / "batches.meta").write_bytes(meta)


def pixels(data: np.ndarray) -> np.ndarray:
    """Reorders planes of red, green and blue, 32 rows of 32 each, without a transpose."""
    images = np.zeros((len(data), 32, 32, 3), np.uint8)
    for c in range(3):
        for row in range(32):
            images[:, row, :, c] = data[:, c * 1024 + row * 32 : c * 1024 + row * 32 + 32]
    return images


@pytest.mark.parametrize("folder", ["", "cifar10", "cifar-10-batches-py", "cifar10/cifar-10-batches-py"])
def test_batches_that_are_there_are_joined(tmp_path, folder):
    write(tmp_path / folder, {2: batch(DATA[:5], LABELS[:5]), 5: batch(DATA[5:], LABELS[5:])})
    images = load_images("cifar10", tmp_path, valid=0)
    np.testing.assert_array_equal(images.train["x"], pixels(DATA))
    np.testing.assert_array_equal(images.test["x"], pixels(DATA[:2]))
    assert images.train["y"].tolist() == LABELS
    assert (images.train["x"].dtype, images.train["y"].dtype) == (np.uint8, np.int32)
    assert images.names == NAMES
    assert "7 training and 2 test images, 32x32x3" in images.note
    assert "7 of the 50,000" in images.note
    assert "data_batch_2, data_batch_5, test_batch" in images.note


def test_what_a_pickle_holds(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(dumps({"a": [1, 300, -7, "text", b"\xff"], "b": {}}))
    assert read_pickle(path) == {"a": [1, 300, -7, "text", "\xff"], "b": {}}
    path.write_bytes(b"\x80\x02](U\x01aq\x00h\x00r\x00\x01\x00\x00j\x00\x01\x00\x00e.")
    assert read_pickle(path) == ["a", "a", "a"]  # memoized and fetched with either size of index
    path.write_bytes(b"\x80\x02](U\x01aq\x00h\x01e.")
    with pytest.raises(DataError):
        read_pickle(path)


def test_batches_saved_again_by_python_3_are_not_the_original(tmp_path):
    write(tmp_path, {1: pickle.dumps({"data": DATA, "labels": LABELS}, 4)})
    with pytest.raises(DataError, match=r"data_batch_1: .*FRAME"):
        load_images("cifar10", tmp_path)


class Calls:
    """An object that is pickled as the call function(*arguments)."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def malicious(marker: str) -> dict[str, bytes]:
    command = f"touch {marker}"
    code = f"open({marker!r}, 'w')"

    def raw(module: str, name: str, *arguments: str) -> bytes:
        pushed = b"".join(b"V" + argument.encode() + b"\n" for argument in arguments)
        return b"\x80\x02}U\x04datac" + f"{module}\n{name}\n".encode() + b"(" + pushed + b"tRs."

    return {
        "os.system": pickle.dumps(Calls(os.system, command), 2),
        "os.system in a dict": pickle.dumps({"data": DATA, "labels": LABELS, "x": Calls(os.system, command)}, 4),
        "posix.system": raw("posix", "system", command),
        "eval": pickle.dumps(Calls(eval, code), 4),
        "exec": raw("builtins", "exec", code),
        "python 2 eval": raw("__builtin__", "eval", code),
        "open": raw("builtins", "open", marker, "w"),
        "getattr": raw("builtins", "getattr", marker, "upper"),
        "subprocess": raw("subprocess", "getoutput", command),
        "numpy.save": raw("numpy", "save", marker, marker),
        "numpy.fromfile": raw("numpy", "fromfile", marker),
        "numpy.load": raw("numpy", "load", marker),
        "numpy.memmap": raw("numpy", "memmap", marker, "u1", "w+"),
        "numpy.f2py": raw("numpy.f2py", "compile", code),
        "numpy.testing": raw("numpy.testing._private.utils", "runstring", code, ""),
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.dump\x93" + b"\x8c\x01a\x85R.",
        "dotted path": b"\x80\x04\x8c\x02os\x8c\x06system\x93"
        + b"\x8c"
        + bytes([len(command)])
        + command.encode()
        + b"\x85R.",
        "inst": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + command.encode() + b"'\no.",
        "newobj": b"\x80\x02cos\nsystem\n)\x81.",
        "extension registry": b"\x80\x02\x82\x01.",
        "persistent id": b"Ppid\n.",
        "binary persistent id": b"\x80\x02U\x03pidQ.",
        "copyreg": raw("copyreg", "_reconstructor", "x"),
        "codecs": raw("_codecs", "encode", "x", "latin1"),
        "array scalar": pickle.dumps(np.float32(1), 4),
        "its own module": raw("jaxdl.data.cifar", "read_bytes", marker),
    }


@pytest.mark.parametrize("name", malicious(""))
def test_nothing_is_called(tmp_path, name):
    marker, path = tmp_path / "ran", tmp_path / "data_batch_1"
    path.write_bytes(malicious(str(marker))[name])
    with pytest.raises(DataError) as e:
        read_pickle(path)
    assert str(e.value).startswith(f"{path}: ")
    assert "\n" not in str(e.value)
    assert not marker.exists()


def forged(state: bytes) -> bytes:
    """Returns a batch whose array has a forged state."""
    labels = b"U\x06labels](K\1K\2e"
    return b"\x80\x02}(" + labels + b"U\x04data" + ARRAY + state + b"bu."


U1 = TYPE % b"u1" + STATE % b"|"
FORGED = {
    "bytes too short": forged(b"(K\x01K\x02M\x00\x0c\x86" + U1 + b"\x89U\x04abcdt"),
    "no images": forged(b"(K\x01K\x00M\x00\x0c\x86" + U1 + b"\x89U\x00t"),
    "negative shape": forged(b"(K\x01J\xff\xff\xff\xffM\x00\x0c\x86" + U1 + b"\x89U\x04abcdt"),
    "huge shape": forged(b"(K\x01J\xff\xff\xff\x7fM\x00\x0c\x86" + U1 + b"\x89U\x04abcdt"),
    "shape of text": forged(b"(K\x01U\x01aM\x00\x0c\x86" + U1 + b"\x89U\x04abcdt"),
    "one dimension": forged(b"(K\x01M\x00\x0c\x85" + U1 + b"\x89U\x04abcdt"),
    "list for bytes": forged(b"(K\x01K\x02M\x00\x0c\x86" + U1 + b"\x89]t"),
    "no dtype": forged(b"(K\x01K\x02M\x00\x0c\x86U\x02u1\x89U\x04abcdt"),
    "no state": forged(b"N"),
    "called ndarray": b"\x80\x02cnumpy\nndarray\nK\x05\x85R.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "empty": b"",
    "unknown protocol": b"\x80\xff}.",
    "no stop": b"\x80\x02}",
    "text": b"not a pickle at all",
    "popped stack": b"\x80\x02u.",
    "nothing": b"\x80\x02.",
    "unhashable key": b"\x80\x02}(]Nu.",
    "key without a value": b"\x80\x02}(U\x01au.",
    "items of a list": b"\x80\x02](U\x01aNu.",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_pickles_are_refused(tmp_path, name):
    write(tmp_path, {1: FORGED[name]})
    with pytest.raises(DataError) as e:
        load_images("cifar10", tmp_path)
    assert str(e.value).startswith(f"{tmp_path / 'data_batch_1'}: ")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r" + struct.pack("<I", 2**24) + b"0.",  # the C unpickler makes a table of 256 MB for this
        FORGED["huge bytes"],
        FORGED["huge shape"],
    ],
)
def test_announced_sizes_cost_no_memory(tmp_path, content):
    write(tmp_path, {1: content})
    tracemalloc.start()
    with pytest.raises(DataError):
        load_images("cifar10", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**7


NO_DATA = "uint8 [N, 3072]"
BATCHES = {
    "a list": ([1, 2], NO_DATA),
    "no labels": ({"data": DATA}, NO_DATA),
    "nothing": ({}, NO_DATA),
    "fine labels": ({"data": DATA, "fine_labels": LABELS}, NO_DATA),
    "data a list": ({"data": [1], "labels": LABELS}, NO_DATA),
    "data of floats": ({"data": DATA / 255, "labels": LABELS}, NO_DATA),
    "data of two bytes": ({"data": DATA.astype(np.int16), "labels": LABELS}, NO_DATA),
    "data too narrow": ({"data": DATA[:, :-1].copy(), "labels": LABELS}, NO_DATA),
    "no images": ({"data": DATA[:0], "labels": []}, NO_DATA),
    "labels a dict": ({"data": DATA, "labels": {}}, NO_DATA),
    "too few labels": ({"data": DATA, "labels": LABELS[:-1]}, "6 labels for 7"),
    "label 10": ({"data": DATA, "labels": [10, *LABELS[1:]]}, "image 0 has label 10"),
    "label -1": ({"data": DATA, "labels": [*LABELS[:6], -1]}, "image 6 has label -1"),
    "label text": ({"data": DATA, "labels": ["cat\n", *LABELS[1:]]}, "image 0 has a label of type str"),
    "label in a list": ({"data": DATA, "labels": [[2], *LABELS[1:]]}, "image 0 has a label of type list"),
    "stored by columns": ({"data": np.asfortranarray(DATA), "labels": LABELS}, "pickle"),
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("file", ["data_batch_3", "test_batch"])
def test_pickles_that_are_no_batches(tmp_path, name, file):
    content, message = BATCHES[name]
    write(tmp_path, {3: batch(DATA, LABELS)})
    (tmp_path / file).write_bytes(dumps(content))
    with pytest.raises(DataError) as e:
        load_images("cifar10", tmp_path)
    assert str(e.value).startswith(f"{tmp_path / file}: ")
    assert message in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("meta", [[], {}, {"label_names": ["a"]}, {"label_names": list(range(10))}])
def test_wrong_class_names(tmp_path, meta):
    write(tmp_path, {1: batch(DATA, LABELS)}, meta=dumps(meta))
    with pytest.raises(DataError, match=r"batches.meta: "):
        load_images("cifar10", tmp_path)


def test_cut_off_at_every_byte_and_flipped(tmp_path):
    path, content = tmp_path / "file", batch(DATA[:2, :97].copy())
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            read_pickle(path)
    rng = np.random.default_rng(0)
    write(tmp_path, {})
    for at, change in zip(rng.integers(0, len(content), 400), rng.integers(1, 256, 400), strict=True):
        (tmp_path / "data_batch_1").write_bytes(content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])
        with pytest.raises(DataError) as e:
            load_images("cifar10", tmp_path)
        assert "\n" not in str(e.value)


def test_missing_and_misplaced(tmp_path):
    with pytest.raises(MissingData, match=r"cifar10/cifar-10-batches-py/test_batch"):
        load_images("cifar10", tmp_path)
    write(tmp_path, {})
    with pytest.raises(MissingData, match=r"data_batch_1 to data_batch_5"):
        load_images("cifar10", tmp_path)
    (tmp_path / "data_batch_4").mkdir()
    with pytest.raises(DataError, match=r"data_batch_4: .*folder"):
        load_images("cifar10", tmp_path)


def test_original_files(data_dir):
    images = load_images("cifar10", data_dir, valid=0)
    assert images.names == NAMES
    assert images.train["x"].shape[1:] == (32, 32, 3)
    assert images.test["x"].shape == (10_000, 32, 32, 3)
    assert images.train["y"][:5].tolist() == [6, 9, 9, 4, 1]  # frog, truck, truck, deer, automobile
    assert np.bincount(images.test["y"]).tolist() == [1000] * 10
    assert "of the 50,000 training images" in images.note or len(images.train["y"]) == 50_000
    # The reference is the standard library's unpickler, which is safe for the original file.
    with (data_dir / "cifar10" / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        reference = pickle.load(file, encoding="bytes")
    np.testing.assert_array_equal(images.test["x"][:100], pixels(reference[b"data"][:100]))
    assert images.test["y"].tolist() == reference[b"labels"]
