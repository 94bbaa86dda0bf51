"""Log lines of a run: the line at the start, progress and evaluations."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxdl.guard import learners
from jaxdl.machine import size
from jaxdl.run.command.config import RunConfig
from jaxdl.run.engine.distributed import is_first
from jaxdl.run.store.files import write
from jaxdl.streams import printable

Row = dict[str, Any]
PARTS = {"valid": "validation", "test": "test"}
CLOCK = ("seconds", "crc32")  # the fields of metrics.jsonl that differ between equal runs


def curve(rows: Sequence[Row], key: str, over: str = "step") -> tuple[list[Any], list[float]]:
    """Returns (steps or seconds, values) of one column of a history, such as "train/loss"."""
    found = [row for row in rows if key in row]
    return [row[over] for row in found], [row[key] for row in found]


def start_line(state: Any, arrays: Any, mesh: Mesh) -> str:
    """Returns devices, parameters and bytes, in one line."""
    devices = list(mesh.devices.flat)
    params = [x for learner in learners(state) for x in jax.tree.leaves(learner.params)]
    total = lambda leaves: sum(x.size * x.dtype.itemsize for x in leaves)
    kind = devices[0].device_kind
    return (
        f"{len(devices)} x {devices[0].platform}{'' if kind == devices[0].platform else f' ({kind})'} | "
        f"{sum(x.size for x in params):,} parameters, {size(total(params))} | "
        f"state {size(total(jax.tree.leaves(state)))} | data {size(total(jax.tree.leaves(arrays)))}"
    )


def with_prefix(row: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Returns the metrics of one part in a row of the history: for "valid/loss" the name "loss"."""
    return {key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)}


def last_of(rows: Sequence[Row], prefix: str) -> dict[str, float]:
    """Returns the metrics of this part in the last row that has any; {} if none has."""
    return next(filter(None, (with_prefix(row, prefix) for row in reversed(rows))), {})


class Progress:
    """A progress bar on a terminal; otherwise one line per evaluation."""

    def __init__(self, show: bool, first: int, last: int, name: str, title: str, epoch: float = 0) -> None:
        """Prints `title` and starts at step `first` of `last`; `epoch`: the number of steps per epoch, 0 if unknown."""
        show, self._began = show and is_first(), False
        self._show, self._last, self._name, self._bar, self._epoch = show, last, name, None, epoch
        if title:
            self.log((f"{name}: " if name else "") + title + (f" | continuing from step {first}" if first else ""))
        if show and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=last, initial=first, desc=name or None, unit="step", dynamic_ncols=True)
            self._bar.set_postfix_str("compiling")

    def step(self, done: int, scalars: Mapping[str, float] | None = None) -> None:
        """Updates the bar to `done` steps, with the loss of `scalars` next to it."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            loss = f"training loss {scalars['loss']:.4g}" if scalars and "loss" in scalars else ""
            if loss or not self._began:
                told = (f"epoch {done / self._epoch:.3g}" if self._epoch else "", loss)
                self._bar.set_postfix_str(", ".join(filter(None, told)), refresh=False)
                self._began = True

    def log(self, line: str) -> None:
        """Prints one line, above the bar if there is one."""
        line = printable(line)
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        elif self._show:
            print(line, file=sys.stderr, flush=True)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Prints the metrics of an evaluation."""
        shown = []
        for part, title in PARTS.items():
            found = with_prefix(metrics, f"{part}/")
            shown += [f"{title}: " + "  ".join(f"{k} {v:.4g}" for k, v in found.items())] if found else []
        epoch = f" (epoch {step / self._epoch:.3g})" if self._epoch else ""
        self.log(f"{self._name + ': ' if self._name else ''}step {step}/{self._last}{epoch}  {' | '.join(shown)}")

    def close(self) -> None:
        """Leaves the bar as it is and moves to the next line."""
        if self._bar is not None:
            self._bar.close()


def log(line: str) -> None:
    """Prints a line to stderr, for people; output for programs goes to stdout."""
    if is_first():
        print("\n".join(map(printable, line.split("\n"))), file=sys.stderr, flush=True)


def save_text(config: RunConfig, name: str, text: str) -> Path | None:
    """Writes `name`.txt into the run's folder, if the run has one."""
    if not config.workdir:
        return None
    path = Path(config.workdir) / f"{name}.txt"
    write(path, text)
    return path
