"""Methods shared by experiments: adversarial training, judges, families of models, sampling, baselines, mixtures."""

from jaxdl.methods.families import Family, family
from jaxdl.methods.judges import Judge, frechet_of, judge
from jaxdl.methods.language_models import LanguageModel, nearest_width, of_recurrent, of_transformer, parameter_count
from jaxdl.methods.mixtures import mixture_of_bernoullis
from jaxdl.methods.ngram import ngram_losses, ngram_perplexities
from jaxdl.methods.peers import torch_losses
from jaxdl.methods.sampling import choose, generate

__all__ = [
    "Family",
    "Judge",
    "LanguageModel",
    "choose",
    "family",
    "frechet_of",
    "generate",
    "judge",
    "mixture_of_bernoullis",
    "nearest_width",
    "ngram_losses",
    "ngram_perplexities",
    "of_recurrent",
    "of_transformer",
    "parameter_count",
    "torch_losses",
]
