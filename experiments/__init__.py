"""One module per experiment: `python -m experiments` lists them, `python -m experiments.NAME` runs one."""

from jaxdl.tuned import start_anew

start_anew()  # the first code that python -m experiments.NAME runs; does nothing in other imports
