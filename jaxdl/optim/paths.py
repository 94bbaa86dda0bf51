"""Groups of parameters by path: weight decay, frozen parameters, factors of the learning rate."""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import optax


def path_of(path: tuple[Any, ...]) -> str:
    """Returns a leaf's key path as text, for example "Conv_0/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def decays(params: optax.Params) -> Any:
    """Returns a tree of bool, False for leaves whose name ends in "bias" or "scale", which do not decay."""
    return jax.tree.map_with_path(lambda path, _: not path_of(path).endswith(("bias", "scale")), params)


def frozen_by(freeze: str) -> Callable[[optax.Params], Any]:
    """Returns a function that labels each leaf of the parameters "frozen" or "train".

    Args:
      freeze: regular expression; leaves in whose path it is found are frozen.

    Raises:
      ValueError: if freeze is not a regular expression; from the returned function, if it matches no leaf or all.
    """
    try:
        pattern = re.compile(freeze)
    except re.error as error:
        raise ValueError(f"freeze must be a regular expression, got {freeze!r}: {error}") from None

    def labels(params: optax.Params) -> Any:
        tree = jax.tree.map_with_path(lambda path, _: "frozen" if pattern.search(path_of(path)) else "train", params)
        kinds = jax.tree.leaves(tree)
        if len(set(kinds)) < 2:
            paths = [path_of(path) for path, _ in jax.tree.leaves_with_path(params)]
            listed = ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
            matched = "every parameter" if "frozen" in kinds else "no parameter"
            raise ValueError(f"freeze={freeze!r} must match some parameters, but not all; {matched} matches: {listed}")
        return tree

    return labels


def factors(rates: str) -> dict[str, float]:
    """Parses "Embed:0.1,Dense_0/bias:0" into {regular expression: factor}.

    Raises:
      ValueError: if an expression is missing or invalid, or a factor is not a finite number >= 0.
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
            raise ValueError(f"rates={rates!r}: {part!r} must be EXPRESSION:FACTOR with a finite factor >= 0")
        found[pattern] = value
    return found


def scaled_by_path(rates: str) -> optax.GradientTransformation:
    """Multiplies each update by the factor of the first expression found in the path of its parameter, else by 1.

    Args:
      rates: "EXPRESSION:FACTOR,..."; see `rates` of `optimizer`.

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
