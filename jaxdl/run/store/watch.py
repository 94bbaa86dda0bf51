"""Arrays computed from the state at every evaluation, and stored for figures of the training."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.data import DataError
from jaxdl.run.engine.distributed import is_first
from jaxdl.run.show.report import log
from jaxdl.run.store.files import read_bytes, replacing


class Watch:
    """`seen` is {step: function(state)}, on the host; with a folder, each is stored in it as STEP.npz."""

    def __init__(
        self, function: Callable[[Any], Any] | None, folder: Path | None, state: Any, steps: Sequence[int]
    ) -> None:
        """Loads the files of `steps` and removes later ones, left by a run that was killed after its checkpoint.

        A damaged or missing file is logged and left out, except that of `state`, which is recomputed.

        Args:
          function: state -> a pytree of arrays, compiled; None: nothing is recorded.
          folder: of the files, or None.
          state: the one the fit started from.
          steps: recorded before the state from which the run resumes.
        """
        self._function, self._folder = function, folder
        self.seen: dict[int, Any] = {}
        if function is None or folder is None:
            return
        structure: Any = jax.tree.structure(jax.eval_shape(function, state))
        for path in [p for p in folder.glob("*.npz") if p.stem.isdigit() and int(p.stem) not in steps]:
            if is_first():
                path.unlink(missing_ok=True)
        for step in steps:
            try:
                self.seen[step] = jax.tree.unflatten(
                    structure, _read(folder / f"{step}.npz", step, structure.num_leaves)
                )
            except DataError as error:
                first = step == int(state.step)
                log(f"warning: {error}; {'recomputed' if first else f'continuing without the arrays of step {step}'}")
                if first:
                    self.look(step, state)

    def look(self, step: int, state: Any) -> None:
        """Records the arrays of this step, if they are not recorded yet."""
        if self._function is None or step in self.seen:
            return
        self.seen[step] = jax.device_get(self._function(state))
        if self._folder and is_first():
            leaves = [np.asarray(x) for x in jax.tree.leaves(self.seen[step])]
            with replacing(self._folder / f"{step}.npz") as file:
                np.savez(file, *leaves, sum=np.array(_sum(leaves, step)))


def _sum(leaves: Sequence[np.ndarray], step: int) -> str:
    found = hashlib.sha256(str(step).encode())
    for x in leaves:
        found.update(f"{x.dtype}{x.shape}".encode())
        found.update(np.ascontiguousarray(x).tobytes())
    return found.hexdigest()


def _read(path: Path, step: int, count: int) -> list[np.ndarray]:
    content = read_bytes(path)
    if content is None:
        raise DataError(f"{path}: is missing")
    try:
        with np.load(io.BytesIO(content)) as file:
            leaves = [file[f"arr_{i}"] for i in range(count)]
            if str(file["sum"]) == _sum(leaves, step):
                return leaves
    except Exception as error:  # zipfile, zlib and NumPy raise many types
        raise DataError(f"{path}: is damaged ({type(error).__name__})") from None
    raise DataError(f"{path}: its content has changed since it was written")
