"""The command `python -m experiments.gan`."""

from experiments import gan
from jaxdl import run

run.main(gan)
