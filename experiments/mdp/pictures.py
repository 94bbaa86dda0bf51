"""The figure of the experiment."""

from typing import Any


def worlds(config: Any, lake: Any, chain: Any, fits: Any, drivers: Any) -> None:
    """Draws."""
