"""Paths that are not regular files, links, and names that are not UTF-8."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jaxdl.data import DataError, load_folder, load_images, load_text, read_csv, read_idx, read_images
from tests.reliability.test_broken_files import CSV, FORMATS, TEXT, picture, written

READERS = {
    "csv": lambda path: read_csv(path, target="price"),
    "text": lambda path: load_text(file=path),
    "idx": read_idx,
    "pictures": lambda path: read_images([path], (16, 16, 3)),
}


def pipe(path):
    os.mkfifo(path)
    return path


def listening(path):
    os.mknod(path, stat.S_IFSOCK | 0o600)
    return path


def link_to_a_pipe(path):
    path.symlink_to(pipe(path.with_name("pipe")))
    return path


SPECIAL = {
    "pipe": pipe,
    "link to a pipe": link_to_a_pipe,
    "socket": listening,
    "device": lambda path: Path("/dev/zero"),
    "terminal": lambda path: Path("/dev/tty"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", SPECIAL)
def test_a_path_that_is_not_a_regular_file_is_refused_without_waiting(kind, reader, tmp_path):
    path = SPECIAL[kind](tmp_path / "table.png")
    if not path.exists():
        pytest.skip(f"no {path} here")
    with pytest.raises(DataError) as caught:
        READERS[reader](path)
    told = str(caught.value)
    assert told.startswith(f"{path}: ")
    assert "regular file" in told
    assert "\n" not in told


@pytest.mark.parametrize("name", FORMATS)
def test_links_are_followed(name, tmp_path):
    path = written(name, tmp_path / "data", lambda content: content)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert FORMATS[name][1](tmp_path / "data")


@pytest.mark.claims
def test_standard_input_is_no_file():
    code = "from jaxdl.data import read_csv; read_csv('/dev/stdin', target='y')"
    done = subprocess.run([sys.executable, "-c", code], input=b"x,y\n1,2\n", capture_output=True, timeout=100)
    told = done.stderr.decode().splitlines()[-1]
    assert "DataError: /dev/stdin: " in told, ascii(told)


def named(root, name):
    """Creates a folder of two classes; the second has this name, in bytes."""
    for kind in (b"cat", name):
        folder = os.path.join(os.fsencode(root), kind)
        os.makedirs(folder)
        for i in range(5):
            with open(os.path.join(folder, b"%d.png" % i), "wb") as file:
                file.write(picture("PNG"))
    return root


@pytest.mark.parametrize("part", ["", "train", "test", "val"])
def test_a_class_whose_name_is_not_utf_8_is_refused(part, tmp_path):
    for other in ("train", "test", "val") if part else ("",):
        named(tmp_path / other, b"d\xffg" if other == part else b"dog")
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path)
    told = str(caught.value)
    assert "\n" not in told
    assert re.match(r".*/d\\udcffg: .*UTF-8", told)


NAMES = (b"d\xffta", b"two\nlines", b"\x1b[2Jclear", "ünï".encode())


@pytest.mark.parametrize("name", NAMES)
def test_notes_on_files_of_any_name_can_be_encoded(name, tmp_path):
    """Notes, names and the paths of predictions have no lone surrogates for any bytes in a path."""
    root = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    named(root / "train", b"dog")
    named(root / "test", b"dog")
    named(root / os.fsdecode(name), b"x")
    table = root / f"{root.name}.csv"
    table.write_text(CSV)
    text = root / f"{root.name}.txt"
    text.write_text(TEXT)
    images = load_folder(root)
    told = [images.note, images.name, read_csv(table, target="price").note, load_text(file=text).note]
    told += read_images([root / "train" / "dog"], (16, 16, 3))[0]
    assert all(line.encode() for line in told)
    for form, known in (("idx", "mnist"), ("usps", "usps"), ("cifar", "cifar10")):
        written(form, root, lambda content: content)
        assert load_images(known, root, valid=0).note.encode()
