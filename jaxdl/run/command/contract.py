"""The interface of an experiment: the names that its module must define.

    FAMILY = "vision"                                 group in which python -m experiments lists it
    FIGURE = "confusion"                              the figure that the page of results shows, by its name
    class Config(run.RunConfig): ...                  its flags
    CLAIMS = {"accuracy": run.Claim("..."), ...}      its claims, by name
    SMALL = {"steps": 500}                            flags for a small run in which tests can check the claims
    def data(config) -> Data: ...                     reads the data
    def build(config, data) -> Experiment: ...        the trainable experiment; a study has none
    def report(config, data) -> Iterator[Finding]: ... trains, plots, and yields measured claims
    def inference(config, data) -> Inference: ...     the use of a finished run; optional

    if __name__ == "__main__":
        run.main()

`run.main` makes the configuration, reads the data and prints its note, calls `report`, and lists the claims that were
not measured. `build` and `inference` may read only `example` and `facts` of the data: these are stored in the run's
folder, because a finished run is used without its data.
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
    """A module that measures its claims with any number of fits."""

    FAMILY: str
    FIGURE: str
    Config: type[RunConfig]
    CLAIMS: Mapping[str, Claim]
    SMALL: Mapping[str, Any]

    def data(self, config: Any, /) -> Data:
        """Reads the data that the configuration names."""
        ...

    def report(self, config: Any, data: Data, /) -> Iterable[Finding]:
        """Trains, plots, and yields measured claims."""
        ...


@runtime_checkable
class Trainable(Study, Protocol):
    """A study of one trainable experiment."""

    def build(self, config: Any, data: Data, /) -> Experiment:
        """Returns the pure functions; reads only `example` and `facts` of the data."""
        ...


@runtime_checkable
class Usable(Trainable, Protocol):
    """An experiment whose finished runs can predict, or be evaluated on other data."""

    def inference(self, config: Any, data: Data, /) -> Inference:
        """Returns the functions of a finished run; reads only `example` and `facts` of the data."""
        ...


def findings(module: Study, config: RunConfig, command: str | None = None) -> list[Finding]:
    """Reads an experiment's data, calls its `report`, and adds the claims that were not measured.

    Args:
      module: the experiment.
      config: its configuration; fits are saved in `workdir`.
      command: the command that starts it; python -m MODULE if not given.
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
            raise FlagError(
                f"--only={config.only}: this is a study of several fits without a main one; leave the flag out"
            )
        result = fit(build(config, data), data, config)
        log("  ".join(f"{name} {number(result.values(name))}" for name in result.metrics))
        return completed(module.CLAIMS, (), command)
    return completed(module.CLAIMS, module.report(config, data), command)


def named(module: Any) -> tuple[str, str]:
    """Returns (name, command) of an experiment: "gan" and "python -m experiments.gan", or those of your own file."""
    spec = module.__spec__
    if spec is None:
        return sys.argv[0].rpartition("/")[2].removesuffix(".py"), f"python {shell(sys.argv[:1])}"
    path = spec.name.removesuffix(".__main__")
    return path.rpartition(".")[2], f"python -m {path}"
