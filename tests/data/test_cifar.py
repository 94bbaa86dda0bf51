"""CIFAR-10 batches: generated pickles, broken and malicious ones, and the original files."""

import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from jaxdl.data import DataError, MissingData, load_images
from jaxdl.data.cifar import NAMES, read_pickle

RNG = np.random.default_rng(0)
DATA = RNG.integers(0, 256, (7, 3072), dtype=np.uint8)
LABELS = [6, 9, 9, 4, 1, 0, 3]


def python_2_batch(data: np.ndarray, labels: list[int]) -> bytes:
    """The opcodes that Python 2 and NumPy 1 wrote into the original files, protocol 2."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    shape = b"".join(b"M" + struct.pack("<H", n) for n in data.shape) + b"\x86"
    content = b"T" + struct.pack("<I", data.nbytes) + data.tobytes()
    state = b"(K\x01" + shape + dtype + b"\x89" + content + b"tb"
    items = text(b"labels") + b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e" + text(b"data") + array + state
    return b"\x80\x02}(" + items + b"u."


def write(folder, train: dict[int, bytes], test: bytes | None = None, meta: bytes | None = None):
    folder.mkdir(parents=True, exist_ok=True)
    for i, content in train.items():
        (folder / f"data_batch_{i}").write_bytes(content)
    (folder / "test_batch").write_bytes(python_2_batch(DATA[:2], LABELS[:2]) if test is None else test)
    if meta is not None:
        (folder / "batches.meta").write_bytes(meta)


def pixels(data: np.ndarray) -> np.ndarray:
    """Red, green, blue planes of 32 rows of 32, one number at a time."""
    images = np.zeros((len(data), 32, 32, 3), np.uint8)
    for c in range(3):
        for row in range(32):
            images[:, row, :, c] = data[:, c * 1024 + row * 32 : c * 1024 + row * 32 + 32]
    return images


@pytest.mark.parametrize("folder", ["", "cifar10", "cifar-10-batches-py", "cifar10/cifar-10-batches-py"])
def test_batches_that_are_there_are_joined(tmp_path, folder):
    write(tmp_path / folder, {2: python_2_batch(DATA[:5], LABELS[:5]), 5: python_2_batch(DATA[5:], LABELS[5:])})
    images = load_images("cifar10", tmp_path, valid=0)
    np.testing.assert_array_equal(images.train["x"], pixels(DATA))
    np.testing.assert_array_equal(images.test["x"], pixels(DATA[:2]))
    assert images.train["y"].tolist() == LABELS
    assert (images.train["x"].dtype, images.train["y"].dtype) == (np.uint8, np.int32)
    assert images.names == NAMES
    assert "7 training and 2 test images, 32x32x3" in images.note
    assert "(7 of the 50,000 training images: data_batch_2, data_batch_5, test_batch in" in images.note


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("key", [str, str.encode])
def test_batches_saved_again_by_python_3(tmp_path, protocol, key):
    batch = pickle.dumps({key("data"): DATA, key("labels"): LABELS}, protocol)
    meta = pickle.dumps({"label_names": list("abcdefghij")}, protocol)
    write(tmp_path, {1: batch}, batch, meta)
    images = load_images("cifar10", tmp_path)
    np.testing.assert_array_equal(images.test["x"], pixels(DATA))
    assert images.names == tuple("abcdefghij")


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">i4", "<i8", "f2", ">f4", "f8"])
@pytest.mark.parametrize("protocol", [3, 5])
def test_arrays_of_numbers_are_read(tmp_path, dtype, protocol):
    path = tmp_path / "file"
    for array in (
        np.arange(6).astype(dtype).reshape(3, 2),
        np.asfortranarray(np.arange(6).reshape(3, 2)).astype(dtype),
    ):
        path.write_bytes(pickle.dumps([array, {"a": (b"b", 1, 2.5, None, True)}], protocol))
        standin, rest = read_pickle(path)
        np.testing.assert_array_equal(standin.value, array)
        assert standin.value.dtype == array.dtype
        assert rest == {"a": (b"b", 1, 2.5, None, True)}


def complaint(path) -> str:
    """What the reader says against the file; any other exception fails the test."""
    try:
        read_pickle(path)
    except DataError as e:
        return str(e)
    return ""


class Calls:
    """Pickles as the call function(*arguments)."""

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
        "class": b"\x80\x02cjaxdl.data.cifar\n_Reader\n.",
        "its own module": raw("jaxdl.data.cifar", "read_bytes", marker),
    }


@pytest.mark.parametrize("name", malicious(""))
def test_nothing_is_called(tmp_path, name):
    marker, path = tmp_path / "ran", tmp_path / "data_batch_1"
    path.write_bytes(malicious(str(marker))[name])
    with pytest.raises(DataError) as e:
        read_pickle(path)
    assert str(e.value).startswith(f"{path}: not read as a pickle")
    assert "\n" not in str(e.value)
    assert not marker.exists()


def forged(state: bytes) -> bytes:
    """An array with a forged state, or a dtype with one."""
    return b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R" + state + b"b."


TYPE = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R"
FORGED = {
    "object array": pickle.dumps(np.array([{}, None], object), 4),
    "object array, protocol 5": pickle.dumps(np.array([{}, None], object), 5),
    "structured array": pickle.dumps(np.zeros(2, [("a", "u1"), ("b", "f4")]), 4),
    "dates": pickle.dumps(np.zeros(2, "M8[s]"), 4),
    "text array": pickle.dumps(np.array(["a"]), 4),
    "long doubles": pickle.dumps(np.zeros(2, "c16"), 4),
    "bytes too short": forged(b"(K\x01K\x05\x85" + TYPE + b"\x89U\x04abcdt"),
    "bytes too long": forged(b"(K\x01K\x03\x85" + TYPE + b"\x89U\x04abcdt"),
    "negative shape": forged(b"(K\x01J\xff\xff\xff\xffJ\xfc\xff\xff\xff\x86" + TYPE + b"\x89U\x04abcdt"),
    "huge shape": forged(b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86" + TYPE + b"\x89U\x04abcdt"),
    "shape of text": forged(b"(K\x01U\x01a\x85" + TYPE + b"\x89U\x04abcdt"),
    "list for bytes": forged(b"(K\x01K\x00\x85" + TYPE + b"\x89]t"),
    "no dtype": forged(b"(K\x01K\x04\x85U\x02u1\x89U\x04abcdt"),
    "no state": forged(b"N"),
    "state of a class": b"\x80\x02cnumpy\ndtype\n}b.",
    "attributes of a class": b"\x80\x02cnumpy\ndtype\nN}U\x0c__setstate__Ns\x86b.",
    "dtype of a subarray": forged(
        b"(K\x01K\x04\x85" + TYPE + b"(K\x03U\x01|K\x01NNJ\0\0\0\0J\0\0\0\0K\0tb\x89U\x04abcdt"
    ),
    "called ndarray": b"\x80\x02cnumpy\nndarray\nK\x05\x85R.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "empty": b"",
    "unknown protocol": b"\x80\xff}.",
    "no stop": b"\x80\x02}",
    "text": b"not a pickle at all",
    "popped stack": b"\x80\x020.",
    "unhashable key": b"\x80\x02}]Ns.",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_pickles_are_refused(tmp_path, name):
    path = tmp_path / "data_batch_1"
    path.write_bytes(FORGED[name])
    with pytest.raises(DataError) as e:
        read_pickle(path)
    assert str(e.value).startswith(f"{path}: ")
    assert "\n" not in str(e.value)


def test_the_message_says_what_the_pickle_asks_for(tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(malicious("x")["posix.system"])
    assert "it asks for posix.system" in complaint(path)
    path.write_bytes(FORGED["object array"])
    assert "an array of type 'O8'" in complaint(path)
    path.write_bytes(FORGED["bytes too short"])
    assert "4 bytes for an array uint8 [5]" in complaint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r" + struct.pack("<I", 2**24) + b"0.",  # the C unpickler makes a table of 256 MB for this
        b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
        forged(b"(K\x01J\xff\xff\xff\x7f\x85" + TYPE + b"\x89U\x04abcdt"),
    ],
)
def test_announced_sizes_cost_no_memory(tmp_path, content):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    tracemalloc.start()
    assert complaint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**7


def test_many_arrays_of_the_same_bytes_cost_no_memory(tmp_path):
    path, data = tmp_path / "file", bytes(4 * 10**5)
    dtype = b"cnumpy\ndtype\nU\x02i4K\0K\x01\x87R(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    array = forged(b"(K\x01J" + struct.pack("<I", 10**5) + b"\x85" + dtype + b"\x89h\0t")[2:-1]
    # The bytes go into memo 0; 500 big-endian arrays are then built of them.
    path.write_bytes(b"\x80\x02T" + struct.pack("<I", len(data)) + data + b"q\0]" + (array + b"a") * 500 + b".")
    tracemalloc.start()
    arrays = read_pickle(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(arrays) == 500
    assert arrays[0].value.shape == (10**5,)
    assert peak < 10 * len(data)


def test_stand_ins_are_not_changed_by_a_forged_pickle(tmp_path):
    path = tmp_path / "good"
    path.write_bytes(pickle.dumps(DATA, 3))
    for content in FORGED.values():
        (tmp_path / "forged").write_bytes(content)
        with pytest.raises(DataError):
            read_pickle(tmp_path / "forged")
    np.testing.assert_array_equal(read_pickle(path).value, DATA)


BATCHES = {
    "a list": ([1, 2], "holds a list; a CIFAR-10 batch is a dict"),
    "no labels": ({"data": DATA}, "no labels in it"),
    "nothing": ({}, "no data and no labels in it"),
    "fine labels": ({"data": DATA, "fine_labels": LABELS}, "no labels in it"),
    "data a list": ({"data": [1], "labels": LABELS}, "data is list; uint8 [N, 3072] is needed"),
    "data of floats": ({"data": DATA / 255, "labels": LABELS}, "data is float64 [7, 3072]"),
    "data too narrow": ({"data": DATA[:, :-1], "labels": LABELS}, "data is uint8 [7, 3071]"),
    "data as images": ({"data": DATA.reshape(7, 3, 32, 32), "labels": LABELS}, "data is uint8 [7, 3, 32, 32]"),
    "no images": ({"data": DATA[:0], "labels": []}, "data is uint8 [0, 3072]"),
    "too few labels": ({"data": DATA, "labels": LABELS[:-1]}, "6 labels for 7 images"),
    "labels a dict": ({"data": DATA, "labels": {}}, "a dict of labels for 7 images"),
    "label 10": ({"data": DATA, "labels": [10, *LABELS[1:]]}, "label 10 at image 0; labels are 0 to 9"),
    "label -1": ({"data": DATA, "labels": [*LABELS[:6], -1]}, "label -1 at image 6"),
    "label 2.0": ({"data": DATA, "labels": [2.0, *LABELS[1:]]}, "label 2.0 at image 0"),
    "label text": ({"data": DATA, "labels": ["cat\n", *LABELS[1:]]}, r"label 'cat\n' at image 0"),
    "label True": ({"data": DATA, "labels": [True, *LABELS[1:]]}, "label True at image 0"),
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("file", ["data_batch_3", "test_batch"])
def test_pickles_that_are_no_batches(tmp_path, name, file):
    content, message = BATCHES[name]
    write(tmp_path, {3: python_2_batch(DATA, LABELS)})
    (tmp_path / file).write_bytes(pickle.dumps(content, 4))
    with pytest.raises(DataError) as e:
        load_images("cifar10", tmp_path)
    assert str(e.value).startswith(f"{tmp_path / file}: {message}")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("meta", [[], {}, {"label_names": ["a"]}, {"label_names": list(range(10))}])
def test_wrong_class_names(tmp_path, meta):
    write(tmp_path, {1: python_2_batch(DATA, LABELS)}, meta=pickle.dumps(meta, 4))
    with pytest.raises(DataError, match=r"batches.meta: "):
        load_images("cifar10", tmp_path)


def test_cut_off_at_every_byte_and_flipped(tmp_path):
    path, content = tmp_path / "file", python_2_batch(DATA[:2, :97], LABELS)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            read_pickle(path)
    rng = np.random.default_rng(0)
    for at, change in zip(rng.integers(0, len(content), 400), rng.integers(1, 256, 400), strict=True):
        path.write_bytes(content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])
        assert "\n" not in complaint(path)


def test_missing_and_misplaced(tmp_path):
    with pytest.raises(MissingData, match=r"no cifar10/cifar-10-batches-py/test_batch or .* in it"):
        load_images("cifar10", tmp_path)
    write(tmp_path, {})
    with pytest.raises(MissingData, match=r"no data_batch_1 to data_batch_5"):
        load_images("cifar10", tmp_path)
    (tmp_path / "data_batch_4").mkdir()
    with pytest.raises(DataError, match=r"data_batch_4: is a folder"):
        load_images("cifar10", tmp_path)


def test_original_files(data_dir):
    images = load_images("cifar10", data_dir, valid=0)
    assert images.names == NAMES
    assert images.train["x"].shape[1:] == (32, 32, 3)
    assert images.test["x"].shape == (10_000, 32, 32, 3)
    assert images.train["y"][:5].tolist() == [6, 9, 9, 4, 1]  # frog, truck, truck, deer, automobile
    assert np.bincount(images.test["y"]).tolist() == [1000] * 10
    assert "of the 50,000 training images" in images.note or len(images.train["y"]) == 50_000
    # Against the standard library's own unpickler, on the file that is known to be the original one.
    with (data_dir / "cifar10" / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        reference = pickle.load(file, encoding="bytes")
    np.testing.assert_array_equal(images.test["x"][:100], pixels(reference[b"data"][:100]))
    assert images.test["y"].tolist() == reference[b"labels"]
