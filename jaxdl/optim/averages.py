"""Averages of the parameters over training, with which a network is evaluated."""

from typing import Any, NamedTuple

import jax
import optax


class AverageState(NamedTuple):
    """State of `with_average`: the state of the inner optimiser and the moving average of the parameters."""

    inner: optax.OptState
    average: optax.Params


def with_average(tx: optax.GradientTransformationExtraArgs, decay: float) -> optax.GradientTransformationExtraArgs:
    """Wraps tx to keep a moving average of the parameters, e <- decay e + (1 - decay) w after each update.

    Args:
      tx: the inner optimiser; updates are unchanged.
      decay: in [0, 1). The average starts at the initial parameters.

    Returns:
      (init, update); `update` needs the parameters. `averaged` reads e from the state.

    Reference: Polyak and Juditsky 1992, Acceleration of stochastic approximation by averaging.
    """

    def init(params: optax.Params) -> AverageState:
        return AverageState(tx.init(params), jax.tree.map(lambda x: x.copy(), params))

    def update(grads: Any, state: AverageState, params: Any = None, **more: Any) -> tuple[Any, AverageState]:
        updates, inner = tx.update(grads, state.inner, params, **more)
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda e, w: decay * e + (1 - decay) * w, state.average, new)
        return updates, AverageState(inner, average)

    return optax.GradientTransformationExtraArgs(init, update)


def averaged(opt_state: optax.OptState, params: optax.Params) -> optax.Params:
    """Returns the parameters to evaluate.

    Args:
      opt_state: a state of `optimizer`.
      params: the current parameters.

    Returns:
      The moving average (`ema`) or the average of Schedule-Free if the state has one, else params. Frozen parameters
      are those of params.
    """
    for node in jax.tree.leaves(opt_state, is_leaf=_averages):
        if _averages(node):
            # y = (1 - γ) z + γ x: the network is trained at y and evaluated at x
            of = (lambda z, y: (y - (1 - node.b1) * z) / node.b1) if _free(node) else (lambda e, _: e)
            mine = node.z if _free(node) else node.average
            return jax.tree.map(lambda a, w: w if _frozen(a) else of(a, w), mine, params, is_leaf=_frozen)
    return params


def begun_at(opt_state: optax.OptState, params: optax.Params) -> optax.OptState:
    """Returns an initial optimiser state with its averages reset to `params`, for example to loaded weights."""

    def begin(node: Any) -> Any:
        if not _averages(node):
            return node
        name = "z" if _free(node) else "average"
        pick = lambda a, w: a if _frozen(a) else w.copy()  # copied, because a shared buffer cannot be donated
        return node._replace(**{name: jax.tree.map(pick, getattr(node, name), params, is_leaf=_frozen)})

    return jax.tree.map(begin, opt_state, is_leaf=_averages)


def _free(node: Any) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)


def _averages(node: Any) -> bool:
    return isinstance(node, AverageState) or _free(node)


def _frozen(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
