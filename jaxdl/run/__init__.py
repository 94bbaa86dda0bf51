"""The only room with effects: flags, devices, the training loop, checkpoints, logs, pictures and the report."""

from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.contract import Study, Trainable, Usable, findings
from jaxdl.run.command.flags import FlagError, flag
from jaxdl.run.command.inference import Inference, of_classes, of_images
from jaxdl.run.command.main import main
from jaxdl.run.command.use import Loaded, load
from jaxdl.run.engine.evaluate import Cost, apply, measure
from jaxdl.run.engine.fit import fit
from jaxdl.run.engine.result import Result
from jaxdl.run.engine.signals import Interrupted
from jaxdl.run.engine.training import Diverged
from jaxdl.run.show import pictures, plots
from jaxdl.run.show.claims import Claim, Finding, Quantity, measured, plus_minus
from jaxdl.run.show.plots import save_animation, save_figure
from jaxdl.run.show.report import save_text, say

__all__ = [
    "Claim",
    "Cost",
    "Diverged",
    "Finding",
    "FlagError",
    "Inference",
    "Interrupted",
    "Loaded",
    "Quantity",
    "Result",
    "RunConfig",
    "Study",
    "Trainable",
    "Usable",
    "apply",
    "findings",
    "fit",
    "flag",
    "load",
    "main",
    "measure",
    "measured",
    "of_classes",
    "of_images",
    "pictures",
    "plots",
    "plus_minus",
    "save_animation",
    "save_figure",
    "save_text",
    "say",
]
