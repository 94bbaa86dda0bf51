"""Orbax checkpoints of one fit: the latest two and the best, written in the background."""

import contextlib
import math
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from jaxdl.data import DataError, MissingData
from jaxdl.run.engine.distributed import is_first
from jaxdl.run.store.files import PART
from jaxdl.run.store.seal import SEAL, seal, verify

DAMAGED = ".damaged"
UNFINISHED = ".orbax-checkpoint-tmp"
ORBAX = {"_CHECKPOINT_METADATA", "commit_success.txt", "orbax.checkpoint", "state", f"{SEAL}{PART}"}  # in a checkpoint


class Unwritten(OSError):
    """A checkpoint could not be written; the message names it, the reason, and the checkpoint that is left."""


class Checkpoints:
    """The checkpoints of one fit in a folder; if the folder is None, nothing is stored."""

    def __init__(self, folder: Path | None, *, write: bool = True) -> None:
        """Opens or creates the folder, moves damaged checkpoints aside and removes those of interrupted saves.

        If not `write`, it changes nothing.
        """
        self._folder: Any = folder
        self._sealer: ThreadPoolExecutor | None = None
        self._sealing: list[Future[None]] = []
        self._saving: Any = None
        self._facts: dict[int, dict[str, Any]] = {}  # of sealed checkpoints
        self._latest, self._failed = 0, False
        self.seconds = 0.0  # duration of the last save, from its start to its seal
        if folder is None or not write:
            return
        if is_first():
            folder.mkdir(parents=True, exist_ok=True)
            self._clean(folder)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"checkpoints in {folder}")
        logging.set_verbosity(logging.FATAL)  # otherwise Orbax logs every save, and tracebacks of raised errors
        self._sealer = ThreadPoolExecutor(1)
        self._opened = os.open(folder, os.O_RDONLY)  # held open so that no other folder gets its inode

    def _clean(self, folder: Path) -> None:
        for path in folder.glob(f"*{UNFINISHED}*"):
            shutil.rmtree(path)
        for path in _steps(folder):
            try:
                self._facts[int(path.name)] = verify(path)
            except DataError as error:
                if (path / SEAL).exists() or not _of_orbax(path):
                    _warn(path.name, _cause(error))
                    aside = path.with_suffix(DAMAGED)
                    shutil.rmtree(aside, ignore_errors=True)
                    path.rename(aside)
                else:  # the process was killed while writing or removing it
                    shutil.rmtree(path)
        self._prune()

    def _prune(self) -> None:
        """Removes all but the latest two and the best; the seal first, so that a half-removed checkpoint has none."""
        score = lambda step: -math.inf if (s := self._facts[step].get("score")) is None else s
        steps = sorted(self._facts)
        best = max(steps, key=lambda step: (score(step), -step), default=0)
        for step in steps[:-2]:
            if step != best or score(step) == -math.inf:
                folder = self._folder / str(step)
                (folder / SEAL).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)
                del self._facts[step]

    def facts(self, step: int) -> dict[str, Any]:
        """Returns the facts that `save` stored with the state of `step`."""
        return verify(self._folder / str(step))

    def save(self, step: int, state: Any, score: float = -math.inf, **facts: Any) -> None:
        """Starts saving `state` as of `step`; the greatest `score` is kept as the best, the first one on a tie.

        The next step may overwrite (donate) the state's buffers: Orbax copies them to the host before this returns. A
        score that is not finite counts as the lowest.
        """
        if self._sealer:
            from orbax.checkpoint import v1 as ocp

            with self._told(step):
                self._present()
                for sealing in [s for s in self._sealing if s.done()]:
                    sealing.result()
                if self._saving:
                    self._saving.result()
                self._saving = ocp.save_async((self._folder / str(step)).absolute(), state, overwrite=True)
            facts["score"] = float(score) if math.isfinite(score) else None
            self._sealing = [s for s in self._sealing if not s.done()]
            self._sealing.append(self._sealer.submit(self._seal, step, self._saving, facts, time.perf_counter()))
            self._latest = step

    def _present(self) -> None:
        """Raises if the opened folder was removed or replaced: a save in flight would create it again, empty."""
        if not (self._folder.is_dir() and os.path.samestat(os.stat(self._folder), os.fstat(self._opened))):
            raise FileNotFoundError(2, "the folder has been removed")

    @contextlib.contextmanager
    def _told(self, step: int) -> Iterator[None]:
        """Turns any error of a save into one line."""
        try:
            yield
        except Exception as error:  # Orbax and TensorStore raise many types
            self._failed = True
            good = [path.name for path in _steps(self._folder) if (path / SEAL).exists()]
            left = f"checkpoint {good[-1]} is intact" if good else "there is no intact checkpoint"
            raise Unwritten(
                f"{self._folder}: checkpoint {step} cannot be written ({_reason(error)}); {left}; fix this and run "
                "the same command again"
            ) from error

    def _seal(self, step: int, saving: Any, facts: dict[str, Any], begun: float) -> None:
        saving.result()
        self.seconds = time.perf_counter() - begun
        if is_first():
            self._present()
            seal(self._folder / str(step), step, facts)
            self._facts[step] = facts
            self._prune()

    def restore(self, like: Any, step: int | None = None) -> tuple[int, Any] | None:
        """Returns (step, state) of the latest readable checkpoint, or of `step`; None if there is none.

        Args:
          like: a state of the right structure, whose arrays define shape, dtype and sharding.
          step: None for the latest; if the newest is damaged or unfinished, an older one is used, with a warning.

        Raises:
          DataError: there are checkpoints, but none can be read.
        """
        if self._folder is None:
            return None
        from orbax.checkpoint import v1 as ocp

        places = jax.tree.map(lambda x: x.sharding, like)
        target = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), like, places)
        refused = dict[str, str]()
        for path in reversed(_steps(self._folder)) if step is None else [self._folder / str(step)]:
            try:
                verify(path)
                # placed again: Orbax gives a typed key the sharding of its data, which has one dimension too many
                return int(path.name), jax.device_put(ocp.load(path.absolute(), target), places)
            except Exception as error:  # Orbax raises many types if the structure differs
                refused[path.name] = _cause(error)
                _warn(path.name, refused[path.name])
        for path in sorted(self._folder.glob(f"*{DAMAGED}")):  # moved aside, now or by an earlier run
            if path.stem.isdigit():
                refused.setdefault(path.stem, _fault(path))
        if refused:
            all_of_them = ", ".join(sorted(refused, key=int))
            because = next((f": {reason}" for reason in refused.values() if reason), "")
            raise DataError(
                f"{self._folder}: none of its checkpoints ({all_of_them}) can be used{because}; --overwrite starts over"
            )
        return None

    def arrays(self, step: int | None = None) -> Any:
        """Returns the state of `step`, by default the latest, as dicts and lists of NumPy arrays, of any structure.

        Raises:
          MissingData: there is no such checkpoint.
          DataError: it is damaged.
        """
        from orbax.checkpoint import v1 as ocp

        steps = [path for path in _steps(self._folder) if step is None or path.name == str(step)]
        if not steps:
            raise MissingData(
                f"{self._folder}: there is no checkpoint yet; let the run finish, or set --checkpoint_every"
            )
        verify(steps[-1])
        try:
            place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            found = ocp.metadata(steps[-1].absolute()).metadata
            like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
            return jax.tree.map(_on_host, ocp.load(steps[-1].absolute(), jax.tree.map(like, found)))
        except Exception as error:
            raise DataError(f"{steps[-1]}: cannot be read ({_cause(error)})") from error

    def wait(self) -> None:
        """Waits until everything is written; raises the error of a failed save."""
        if self._sealing:
            with self._told(self._latest):
                for sealing in self._sealing:
                    sealing.result()
                self._present()

    def close(self) -> None:
        """Stops the writing threads; `save` and `wait` have raised their errors."""
        if self._sealer:
            self._sealer.shutdown(wait=not self._failed)  # waiting for a failed save may take minutes
            os.close(self._opened)


def _on_host(leaf: Any) -> Any:
    key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if key or not isinstance(leaf, jax.Array) else np.asarray(leaf)


def _warn(step: str, reason: str) -> None:
    warnings.warn(f"checkpoint {step} cannot be used ({reason})", stacklevel=3)


def _reason(error: BaseException) -> str:
    """Returns the operating system's message from a chain of errors."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if code := re.search(r"os_error_code='(\d+)'", str(cause)):  # TensorStore's, after a path of any length
            return os.strerror(int(code[1]))
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())[:300]


def _fault(folder: Path) -> str:
    try:
        verify(folder)
    except DataError as error:
        return _cause(error)
    return ""


def _cause(error: Exception) -> str:
    """Returns the first line of an error, with its type if that is not DataError."""
    kind = "" if isinstance(error, DataError) else f"{type(error).__name__}: "
    return kind + str(error).partition("\n")[0][:300]


def _of_orbax(folder: Path) -> bool:
    """Returns whether this may be a checkpoint that was being written or removed, and not another program's folder."""
    return {path.name for path in folder.iterdir()} <= ORBAX


def _steps(folder: Path) -> list[Path]:
    """Returns the folders of the steps, the latest last."""
    return sorted((p for p in folder.glob("[0-9]*/") if p.name.isdigit()), key=lambda path: int(path.name))
