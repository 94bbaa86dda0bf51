"""Gradient accumulation over batches of unequal size."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax


class AccumulateState(NamedTuple):
    """State of `accumulated`.

    Attributes:
      calls: int32 [], number of calls since the last update.
      weight: float32 [], sum of the counts n.
      total: sum of n g, float32 at least.
      inner: state of the inner optimiser.
    """

    calls: Array
    weight: Array
    total: optax.Updates
    inner: optax.OptState


def accumulated(tx: optax.GradientTransformationExtraArgs, every: int) -> optax.GradientTransformationExtraArgs:
    """Accumulates gradients over `every` calls and passes their mean, weighted by `count`, to tx.

    Args:
      tx: the inner optimiser.
      every: k, calls per update, at least 1. See `accumulate` of `optimizer`.

    Returns:
      (init, update). `update(grads, state, params, count=n)` returns zeros except in every k-th call; n defaults to 1.
    """

    def init(params: optax.Params) -> AccumulateState:
        total = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.promote_types(p.dtype, jnp.float32)), params)
        return AccumulateState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32), total, tx.init(params))

    def update(
        grads: optax.Updates, state: AccumulateState, params: optax.Params | None = None, *, count: Any = 1.0, **_: Any
    ) -> tuple[optax.Updates, AccumulateState]:
        n = jnp.asarray(count, jnp.float32)
        chex.assert_shape(n, ())
        weight, calls = state.weight + n, state.calls + 1
        total = jax.tree.map(lambda t, g: t + jnp.where(n > 0, n * g, 0), state.total, grads)

        def apply() -> tuple[Any, Any, Any]:
            mean = jax.tree.map(lambda t, g: (t / weight).astype(g.dtype), total, grads)
            updates, inner = tx.update(mean, state.inner, params)
            return optax.tree.cast_like(updates, grads), optax.tree.zeros_like(total), inner

        def wait() -> tuple[Any, Any, Any]:
            return optax.tree.zeros_like(grads), total, state.inner

        full = calls == every
        updates, total, inner = lax.cond(full & (weight > 0), apply, wait)
        return updates, AccumulateState(calls % every, jnp.where(full, 0, weight), total, inner)

    return optax.GradientTransformationExtraArgs(init, update)
