"""Orbax checkpoints of one fit: the latest two and the best, written while training goes on."""

import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from jaxdl.data import DataError


class Checkpoints:
    """The checkpoints of one fit in a folder; with None for a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        """Opens or makes the folder, and removes what an interrupted save left."""
        self._checkpointer: Any = None
        if folder is None:
            return
        from orbax.checkpoint import v1 as ocp

        for path in folder.glob("[0-9]*/"):  # a run killed while it deleted an old checkpoint leaves a part of it
            if path.name.isdigit() and not (path / "_CHECKPOINT_METADATA").exists():
                shutil.rmtree(path)
        logging.set_verbosity(logging.ERROR)  # Orbax reports every save otherwise
        policy = ocp.training.preservation_policies
        self._checkpointer = ocp.training.Checkpointer(
            folder.absolute(),
            # the default policy skips a save, without a word, while another one is being written
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policy.AnyPreservationPolicy(
                [policy.LatestN(2), policy.BestN(get_metric_fn=lambda metrics: metrics["score"], n=1)]
            ),
            cleanup_tmp_directories=True,
        )

    def save(self, step: int, state: Any, score: float = -math.inf) -> None:
        """Begins to save `state` as of `step`; the greatest `score` is kept as the best.

        The state is copied first: the training step that follows is free to overwrite (donate) its buffers, and on the
        CPU the writer would see that. A score that is not finite counts as the least one: Orbax would rank NaN first.
        """
        if self._checkpointer:
            score = float(score) if math.isfinite(score) else -math.inf
            state = jax.tree.map(jnp.copy, state)
            self._checkpointer.save_async(step, state, metrics={"score": score}, overwrite=True)

    def restore(self, like: Any, step: int | None = None) -> tuple[int, Any] | None:
        """(step, state) of the latest checkpoint that can be read, or of `step`; None if there is none.

        Args:
          like: a state of the right structure, whose arrays say shape, dtype and place.
          step: None for the latest; an older one is taken, with a warning, where the newest is damaged.

        Raises:
          DataError: there are checkpoints, and none can be read.
        """
        if not self._checkpointer:
            return None
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        steps = [c.step for c in reversed(list(self._checkpointer.checkpoints))] if step is None else [step]
        for at in steps:
            try:
                # placed once more, because Orbax gives a typed key the sharding of its data, one dimension too many
                return at, jax.device_put(self._checkpointer.load(at, target), jax.tree.map(lambda x: x.sharding, like))
            except Exception as error:  # Orbax raises many kinds for a damaged checkpoint
                reason = str(error).partition("\n")[0][:200]
                warnings.warn(f"checkpoint {at} cannot be read ({type(error).__name__}: {reason})", stacklevel=2)
        if steps:
            raise DataError(f"{self._checkpointer.directory}: no checkpoint of {steps} fits; --overwrite starts anew")
        return None

    def wait(self) -> None:
        """Waits until everything is written; an error of a save comes up here."""
        if self._checkpointer:
            self._checkpointer.wait()

    def close(self) -> None:
        """Waits, and ends the writing threads."""
        if self._checkpointer:
            self._checkpointer.close()
