"""All code with side effects: flags, devices, the training loop, checkpoints, logs, plots and reports."""

from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.contract import Study, Trainable, Usable, findings
from jaxdl.run.command.flags import ConfigError, FlagError, flag, no_validation
from jaxdl.run.command.inference import Inference, count_of, of_classes, of_images, of_numbers
from jaxdl.run.command.main import main
from jaxdl.run.command.use import Loaded, load
from jaxdl.run.engine.compiled import compiled
from jaxdl.run.engine.evaluate import Cost, benchmark, map_batches
from jaxdl.run.engine.fit import fit
from jaxdl.run.engine.result import Result
from jaxdl.run.engine.signals import Interrupted
from jaxdl.run.engine.training import Diverged
from jaxdl.run.show import pictures, plots
from jaxdl.run.show.claims import Claim, Finding, Quantity, measured, plus_minus
from jaxdl.run.show.plots import save_animation, save_figure
from jaxdl.run.show.report import log, save_text
from jaxdl.run.store.lock import check_free
from jaxdl.run.store.runs import Run, Trace, expand, read_run

__all__ = [
    "Claim",
    "ConfigError",
    "Cost",
    "Diverged",
    "Finding",
    "FlagError",
    "Inference",
    "Interrupted",
    "Loaded",
    "Quantity",
    "Result",
    "Run",
    "RunConfig",
    "Study",
    "Trace",
    "Trainable",
    "Usable",
    "benchmark",
    "check_free",
    "compiled",
    "count_of",
    "expand",
    "findings",
    "fit",
    "flag",
    "load",
    "log",
    "main",
    "map_batches",
    "measured",
    "no_validation",
    "of_classes",
    "of_images",
    "of_numbers",
    "pictures",
    "plots",
    "plus_minus",
    "read_run",
    "save_animation",
    "save_figure",
    "save_text",
]
