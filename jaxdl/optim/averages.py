"""Parameters that are not the last ones: averages over training, by which a network is evaluated."""

from typing import Any, NamedTuple

import jax
import optax


class AverageState(NamedTuple):
    """The optimiser inside, and the moving average of the parameters."""

    inner: optax.OptState
    average: optax.Params


def with_average(tx: optax.GradientTransformationExtraArgs, decay: float) -> optax.GradientTransformationExtraArgs:
    """tx, and beside it e <- decay e + (1 - decay) w after each update, e_0 = w_0 (Polyak and Juditsky 1992)."""

    def init(params: optax.Params) -> AverageState:
        return AverageState(tx.init(params), jax.tree.map(lambda x: x.copy(), params))

    def update(grads: Any, state: AverageState, params: Any = None, **more: Any) -> tuple[Any, AverageState]:
        updates, inner = tx.update(grads, state.inner, params, **more)
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda e, w: decay * e + (1 - decay) * w, state.average, new)
        return updates, AverageState(inner, average)

    return optax.GradientTransformationExtraArgs(init, update)


def averaged(opt_state: optax.OptState, params: optax.Params) -> optax.Params:
    """The parameters to evaluate: the moving average, or Schedule-Free's, where the optimiser keeps one; else params."""
    kinds = (AverageState, optax.contrib.ScheduleFreeState)
    kept = lambda node: isinstance(node, kinds)
    for node in jax.tree.leaves(opt_state, is_leaf=kept):
        if isinstance(node, AverageState):
            return node.average
        if kept(node):
            return optax.contrib.schedule_free_eval_params(node, params)
    return params
