"""The command `python -m experiments.diagnose`."""

from experiments import diagnose
from jaxdl import run

run.main(diagnose)
