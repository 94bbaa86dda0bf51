"""Pickles of CIFAR-10 that would need gigabytes or overflow Python's stack."""

import gzip
import pickletools
import struct

import pytest

from jaxdl.data import cifar
from tests.data.python2 import dumps
from tests.reliability.test_security import limited

TYPE = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R"
DEEP = b"K\1" + b"\x85" * 700_000  # nested tuples: Python crashes when it computes their hash
PICKLES = {  # an ordinary unpickler would need gigabytes or overflow the stack
    "marks": b"\x80\x02" + b"(" * (16 << 20),
    "lists": b"\x80\x02" + b"]" * (16 << 20),
    "sets": b"\x80\x04" + b"\x8f" * (4 << 20),
    "bytes that are announced": b"\x80\x05\x96" + struct.pack("<Q", 1 << 30) + b"x.",
    "a deep key": b"\x80\x02}" + DEEP + b"Ns.",
    "a deep key among others": b"\x80\x02}(U\1aN" + DEEP + b"Nu.",
    "a deep key of a dict": b"(" + DEEP + b"Nd.",
    "a deep name of a type": b"\x80\x02cnumpy\ndtype\n)" + DEEP + b"\x85R.",
    "a deep name in a set": b"\x80\x04\x8f(" + DEEP + b"\x90.",
    "a name of megabytes": b"\x80\x02cnumpy\ndtype\nX" + struct.pack("<I", 8 << 20) + b"n" * (8 << 20) + b"\x85R.",
}  # fmt: skip


@pytest.mark.claims
@pytest.mark.parametrize("name", PICKLES)
def test_pickles_that_blow_up(name, tmp_path):
    """Runs in a child process, because deep nesting crashes Python."""
    path = tmp_path / "test_batch.gz"
    path.write_bytes(gzip.compress(PICKLES[name], 1))
    told, _ = limited(1 << 29, "data.cifar.read_pickle(path)", path)
    assert told.startswith(f"{path}: ")
    assert "pickle" in told.removeprefix(str(path))
    assert "MemoryError" not in told


def test_an_original_batch_is_far_below_the_limits(tmp_path):
    """The original files have 10,000 labels and file names."""
    names = [f"{i:05d}_s_{i:06d}.png" for i in range(10_000)]
    batch = dumps({"labels": list(range(10)) * 1000, "filenames": names})
    assert sum(1 for _ in pickletools.genops(batch)) < cifar.STEPS / 20
    (tmp_path / "file").write_bytes(batch)
    assert cifar.read_pickle(tmp_path / "file")["filenames"] == names
