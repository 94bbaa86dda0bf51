"""Methods shared by experiments: games, judges, families of models, sampling, baselines, mixtures, planning."""

from jaxdl.methods.diagnosis import Advice, Diagnosis, Evidence, diagnose
from jaxdl.methods.dynamic_programming import (
    Solution,
    action_values,
    best_memoryless,
    greedy,
    one_hot_policy,
    policy_iteration,
    policy_values,
    value_iteration,
    value_of,
)
from jaxdl.methods.families import Family, family
from jaxdl.methods.independence import Independence, conditional_independence
from jaxdl.methods.judges import Judge, frechet_of, judge
from jaxdl.methods.language_models import LanguageModel, nearest_width, of_recurrent, of_transformer, parameter_count
from jaxdl.methods.mixtures import mixture_of_bernoullis
from jaxdl.methods.ngram import ngram_losses, ngram_perplexities
from jaxdl.methods.peers import torch_losses
from jaxdl.methods.sampling import choose, generate
from jaxdl.methods.temporal_difference import Exploration, Learners, choose_action, q_learning

__all__ = [
    "Advice",
    "Diagnosis",
    "Evidence",
    "Exploration",
    "Family",
    "Independence",
    "Judge",
    "LanguageModel",
    "Learners",
    "Solution",
    "action_values",
    "best_memoryless",
    "choose",
    "choose_action",
    "conditional_independence",
    "diagnose",
    "family",
    "frechet_of",
    "generate",
    "greedy",
    "judge",
    "mixture_of_bernoullis",
    "nearest_width",
    "ngram_losses",
    "ngram_perplexities",
    "of_recurrent",
    "of_transformer",
    "one_hot_policy",
    "parameter_count",
    "policy_iteration",
    "policy_values",
    "q_learning",
    "torch_losses",
    "value_iteration",
    "value_of",
]
