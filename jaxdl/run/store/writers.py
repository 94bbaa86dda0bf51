"""Further destinations of a history, besides metrics.jsonl: TensorBoard, Weights & Biases, a function."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from jaxdl.extras import MissingExtra, require
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError
from jaxdl.run.show.report import Row
from jaxdl.run.store.files import naming

FLUSHED = 30.0  # seconds between two flushes of TensorBoard's events


class Writer(Protocol):
    """Receives the rows of a history, {"step", "seconds", "train/loss", ...}, as soon as they are made."""

    def add(self, row: Row, /) -> Any:
        """Receives one row."""
        ...

    def close(self) -> None:
        """Is called once, at the end of the fit."""
        ...


Opener = Callable[[int], Writer]  # receives the step after which rows follow; later ones are recomputed


class Events:
    """TensorBoard's event file.

    The training thread writes it: the thread of tensorboardX's SummaryWriter dies when the clock is set back, and the
    run would then wait for it forever.
    """

    def __init__(self, folder: Path, step: int) -> None:
        """Opens a new file, whose events hide those of earlier files after `step`, which are recomputed."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._event, self._summary, self._flushed = Event, Summary, time.perf_counter()
        self._file = EventsWriter(str(folder / "events"))
        if step:
            start = SessionLog(status=SessionLog.START)
            self._file.write_event(Event(step=step + 1, wall_time=time.time(), session_log=start))

    def add(self, row: Row) -> None:
        """Adds one row; TensorBoard sees it within FLUSHED seconds of training."""
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in numbers_of(row).items()]
        with naming(self._folder):
            event = self._event(step=row["step"], wall_time=time.time(), summary=self._summary(value=values))
            self._file.write_event(event)
            if time.perf_counter() - self._flushed > FLUSHED:
                self._file.flush()
                self._flushed = time.perf_counter()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class WandB:
    """A run of Weights & Biases, which resumes together with the fit in this folder."""

    def __init__(self, project: str, folder: Path | None, name: str, flags: Mapping[str, Any]) -> None:
        """Starts the run; if the fit has a folder, the run's id is a digest of the folder's path.

        Raises:
          FlagError: wandb is not installed, or cannot start.
        """
        try:
            wandb = require("wandb", "wandb", f"--wandb={project}")
        except MissingExtra as error:
            raise FlagError(str(error)) from None
        where = str(folder.resolve()) if folder else None
        id = hashlib.sha256(where.encode()).hexdigest()[:16] if where else None
        try:
            self._run = wandb.init(
                project=project, dir=where, id=id, name=name or None, config=dict(flags), resume="allow"
            )
        except wandb.Error as error:
            raise FlagError(f"--wandb={project}: {str(error).splitlines()[0]}") from None

    def add(self, row: Row) -> None:
        """Adds one row under its step."""
        self._run.log(numbers_of(row), step=row["step"])

    def close(self) -> None:
        """Finishes the run, after everything has been sent."""
        self._run.finish()


class Hook:
    """Calls a function with each row."""

    def __init__(self, function: Callable[[Row], Any]) -> None:
        """Calls function(row) from now on."""
        self.add = function

    def close(self) -> None:
        """Nothing to do."""


def numbers_of(row: Row) -> dict[str, float]:
    """Returns the metrics of a row, without its step and time."""
    return {name: value for name, value in row.items() if name not in ("step", "seconds")}


def writers(config: RunConfig, folder: Path | None, name: str, hook: Callable[[Row], Any] | None) -> list[Opener]:
    """Returns what a configuration requests besides metrics.jsonl."""
    found: list[Opener] = []
    if folder and config.tensorboard:
        found.append(lambda step: Events(folder / "tensorboard", step))
    if config.wandb:
        flags, project = dataclasses.asdict(config), config.wandb
        found.append(lambda step: WandB(project, folder, name, flags))
    if hook:
        found.append(lambda step: Hook(hook))
    return found
