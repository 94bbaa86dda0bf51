"""L2 norms of parameters, gradients and updates by module, recorded during training."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxdl.optim.paths import path_of

KINDS = ("params", "grads", "updates")


class NormState(NamedTuple):
    """State of `with_norms`.

    Attributes:
      inner: state of the inner optimiser.
      calls: int32 [], number of calls.
      norms: {module: [3]}, norms of parameters, gradients and updates in the last recorded call; 0 before the first.
    """

    inner: optax.OptState
    calls: Array
    norms: dict[str, Array]


def with_norms(tx: optax.GradientTransformationExtraArgs, every: int) -> optax.GradientTransformationExtraArgs:
    """Wraps tx to record the L2 norms of parameters, gradients and updates by module.

    Args:
      tx: the inner optimiser; updates are unchanged.
      every: k >= 1; norms are recorded in every k-th call.

    Returns:
      (init, update); `update` needs the parameters. `norms` reads the state.
    """

    def init(params: optax.Params) -> NormState:
        none = {module: jnp.zeros(3) for module in _by_module(params)}
        return NormState(tx.init(params), jnp.zeros((), jnp.int32), none)

    def update(grads: Any, state: NormState, params: Any = None, **more: Any) -> tuple[Any, NormState]:
        updates, inner = tx.update(grads, state.inner, params, **more)
        calls = state.calls + 1
        trees = [_by_module(tree) for tree in (params, grads, updates)]
        square = lambda leaves: sum(jnp.sum(jnp.square(x), dtype=jnp.float32) for x in leaves)
        look = lambda: {m: jnp.sqrt(jnp.stack([square(tree[m]) for tree in trees])) for m in state.norms}
        return updates, NormState(inner, calls, lax.cond(calls % every == 0, look, lambda: state.norms))

    return optax.GradientTransformationExtraArgs(init, update)


def norms(state: Any) -> dict[str, Array]:
    """Returns the recorded norms of all optimisers in a state.

    Args:
      state: pytree with states of `with_norms`.

    Returns:
      {"norm/params/Conv_0": float32 [], "norm/grads/Conv_0": ..., "norm/updates/Conv_0": ...}, with the path of the
      optimiser before the module if the state has several; {} if no optimiser records norms.
    """
    kept = lambda node: isinstance(node, NormState)
    found: dict[str, Array] = {}
    for path, node in jax.tree.leaves_with_path(state, is_leaf=kept):
        if kept(node):
            owner = [name for name in path_of(path).split("/") if name not in ("learner", "opt_state", "inner", "")]
            owner = [name for name in owner if not name.isdigit()]
            for module, three in node.norms.items():
                name = "/".join([*owner, module])
                found |= {f"norm/{kind}/{name}": three[..., i] for i, kind in enumerate(KINDS)}
    return found


def _by_module(tree: Any) -> dict[str, list[Any]]:
    modules: dict[str, list[Any]] = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        modules.setdefault(path_of(path[:-1]) or "all", []).append(leaf)
    return modules
