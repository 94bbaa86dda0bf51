"""Arrays in memory and the order in which they are visited: batch t is a pure function of (seed, t)."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Order = Callable[[int, int], NDArray[np.int32]]
Arrays = Mapping[str, Any]
Take = Callable[[Arrays, Any], dict[str, Any]]

# JAX computes in 32 bits by default; narrowing here keeps dtypes the same on the host and on the device.
NARROW = {"float64": np.float32, "complex128": np.complex64, "int64": np.int32, "uint64": np.uint32}
EPOCHS_KEPT = 16  # permutations in memory: a batch may span two epochs, and several seeds may alternate


def shuffled(length: int, batch_size: int) -> Order:
    """Returns the order of epochs without replacement.

    Batch t has positions t·B ... t·B + B - 1 of the concatenated epochs; epoch e is
    ``np.random.default_rng((seed, e)).permutation(length)``. A partial last batch is carried into the next epoch, so
    every batch is full and every row is seen once per epoch.

    Args:
      length: number of rows, at least 1.
      batch_size: B, at least 1; may be larger than length.

    Returns:
      order(seed, t) -> int32 [B]: a pure function for all t >= 0.

    Raises:
      ValueError: length or batch_size below 1; seed or t below 0.
    """
    _at_least_one("length", length)
    _at_least_one("batch_size", batch_size)

    @functools.lru_cache(maxsize=EPOCHS_KEPT)
    def epoch(seed: int, e: int) -> NDArray[np.int32]:
        return np.random.default_rng((seed, e)).permutation(length).astype(np.int32)

    def order(seed: int, t: int) -> NDArray[np.int32]:
        if seed < 0 or t < 0:
            raise ValueError(f"seed={seed} and t={t} must not be negative")
        pieces, position, missing = [], int(t) * batch_size, batch_size
        while missing:
            e, start = divmod(position, length)
            pieces.append(epoch(int(seed), e)[start : start + missing])
            position += len(pieces[-1])
            missing -= len(pieces[-1])
        return np.concatenate(pieces)  # a copy, so that the cached permutation cannot be modified

    return order


def take_rows(arrays: Arrays, rows: Any) -> dict[str, Any]:
    """Returns the rows [B] of each array: name -> [B, ...]."""
    return {name: values[rows] for name, values in arrays.items()}


class Batches:
    """Arrays, the definition of row i, and the order in which batches of rows are drawn."""

    def __init__(
        self,
        arrays: Mapping[str, ArrayLike],
        batch_size: int,
        order: Order | None = None,
        *,
        take: Take = take_rows,
        length: int | None = None,
    ):
        """Stores the arrays, unchanged except for JAX's default precision.

        float64 becomes float32, int64 int32, uint64 uint32 and complex128 complex64.

        Args:
          arrays: name -> [length, ...]; numbers or booleans.
          batch_size: B, rows in a batch.
          order: (seed, t) -> int32 [B], the rows of batch t; ``shuffled(length, batch_size)`` if not given.
          take: (arrays, rows [B]) -> name -> [B, ...], for NumPy and JAX arrays, if a row is not an entry of every
            array: a window of a long text, a pair of images.
          length: number of rows if `take` is given; the arrays may then have any lengths.

        Raises:
          ValueError: there are no arrays or rows, lengths differ, values are no numbers or do not fit into 32 bits, or
            B is below 1.
        """
        _at_least_one("batch_size", batch_size)
        self.arrays: dict[str, np.ndarray] = {name: narrowed(name, values) for name, values in arrays.items()}
        self.length: int = same_length(self.arrays) if length is None else length
        _at_least_one("length", self.length)
        self.batch_size: int = batch_size
        self.take: Take = take
        self.order: Order = order or shuffled(self.length, batch_size)

    @property
    def example(self) -> dict[str, np.ndarray]:
        """A batch for its shapes and dtypes: the first B rows, repeated from the start if there are fewer."""
        return self.take(self.arrays, np.arange(self.batch_size) % self.length)

    def batch(self, seed: int, t: int) -> dict[str, np.ndarray]:
        """Returns batch t of this seed: name -> [B, ...]."""
        return self.take(self.arrays, self.order(seed, t))

    def in_order(self, size: int = 0) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Yields (rows int32 [B], valid float32 [B]): every row once; the end is padded with the last row and valid 0.

        B is `size`, or the batch size if that is 0.
        """
        size = size or self.batch_size
        for start in range(0, self.length, size):
            rows = np.arange(start, start + size, dtype=np.int32)
            yield np.minimum(rows, np.int32(self.length - 1)), (rows < self.length).astype(np.float32)

    def digest(self) -> str:
        """Returns the SHA-256 of the names, dtypes, shapes and bytes of the arrays, and of `length`.

        `batch_size`, `order` and `take` are not included.
        """
        found = hashlib.sha256(f"length {int(self.length)}".encode())
        for name, array in sorted(self.arrays.items()):
            found.update(repr((name, str(array.dtype), array.shape)).encode())
            found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))  # bfloat16 has no buffer interface
        return found.hexdigest()


def same_length(arrays: Mapping[str, np.ndarray]) -> int:
    """Returns the common leading length of all arrays; ValueError if it does not exist or is 0."""
    if not arrays:
        raise ValueError("no arrays: give at least one, such as {'x': ..., 'y': ...}")
    scalars = [name for name, values in arrays.items() if np.ndim(values) == 0]
    if scalars:
        raise ValueError(f"arrays without rows: {', '.join(scalars)}; every array needs a leading axis of examples")
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"arrays differ in length: {listed}; all must have the same number of rows")
    length = next(iter(lengths.values()))
    if length == 0:
        raise ValueError(f"arrays are empty: {', '.join(lengths)}; at least one row is needed")
    return length


def narrowed(name: str, values: ArrayLike) -> np.ndarray:
    """Returns values as an array of at most 32 bits; ValueError for text, objects and larger integers."""
    try:
        array = np.asarray(values)
    except (RuntimeError, TypeError) as error:  # a tensor with a gradient, or on a GPU
        raise ValueError(f"array {name} cannot be read: {' '.join(str(error).split())[:120]}") from error
    if array.dtype.kind in "OUSMmT" or array.dtype.type is np.void:  # bfloat16 has kind V too, but its own type
        raise ValueError(f"array {name} has dtype {array.dtype}; expected numbers or booleans")
    dtype = NARROW.get(array.dtype.name)
    if dtype is None:
        return array
    if array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise ValueError(f"array {name} has integers beyond {np.dtype(dtype)}: {array.min()} to {array.max()}")
    return array.astype(dtype)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")
