"""What several experiments share and is neither a network nor a loss."""

from jaxdl.methods.language_models import LanguageModel, attentive, nearest_width, parameter_count, recurrent
from jaxdl.methods.ngram import ngram_losses
from jaxdl.methods.sampling import choose, generate

__all__ = [
    "LanguageModel",
    "attentive",
    "choose",
    "generate",
    "nearest_width",
    "ngram_losses",
    "parameter_count",
    "recurrent",
]
