"""The command `python -m experiments.mdp`."""

from experiments import mdp
from jaxdl import run

run.main(mdp)
