"""What a module has to have to be an experiment.

    FAMILY = "vision"                                 under which python -m experiments lists it
    class Config(run.RunConfig): ...                  its flags
    CLAIMS = {"accuracy": run.Claim("..."), ...}      what it says, by name
    SMALL = {"steps": 500}                            flags of a scale at which tests can check the claims
    def data(config) -> Data: ...                     what it reads
    def build(config, data) -> Experiment: ...        what is trained; a study has none
    def report(config, data) -> Iterator[Finding]: ... fits, draws, and yields what was measured
    def inference(config, data) -> Inference: ...     what a finished run is used for, if anything

    if __name__ == "__main__":
        run.main()

The frame makes the configuration, reads the data and says their note before it calls `report`; afterwards it tells
what was not measured. `build` and `inference` must not need more of the data than `example` and
`facts`: these are kept in the run's folder, and a finished run is used without its data.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxdl.core import Experiment
from jaxdl.data import Data
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.inference import Inference
from jaxdl.run.show.claims import Claim, Finding, completed
from jaxdl.run.show.report import log


@runtime_checkable
class Study(Protocol):
    """A module that measures its claims with as many fits as it likes, or none."""

    FAMILY: str
    Config: type[RunConfig]
    CLAIMS: Mapping[str, Claim]
    SMALL: Mapping[str, Any]

    def data(self, config: Any, /) -> Data:
        """Reads what the configuration names."""
        ...

    def report(self, config: Any, data: Data, /) -> Iterable[Finding]:
        """Trains, draws and measures."""
        ...


@runtime_checkable
class Trainable(Study, Protocol):
    """A study around one experiment."""

    def build(self, config: Any, data: Data, /) -> Experiment:
        """The pure functions; of the data it sees `example` and `facts` alone."""
        ...


@runtime_checkable
class Usable(Trainable, Protocol):
    """An experiment whose finished runs predict, or are scored on other data."""

    def inference(self, config: Any, data: Data, /) -> Inference:
        """What a finished run can do; of the data it sees `example` and `facts` alone."""
        ...


def findings(module: Study, config: RunConfig, command: str | None = None) -> list[Finding]:
    """Reads an experiment's data, has it report, and adds what was not measured.

    Args:
      module: the experiment.
      config: how; a `workdir` of its own is where its fits live.
      command: how it is started; python -m MODULE if not given.
    """
    data = module.data(config)
    if data.note:
        log(data.note)
    if config.epochs is not None and data.train is not None:
        config = config.resolve(data)
    command = named(module)[1] if command is None else command
    return completed(module.CLAIMS, module.report(config, data), command)


def named(module: Any) -> tuple[str, str]:
    """(name, command) of an experiment: gan and python -m experiments.gan, or those of a file of one's own."""
    spec = module.__spec__
    if spec is None:
        return sys.argv[0].rpartition("/")[2].removesuffix(".py"), f"python {sys.argv[0]}"
    path = spec.name.removesuffix(".__main__")
    return path.rpartition(".")[2], f"python -m {path}"


def facts_of(data: Data) -> dict[str, Any]:
    """What a run keeps of its data: the shapes and dtypes of one batch, and the facts."""
    known = isinstance(data.example, Mapping)
    return {"example": _shapes(data.example) if known else None, "facts": dict(data.facts)}


def recalled(about: Mapping[str, Any]) -> Data:
    """The data of a finished run, as far as they are known: zeros for an example, and the facts."""
    return Data(example=about["example"] and _zeros(about["example"]), facts=about["facts"])


def _shapes(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _shapes(one) for name, one in tree.items()}
    return [list(np.shape(tree)), np.asarray(tree).dtype.name]


def _zeros(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _zeros(one) for name, one in tree.items()}
    return np.zeros(*tree)
