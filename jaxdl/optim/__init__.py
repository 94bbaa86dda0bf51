"""Optimisers and learning-rate schedules built on optax; `optimizer` builds one chain from its hyperparameters."""

from jaxdl.optim.averages import averaged, begun_at, with_average
from jaxdl.optim.chain import RULES, Numbers, Rule, optimizer
from jaxdl.optim.module_norms import norms, with_norms
from jaxdl.optim.paths import path_of, scaled_by_path
from jaxdl.optim.rates import learning_rate, with_peak_of
from jaxdl.optim.schedules import SCHEDULES, schedule

__all__ = [
    "RULES",
    "SCHEDULES",
    "Numbers",
    "Rule",
    "averaged",
    "begun_at",
    "learning_rate",
    "norms",
    "optimizer",
    "path_of",
    "scaled_by_path",
    "schedule",
    "with_average",
    "with_norms",
    "with_peak_of",
]
