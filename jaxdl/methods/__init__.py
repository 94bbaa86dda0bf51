"""What several experiments share and is neither a network nor a loss."""

from jaxdl.methods.judge import Judge, frechet_of, judge
from jaxdl.methods.language_models import LanguageModel, attentive, nearest_width, parameter_count, recurrent
from jaxdl.methods.mixtures import mixture_of_bernoullis
from jaxdl.methods.ngram import ngram_losses, ngram_perplexities
from jaxdl.methods.peers import torch_losses
from jaxdl.methods.sampling import choose, generate

__all__ = [
    "Judge",
    "LanguageModel",
    "attentive",
    "choose",
    "frechet_of",
    "generate",
    "judge",
    "mixture_of_bernoullis",
    "nearest_width",
    "ngram_losses",
    "ngram_perplexities",
    "parameter_count",
    "recurrent",
    "torch_losses",
]
