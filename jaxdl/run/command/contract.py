"""What a module has to have to be an experiment.

    FAMILY = "vision"                                 under which python -m experiments lists it
    FIGURE = "confusion"                              of the figures that report saves, the one for the page of results
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

from jaxdl.core import Experiment
from jaxdl.data import Data
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError
from jaxdl.run.command.inference import Inference
from jaxdl.run.engine.fit import fit
from jaxdl.run.show.claims import Claim, Finding, completed, number
from jaxdl.run.show.report import log
from jaxdl.streams import shell


@runtime_checkable
class Study(Protocol):
    """A module that measures its claims with as many fits as it likes, or none."""

    FAMILY: str
    FIGURE: str
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
    data = module.data(config).batched(config.batch_size)
    if data.note:
        log(data.note)
    if config.epochs is not None and data.train is not None:
        config = config.resolve(data)
    command = named(module)[1] if command is None else command
    if config.only:
        build = getattr(module, "build", None)
        if build is None:
            raise FlagError(f"--only={config.only}: this is a study of several fits, none of which it is about")
        result = fit(build(config, data), data, config)
        log("  ".join(f"{name} {number(result.values(name))}" for name in result.metrics))
        return completed(module.CLAIMS, (), command)
    return completed(module.CLAIMS, module.report(config, data), command)


def named(module: Any) -> tuple[str, str]:
    """(name, command) of an experiment: gan and python -m experiments.gan, or those of a file of one's own."""
    spec = module.__spec__
    if spec is None:
        return sys.argv[0].rpartition("/")[2].removesuffix(".py"), f"python {shell(sys.argv[:1])}"
    path = spec.name.removesuffix(".__main__")
    return path.rpartition(".")[2], f"python -m {path}"
