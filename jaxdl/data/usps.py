"""USPS digits, zip.train and zip.test of "The Elements of Statistical Learning": a digit and 256 values per line."""

from pathlib import Path

import numpy as np

from jaxdl.data.errors import DataError
from jaxdl.data.files import LINE, FileSet, read_bytes

USPS = FileSet("usps", ("usps", ""), ("zip.train", "zip.test"))
VALUES = 256  # 16 x 16
LONGEST = 64 * (1 + VALUES)  # bytes of a line
LIMIT = 1 << 28  # bytes of text; the training file has 14.5 MB


def read_usps(data_dir: str | Path | None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[Path]]:
    """Reads both files, plain or gzipped, from data_dir or its folder ``usps``.

    Returns:
      train and test, each {"x": float32 [N, 16, 16, 1] in 0..1, the file's -1..1 as (x + 1) / 2; "y": int32 [N]};
      the files read.

    Raises:
      MissingData: a file does not exist.
      DataError: a line is not a digit 0 to 9 and 256 values in -1..1.
    """
    paths = USPS.paths(data_dir)
    train, test = (_read(path) for path in paths)
    return train, test, paths


def _read(path: Path) -> dict[str, np.ndarray]:
    rows = []
    for number, match in enumerate(LINE.finditer(read_bytes(path, LIMIT)), 1):
        if len(match[0]) > LONGEST:
            told = f"line {number}: {len(match[0]):,} bytes"
            raise DataError(f"{path}: {told}; expected a digit and {VALUES} values in at most {LONGEST:,} bytes")
        fields = match[0].split()
        if not fields:
            continue
        if len(fields) != 1 + VALUES:
            raise DataError(f"{path}: line {number}: {len(fields)} fields; expected a digit and {VALUES} values")
        try:
            rows.append(np.array(fields, np.float32))
        except ValueError as e:
            raise DataError(f"{path}: line {number}: {e}; expected a digit and {VALUES} values") from e
        label, values = rows[-1][0], rows[-1][1:]
        if label not in range(10):
            raise DataError(f"{path}: line {number}: label {fields[0].decode('ascii', 'replace')}; expected 0 to 9")
        if not (np.abs(values) <= 1).all():
            wrong = int(np.flatnonzero(~(np.abs(values) <= 1))[0])
            raise DataError(f"{path}: line {number}: value {wrong + 1} is {values[wrong]}; values must be in -1..1")
    if not rows:
        raise DataError(f"{path}: contains no images; expected a digit and {VALUES} values per line")
    table = np.stack(rows)
    return {"x": (table[:, 1:].reshape(-1, 16, 16, 1) + 1) / 2, "y": table[:, 0].astype(np.int32)}
