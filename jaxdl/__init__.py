"""Deep-learning research in JAX: pure functions, one command from flags to report."""

import importlib
from typing import Any

__version__ = "0.1.0"
PARTS = ("core", "data", "guard", "losses", "methods", "metrics", "nn", "optim", "run")


def __dir__() -> list[str]:
    """What can be asked for."""
    return sorted([*PARTS, "load", "__version__"])


def __getattr__(name: str) -> Any:
    """`jaxdl.load` and the parts, each imported when it is asked for: jaxdl.nn and jaxdl.losses need no jaxdl.run."""
    if name in PARTS:
        return importlib.import_module(f"jaxdl.{name}")
    if name != "load":
        raise AttributeError(f"module 'jaxdl' has no attribute {name!r}")
    from jaxdl.run import load

    return load
