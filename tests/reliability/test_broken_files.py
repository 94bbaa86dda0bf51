"""R11: a broken data file of any format is refused in one line with its name, and nothing is read from it."""

import gzip
import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from jaxdl.data import DataError, MissingData, load_folder, load_images, load_text, read_csv
from tests.data.python2 import dumps

CUTS = 20
rng = np.random.default_rng(0)
PIXELS = rng.integers(256, size=(7, 28, 28), dtype=np.uint8)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def batch(count=5, labels=None):
    data = rng.integers(256, size=(count, 3072), dtype=np.uint8)
    return dumps({"data": data, "labels": labels or [i % 10 for i in range(count)]})


def picture(form, side=16):
    out = io.BytesIO()
    Image.fromarray(rng.integers(256, size=(side, side, 3), dtype=np.uint8)).save(out, form)
    return out.getvalue()


def digits(lines=6, label=None):
    row = lambda i: f"{i % 10 if label is None else label} " + " ".join(f"{v:.3f}" for v in rng.uniform(-1, 1, 256))
    return "\n".join(map(row, range(lines))).encode() + b"\n"


CSV = "size;kind;price\n" + "".join(f"{i};{'ab'[i % 2]};{i * 2.5}\n" for i in range(40))
TEXT = "All happy families are alike. " * 60

# format -> (good files by name, how they are read, the file that is damaged)
FORMATS = {
    "idx": (
        {
            "mnist/train-images-idx3-ubyte": idx(PIXELS),
            "mnist/train-labels-idx1-ubyte": idx(np.arange(7)),
            "mnist/t10k-images-idx3-ubyte": idx(PIXELS[:3]),
            "mnist/t10k-labels-idx1-ubyte": idx(np.arange(3)),
        },
        lambda root: load_images("mnist", root, valid=0),
        "mnist/train-images-idx3-ubyte",
    ),
    "usps": (
        {"usps/zip.train": digits(), "usps/zip.test": digits(3)},
        lambda root: load_images("usps", root, valid=0),
        "usps/zip.train",
    ),
    "cifar": (
        {"cifar10/data_batch_1": batch(), "cifar10/test_batch": batch(3)},
        lambda root: load_images("cifar10", root, valid=0),
        "cifar10/data_batch_1",
    ),
    "csv": ({"table.csv": CSV.encode()}, lambda root: read_csv(root / "table.csv", target="price"), "table.csv"),
    "text": ({"text.txt": TEXT.encode()}, lambda root: load_text(file=root / "text.txt"), "text.txt"),
    "png": (
        {f"{kind}/{i}.png": picture("PNG") for kind in ("cat", "dog") for i in range(5)},
        lambda root: load_folder(root),
        "dog/3.png",
    ),
    "jpeg": (
        {f"{kind}/{i}.jpg": picture("JPEG") for kind in ("cat", "dog") for i in range(5)},
        lambda root: load_folder(root),
        "dog/3.jpg",
    ),
}


def cut(part):
    return lambda content: content[: int(part * len(content))]


def line(number, wrong):
    """Replaces a line of the text."""

    def damage(content):
        lines = content.split(b"\n")
        lines[number] = wrong
        return b"\n".join(lines)

    return damage


def cases():
    """Yields (id, format, content -> broken content, or None for a folder instead of the file)."""
    for name in FORMATS:
        yield f"{name}-empty", name, lambda content: b""
        yield f"{name}-folder", name, None
        if name != "text":  # every UTF-8 content is a valid text
            yield (
                f"{name}-noise",
                name,
                lambda content: bytes(rng.integers(128, 256, size=len(content), dtype=np.uint8)),
            )
        yield f"{name}-broken-gzip", name, lambda content: gzip.compress(content)[:-9]
    for name in ("csv", "text"):
        yield f"{name}-latin-1", name, lambda content: content[:50] + "é".encode("latin-1") + content[50:]
        yield f"{name}-utf-16", name, lambda content: content.decode().encode("utf-16")
    for name in ("idx", "cifar", "png"):
        for i in range(CUTS):
            yield f"{name}-cut-{i}", name, cut((i + 0.5) / CUTS)
    for i in range(1, CUTS, 2):
        yield f"jpeg-cut-{i}", "jpeg", cut(i / CUTS)
        yield f"usps-cut-{i}", "usps", cut(i / CUTS - 0.01)
    for i, magic in enumerate((b"\1\0\x08\x03", b"\0\0\x07\x03", b"\0\0\x08\0", b"\0\0\x08\x09", b"\0\0\x0d\x03")):
        yield f"idx-magic-{i}", "idx", lambda content, magic=magic: magic + content[4:]
    yield "idx-count", "idx", lambda content: content[:7] + b"\x09" + content[8:]
    yield "idx-huge", "idx", lambda content: content[:4] + b"\x7f" * 12 + content[16:]
    yield "idx-more", "idx", lambda content: content + b"\0"
    yield "idx-fewer-images", "idx", lambda content: idx(PIXELS[:6])
    yield "idx-size", "idx", lambda content: idx(PIXELS[:, :27])
    yield "idx-none", "idx", lambda content: idx(PIXELS[:0])
    yield "usps-label", "usps", lambda content: digits(label=10)
    yield "usps-label-huge", "usps", lambda content: digits(label=10**4000)
    yield "usps-label-half", "usps", lambda content: digits(label=0.5)
    yield "usps-value", "usps", lambda content: content.replace(b" 0.", b" 7.", 1)
    yield "usps-nan", "usps", lambda content: content.replace(b" 0.", b" nan ", 1)
    yield "usps-word", "usps", line(2, b"one two three")
    yield "cifar-label", "cifar", lambda content: batch(labels=[0, 1, 2, 3, 10])
    yield "cifar-label-negative", "cifar", lambda content: batch(labels=[0, 1, 2, 3, -1])
    yield "cifar-label-huge", "cifar", lambda content: pickle.dumps({"data": b"", "labels": [10**5000]}, protocol=2)
    yield "cifar-label-in-a-list", "cifar", lambda content: batch(labels=[0, 1, 2, 3, [10]])
    yield "cifar-key-huge", "cifar", lambda content: pickle.dumps({10**5000: 1, (10**5000,): 2}, protocol=4)
    yield "cifar-label-text", "cifar", lambda content: batch(labels=[0, 1, 2, 3, "4"])
    yield "cifar-count", "cifar", lambda content: batch(labels=[0, 1, 2])
    yield "cifar-no-data", "cifar", lambda content: dumps({"labels": [1]})
    yield "cifar-list", "cifar", lambda content: dumps([1, 2])
    yield "cifar-calls", "cifar", lambda content: b"cos\nsystem\n(S'true'\ntR."
    yield "csv-fields", "csv", line(7, b"1;a")
    yield "csv-more-fields", "csv", line(7, b"1;a;2;3")
    yield "csv-number", "csv", line(7, b"7;a;dear")
    yield "csv-infinite", "csv", line(7, b"7;a;inf")
    yield "csv-long-number", "csv", line(7, b"7;a;" + b"9" * 5000)
    yield (
        "csv-no-target",
        "csv",
        lambda content: b"\n".join(row.rpartition(b";")[0] + b";" for row in content.split(b"\n")),
    )
    yield "csv-quote", "csv", line(7, b'7;"a;1')
    yield "csv-zero", "csv", line(7, b"7;\0;1")
    yield "csv-header", "csv", line(0, b"1;2;3")
    yield "csv-header-twice", "csv", line(0, b"price;kind;price")
    yield "csv-no-rows", "csv", lambda content: content.split(b"\n")[0]
    yield "csv-no-such-column", "csv", line(0, b"size;kind;prize")
    yield "text-short", "text", lambda content: content[:900]
    yield "png-other-size", "png", lambda content: picture("PNG", 17)
    yield "png-words", "png", lambda content: b"not a picture"
    yield "png-ppm", "png", lambda content: picture("PPM")


def written(name, root, damage):
    """Writes the files of a format and returns the damaged one."""
    files, _, broken = FORMATS[name]
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path != broken or damage is not None:
            (root / path).write_bytes(content if path != broken else damage(content))
        else:
            (root / path).mkdir()
    return root / broken


@pytest.mark.parametrize("name", FORMATS)
def test_the_good_files_are_read(name, tmp_path):
    written(name, tmp_path, lambda content: content)
    assert FORMATS[name][1](tmp_path)


CASES = list(cases())


@pytest.mark.parametrize(("name", "damage"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_broken_file_is_one_line_with_its_name(name, damage, tmp_path, promise):
    path = written(name, tmp_path, damage)
    with pytest.raises((DataError, MissingData)) as caught:
        FORMATS[name][1](tmp_path)
    told = str(caught.value)
    counted = name == "idx" and "train-labels" in told  # names the labels by path and the images by name
    promise("R11", "\n" not in told and path.name in told and (str(path) in told or counted), 1, told)


@pytest.mark.parametrize("name", FORMATS)
def test_a_pipe_in_the_place_of_a_file(name, tmp_path, promise):
    path = written(name, tmp_path, lambda content: content)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError) as caught:
        FORMATS[name][1](tmp_path)
    promise("R11", "\n" not in str(caught.value) and str(path) in str(caught.value), 1, str(caught.value))


def test_there_are_enough_cases():
    assert len(CASES) >= 60


@pytest.mark.full
@pytest.mark.parametrize("name", FORMATS)
def test_fuzzed(name, tmp_path, promise):
    """Random damage is either read, as a changed pixel must be, or refused in one line."""
    draw, passed, refused, tried = np.random.default_rng(1), 0, 0, 100

    def damage(content):
        content = bytearray(content)
        for _ in range(int(draw.integers(1, 20))):
            at, kind = int(draw.integers(len(content) or 1)), int(draw.integers(3))
            if kind == 0 and content:
                content[at % len(content)] = int(draw.integers(256))
            elif kind == 1:
                del content[at : at + int(draw.integers(50))]
            else:
                content[at:at] = bytes(draw.integers(256, size=int(draw.integers(50)), dtype=np.uint8))
        return bytes(content)

    for i in range(tried):
        root = tmp_path / str(i)
        path = written(name, root, damage)
        try:
            FORMATS[name][1](root)
            passed += 1
        except (DataError, MissingData) as error:
            refused += 1
            passed += "\n" not in str(error) and path.name in str(error)
    promise("R11", passed, tried, f"fuzzed files of {name}, {refused} refused, seed 1")
