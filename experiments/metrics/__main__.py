"""The command `python -m experiments.metrics`."""

from experiments import metrics
from jaxdl import run

run.main(metrics)
