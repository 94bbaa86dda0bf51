"""Deep-learning research in JAX: pure functions, one command from flags to report."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`jaxdl.load`, imported when it is asked for: jaxdl.nn and jaxdl.losses need nothing of jaxdl.run."""
    if name != "load":
        raise AttributeError(f"module 'jaxdl' has no attribute {name!r}")
    from jaxdl.run import load

    return load
