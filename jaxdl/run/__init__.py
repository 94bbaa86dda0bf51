"""The only room with effects: flags, devices, the training loop, checkpoints, logs, pictures and the report."""

from jaxdl.run.command import main
from jaxdl.run.config import RunConfig
from jaxdl.run.evaluate import Cost, apply, measure
from jaxdl.run.flags import FlagError, flag
from jaxdl.run.loop import fit
from jaxdl.run.plots import save_animation, save_figure
from jaxdl.run.report import Bound, Claim, plus_minus, save_text, say
from jaxdl.run.result import Result
from jaxdl.run.signals import Interrupted
from jaxdl.run.training import Diverged
from jaxdl.run.use import Loaded, Use, load, remember

__all__ = [
    "Bound",
    "Claim",
    "Cost",
    "Diverged",
    "FlagError",
    "Interrupted",
    "Loaded",
    "Result",
    "RunConfig",
    "Use",
    "apply",
    "fit",
    "flag",
    "load",
    "main",
    "measure",
    "plus_minus",
    "remember",
    "save_animation",
    "save_figure",
    "save_text",
    "say",
]
