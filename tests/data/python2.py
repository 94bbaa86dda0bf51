"""Writes pickles as Python 2 and NumPy 1 wrote the original files of CIFAR-10."""

import struct
from typing import Any

import numpy as np

ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
TYPE = b"cnumpy\ndtype\nU\x02%sK\0K\x01\x87R"
STATE = b"(K\x03U\x01%sNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"


def dumps(value: Any) -> bytes:
    """Pickles with protocol 2, without the memo: dicts, lists, text, whole numbers below 2^31 and 2-d arrays."""
    return b"\x80\x02" + _written(value) + b"."


def _written(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_written(part) for item in value.items() for part in item) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_written, value)) + b"e"
    if isinstance(value, int):
        return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
    if isinstance(value, bytes):
        size = b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<I", len(value))
        return size + value
    if isinstance(value, str):
        return _written(value.encode())
    code = value.dtype.str
    dtype = TYPE % code[1:].encode() + STATE % code[:1].encode()
    shape = b"".join(b"M" + struct.pack("<H", n) for n in value.shape) + b"\x86"
    order = b"\x89" if value.flags.c_contiguous else b"\x88"
    return ARRAY + b"(K\x01" + shape + dtype + order + _written(np.asarray(value).tobytes("A")) + b"tb"
