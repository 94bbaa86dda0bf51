"""The learning rate as a number in an optimiser's state, so that one program serves all rates; and where it is."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array


def learning_rate(opt_state: optax.OptState) -> Array | None:
    """The rate that the last update used; before the first, the one that it will use.

    Args:
      opt_state: a state of `optimizer`, or of anything around it; with several rates inside, the first counts.

    Returns:
      float32 [], with the leading axes of a vmapped state; None if no rate is kept in this state.
    """
    rates = [node.hyperparams for node in jax.tree.leaves(opt_state, is_leaf=_has_rate) if _has_rate(node)]
    return rates[0]["learning_rate"] * rates[0].get("peak", 1.0) if rates else None


def with_peak_of(new: Any, state: Any) -> Any:
    """`state`, a pytree with states of `optimizer` in it, with the peaks of `new`, which has the same structure.

    A state without any peak, of an optimiser of one's own, is returned as it is.

    Raises:
      ValueError: the two have different numbers of peaks.
    """
    nodes = lambda tree: [node for node in jax.tree.leaves(tree, is_leaf=_has_peak) if _has_peak(node)]
    peaks, count = iter([node.hyperparams["peak"] for node in nodes(new)]), len(nodes(state))
    if count not in (0, len(nodes(new))):
        raise ValueError(
            f"the state has {count} learning rates, this experiment's optimisers {len(nodes(new))}; "
            "start from a state of the same experiment"
        )

    def put(node: Any) -> Any:
        return node._replace(hyperparams=node.hyperparams | {"peak": next(peaks)}) if _has_peak(node) else node

    return jax.tree.map(put, state, is_leaf=_has_peak)


def _has_rate(node: Any) -> bool:
    return isinstance(node, optax.InjectStatefulHyperparamsState) and "learning_rate" in node.hyperparams


def _has_peak(node: Any) -> bool:
    return _has_rate(node) and "peak" in node.hyperparams


def scale_by_rate(rate: optax.Schedule, peak: float) -> optax.GradientTransformationExtraArgs:
    """u -> -peak rate(count) u, with the peak in its state."""
    tx = optax.inject_hyperparams(lambda learning_rate, peak: optax.scale_by_learning_rate(peak * learning_rate))(
        # Always a schedule: as a number in the state, a restored run's old rate would silently win over a new one.
        learning_rate=lambda count: jnp.asarray(rate(count), jnp.float32),
        peak=1.0,
    )

    def init(params: optax.Params) -> optax.OptState:
        with jax.ensure_compile_time_eval():  # an array, which can be told apart from init's program; no literal in it
            value = jnp.asarray(peak, jnp.float32)
        state = tx.init(params)
        return state._replace(hyperparams=state.hyperparams | {"peak": value})

    return optax.GradientTransformationExtraArgs(init, tx.update)
