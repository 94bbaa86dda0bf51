"""The only room with effects: flags, devices, the training loop, checkpoints, logs, pictures and the report."""

from jaxdl.run.claims import Claim, Finding, Quantity, measured, plus_minus
from jaxdl.run.command import main
from jaxdl.run.config import RunConfig
from jaxdl.run.contract import Study, Trainable, Usable, findings
from jaxdl.run.evaluate import Cost, apply, measure
from jaxdl.run.flags import FlagError, flag
from jaxdl.run.inference import Inference, of_classes, of_images
from jaxdl.run.loop import fit
from jaxdl.run.plots import save_animation, save_figure
from jaxdl.run.report import save_text, say
from jaxdl.run.result import Result
from jaxdl.run.signals import Interrupted
from jaxdl.run.training import Diverged
from jaxdl.run.use import Loaded, load

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
    "plus_minus",
    "save_animation",
    "save_figure",
    "save_text",
    "say",
]
