"""Learning rates stored in the optimiser's state, so that one compiled program serves all rates."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array


def learning_rate(opt_state: optax.OptState) -> Array | None:
    """Returns the learning rate of the last update, or of the first if there was none yet.

    Args:
      opt_state: a pytree with a state of `optimizer`; of several, the first counts.

    Returns:
      float32 [], or with the leading axes of a vmapped state; None if the state has no learning rate.
    """
    rates = [node.hyperparams for node in jax.tree.leaves(opt_state, is_leaf=_has_rate) if _has_rate(node)]
    return rates[0]["learning_rate"] * rates[0].get("peak", 1.0) if rates else None


def with_peak_of(new: Any, state: Any) -> Any:
    """Returns `state` with the peaks (see `optimizer`) of `new`.

    Args:
      new: pytree with states of `optimizer`, from which the peaks are taken.
      state: pytree with as many states of `optimizer`, in the same order. Without any peak, as with optax's own
        optimisers, it is returned unchanged.

    Raises:
      ValueError: if the numbers of peaks differ.
    """
    nodes = lambda tree: [node for node in jax.tree.leaves(tree, is_leaf=_has_peak) if _has_peak(node)]
    peaks, count = iter([node.hyperparams["peak"] for node in nodes(new)]), len(nodes(state))
    if count not in (0, len(nodes(new))):
        raise ValueError(
            f"state must have {len(nodes(new))} learning rates, as the experiment's optimisers, got {count}; "
            "use a state of the same experiment"
        )

    def put(node: Any) -> Any:
        return node._replace(hyperparams=node.hyperparams | {"peak": next(peaks)}) if _has_peak(node) else node

    return jax.tree.map(put, state, is_leaf=_has_peak)


def _has_rate(node: Any) -> bool:
    return isinstance(node, optax.InjectStatefulHyperparamsState) and "learning_rate" in node.hyperparams


def _has_peak(node: Any) -> bool:
    return _has_rate(node) and "peak" in node.hyperparams


def scale_by_rate(rate: optax.Schedule, peak: float) -> optax.GradientTransformationExtraArgs:
    """Returns the transformation u -> -peak rate(count) u, with the peak in its state."""
    tx = optax.inject_hyperparams(lambda learning_rate, peak: optax.scale_by_learning_rate(peak * learning_rate))(
        # Always a schedule: a number in the state of a restored run would silently override the configured rate.
        learning_rate=lambda count: jnp.asarray(rate(count), jnp.float32),
        peak=1.0,
    )

    def init(params: optax.Params) -> optax.OptState:
        with jax.ensure_compile_time_eval():  # an array, which can be separated from init's program, and no literal
            value = jnp.asarray(peak, jnp.float32)
        state = tx.init(params)
        return state._replace(hyperparams=state.hyperparams | {"peak": value})

    return optax.GradientTransformationExtraArgs(init, tx.update)
