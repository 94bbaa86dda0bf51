"""The description of the data in a fit's folder: enough to rebuild the experiment without the data."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdl.data import Data


def facts_of(data: Data) -> dict[str, Any]:
    """Returns what a run stores about its data: the shapes and dtypes of one batch, and the facts."""
    known = isinstance(data.example, Mapping)
    return {"example": _shapes(data.example) if known else None, "facts": dict(data.facts)}


def recalled(about: Mapping[str, Any]) -> Data:
    """Returns the data of a finished run as far as they are stored: zeros for an example, and the facts."""
    return Data(example=about["example"] and _zeros(about["example"]), facts=about["facts"])


def _shapes(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _shapes(one) for name, one in tree.items()}
    return [list(np.shape(tree)), np.asarray(tree).dtype.name]


def _zeros(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _zeros(one) for name, one in tree.items()}
    return np.zeros(*tree)
