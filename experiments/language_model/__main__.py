"""The command `python -m experiments.language_model`."""

from experiments import language_model
from jaxdl import run

run.main(language_model)
