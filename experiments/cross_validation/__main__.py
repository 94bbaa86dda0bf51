"""The command `python -m experiments.cross_validation`."""

from experiments import cross_validation
from jaxdl import run

run.main(cross_validation)
