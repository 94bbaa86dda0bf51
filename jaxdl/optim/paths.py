"""Parameters by the path of their modules: which decay, which stay as they are, which learn at another rate."""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import optax


def path_of(path: tuple[Any, ...]) -> str:
    """ "Conv_0/kernel" of a leaf's path."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def decays(params: optax.Params) -> Any:
    """Which leaves weight decay takes hold of: not biases and scales of norms."""
    return jax.tree.map_with_path(lambda path, _: not path_of(path).endswith(("bias", "scale")), params)


def frozen_by(freeze: str) -> Callable[[optax.Params], Any]:
    """params -> "frozen" or "train" for each leaf; ValueError, also from what it returns, where that is no choice."""
    try:
        pattern = re.compile(freeze)
    except re.error as error:
        raise ValueError(f"freeze={freeze!r} is no regular expression: {error}") from None

    def labels(params: optax.Params) -> Any:
        tree = jax.tree.map_with_path(lambda path, _: "frozen" if pattern.search(path_of(path)) else "train", params)
        kinds = jax.tree.leaves(tree)
        if len(set(kinds)) < 2:
            paths = [path_of(path) for path, _ in jax.tree.leaves_with_path(params)]
            listed = ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
            matched = "every parameter, nothing is left to train" if "frozen" in kinds else "no parameter"
            raise ValueError(f"freeze={freeze!r} matches {matched}: {listed}")
        return tree

    return labels


def factors(rates: str) -> dict[str, float]:
    """{regular expression: factor} of "Embed:0.1,Dense_0/bias:0".

    Raises:
      ValueError: no expression, no number, or one below 0.
    """
    found = {}
    for part in rates.split(","):
        pattern, _, factor = part.rpartition(":")
        try:
            re.compile(pattern)
            value = float(factor)
        except (re.error, ValueError):
            value = math.nan
        if not (pattern and 0 <= value < math.inf):
            raise ValueError(f"rates={rates!r}: {part!r} is not EXPRESSION:FACTOR, a factor >= 0 of the learning rate")
        found[pattern] = value
    return found


def scaled_by_path(rates: str) -> optax.GradientTransformation:
    """Updates times the factor of the first expression that is found in the parameter's path; else as they are.

    Raises:
      ValueError: as `factors`; from `init`, if an expression matches no parameter.
    """
    chosen = factors(rates)

    def init(params: optax.Params) -> optax.EmptyState:
        paths = [path_of(path) for path, _ in jax.tree.leaves_with_path(params)]
        for pattern in chosen:
            if not any(re.search(pattern, path) for path in paths):
                raise ValueError(f"rates={rates!r}: {pattern!r} matches no parameter: {', '.join(paths[:8])}")
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def scaled(path: Any, u: Any) -> Any:
            return next((f * u for pattern, f in chosen.items() if re.search(pattern, path_of(path))), u)

        return jax.tree.map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)
