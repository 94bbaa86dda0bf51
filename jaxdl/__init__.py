"""Deep-learning research in JAX: pure functions, and one command from flags to report."""

import importlib
from typing import Any

__version__ = "0.1.0"
NAMES = {
    "Experiment": "core",
    "Learner": "core",
    "State": "core",
    "supervised": "supervision",
    "fit": "run",
    "load": "run",
}
PARTS = ("core", "data", "envs", "guard", "losses", "methods", "metrics", "nn", "optim", "run", "supervision")


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted([*PARTS, *NAMES, "__version__"])


def __getattr__(name: str) -> Any:
    """Imports a part or a name of one on first use: jaxdl.nn and jaxdl.losses do not need jaxdl.run."""
    if name in PARTS:
        return importlib.import_module(f"jaxdl.{name}")
    if name not in NAMES:
        raise AttributeError(f"module 'jaxdl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxdl.{NAMES[name]}"), name)
