"""What a person wants to see over training: arrays taken from the state at every evaluation, and kept."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.run.distributed import is_first


class Watch:
    """`seen` is {step: function(state)}, on the host; with a folder each is a file in it, STEP.npz."""

    def __init__(self, function: Callable[[Any], Any] | None, folder: Path | None, state: Any, step: int) -> None:
        """Takes up what the folder holds up to `step` and removes what a run killed behind its checkpoint left.

        Args:
          function: state -> a pytree of arrays, compiled; None: nothing is seen.
          folder: where the files are, or None.
          state: for its shapes.
          step: where the run goes on.
        """
        self._function, self._folder = function, folder
        self.seen: dict[int, Any] = {}
        if function is None or folder is None:
            return
        structure = jax.tree.structure(jax.eval_shape(function, state))
        for path in sorted(folder.glob("*.npz"), key=lambda path: int(path.stem)):
            if int(path.stem) > step:
                path.unlink(missing_ok=True)
                continue
            with np.load(path) as file:
                self.seen[int(path.stem)] = jax.tree.unflatten(structure, [file[name] for name in file.files])

    def look(self, step: int, state: Any) -> None:
        """Adds what is to be seen at this step, if it has not been."""
        if self._function is None or step in self.seen:
            return
        self.seen[step] = jax.device_get(self._function(state))
        if self._folder and is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            part = self._folder / f"{step}.part"
            with part.open("wb") as file:
                np.savez(file, *jax.tree.leaves(self.seen[step]))
            os.replace(part, self._folder / f"{step}.npz")
