"""USPS text files: generated files in both number formats, broken files, and the original ones."""

import gzip

import numpy as np
import pytest

from jaxdl.data import DataError, MissingData, load_images

VALUES = np.round(np.random.default_rng(0).uniform(-1, 1, (7, 256)), 3)
LABELS = [6, 5, 4, 7, 3, 0, 9]


def lines(label_form: str, value_form: str) -> list[str]:
    return [
        " ".join([label_form.format(label), *(value_form.format(v) for v in row)])
        for label, row in zip(LABELS, VALUES, strict=True)
    ]


GOOD = lines("{:.4f}", "{:.4f}")


def write(folder, train: bytes, ending="", test: bytes | None = None):
    folder.mkdir(exist_ok=True)
    test = "\n".join(lines("{}", "{:g}")[:3]).encode() if test is None else test
    for name, content in (("zip.train", train), ("zip.test", test)):
        (folder / (name + ending)).write_bytes(gzip.compress(content) if ending else content)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("newline", ["\n", " \r\n"])
@pytest.mark.parametrize("folder", ["usps", "."])
def test_both_writings(tmp_path, ending, newline, folder):
    write(tmp_path / folder, (newline.join(GOOD) + newline).encode(), ending)
    images = load_images("usps", tmp_path, valid=0)
    assert (images.train["x"].dtype, images.train["y"].dtype) == (np.float32, np.int32)
    np.testing.assert_allclose(images.train["x"], (VALUES.reshape(7, 16, 16, 1) + 1) / 2, atol=1e-6)
    np.testing.assert_allclose(images.test["x"], images.train["x"][:3], atol=1e-6)
    assert images.train["y"].tolist() == LABELS
    assert images.names == tuple("0123456789")


def broken(at: int, old: str | None, new: str) -> bytes:
    copy = list(GOOD)
    fields = copy[at].split()
    copy[at] = new if old is None else " ".join(new if f"{i}" == old else f for i, f in enumerate(fields))
    return "\n".join(copy).encode()


BROKEN = {
    "empty": (b"", "empty"),
    "blank": (b"\n \n", "no images"),
    "label 10": (broken(2, "0", "10.0000"), "line 3: label 10.0000"),
    "label -1": (broken(2, "0", "-1"), "line 3: label -1"),
    "label 2.5": (broken(0, "0", "2.5"), "line 1: label 2.5"),
    "label nan": (broken(0, "0", "nan"), "line 1: label nan"),
    "label text": (broken(0, "0", "six"), "line 1: "),
    "value text": (broken(6, "9", "x"), "line 7: "),
    "value not UTF-8": (broken(6, "9", "x").replace(b"x", b"\xff"), "line 7: "),
    "value 1.001": (broken(3, "256", "1.001"), "line 4: value 256 is 1.00"),
    "value nan": (broken(3, "1", "nan"), "line 4: value 1 is nan"),
    "value inf": (broken(3, "1", "-inf"), "line 4: value 1 is -inf"),
    "value in 0..255": (broken(3, "1", "255"), "line 4: value 1 is 255.0"),
    "one value short": (broken(1, "256", ""), "line 2: 256 fields"),
    "one value more": (broken(1, "256", "0 0"), "line 2: 258 fields"),
    "commas": ("\n".join(GOOD).replace(" ", ",").encode(), "line 1: 1 fields"),
    "another file": (b"The data are in two gzipped files", "line 1: 7 fields"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_broken_files_name_the_line(tmp_path, name, ending):
    content, message = BROKEN[name]
    write(tmp_path, content, ending)
    with pytest.raises(DataError) as e:
        load_images("usps", tmp_path, valid=0)
    said = str(e.value)
    assert said.startswith(f"{tmp_path / 'zip.train'}{ending}: ")
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize("packed", [False, True])
def test_cut_off_at_20_places(tmp_path, packed):
    content = "\n".join(GOOD).encode()
    content = gzip.compress(content) if packed else content
    for length in np.linspace(1, len(content) - 30, 20).astype(int):
        write(tmp_path, content[:length])
        # A text file that is cut at the end of a line cannot be recognized as truncated.
        if packed or content[length : length + 1] != b"\n":
            with pytest.raises(DataError):
                load_images("usps", tmp_path, valid=0)


def test_missing_and_misplaced(tmp_path):
    with pytest.raises(MissingData, match=r"usps/zip.train or zip.train"):
        load_images("usps", tmp_path, valid=0)
    write(tmp_path, "\n".join(GOOD).encode(), ".gz")
    (tmp_path / "zip.test.gz").unlink()
    with pytest.raises(MissingData, match=r"zip.test"):
        load_images("usps", tmp_path, valid=0)
    (tmp_path / "zip.test").mkdir()
    with pytest.raises(DataError, match=r"zip.test: .*folder"):
        load_images("usps", tmp_path, valid=0)


def test_original_files(data_dir):
    images = load_images("usps", data_dir, valid=0)
    assert images.train["x"].shape == (7291, 16, 16, 1)
    assert images.test["x"].shape == (2007, 16, 16, 1)
    # The table of zip.info.txt.
    assert np.bincount(images.train["y"]).tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert np.bincount(images.test["y"]).tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    assert images.train["y"][0] == 6
    assert images.train["x"].min() == 0
    assert images.train["x"].max() == 1
    # Line 1 reads ... -0.6310 0.8620 ... from its ninth field on: pixels 7 and 8 of the first row.
    np.testing.assert_allclose(images.train["x"][0, 0, 7:9, 0], [(1 - 0.631) / 2, (1 + 0.862) / 2], rtol=1e-6)
