"""The command `python -m experiments.vae`."""

from experiments import vae
from jaxdl import run

run.main(vae)
