"""Stops a step inside the compiled program if something is not finite, and names it outside."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import Learner, Metrics, finite, select


def learners(state: Any) -> list[Learner]:
    """Returns the learners in a state, in the order of its leaves."""
    return [x for x in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Learner)) if isinstance(x, Learner)]


def guarded(step: Callable[[Any, Any], tuple[Any, Metrics]]) -> Callable[[Any, Any], tuple[Any, Metrics]]:
    """Wraps a step so that it returns the old state if something in the new one is not finite.

    A learner keeps its fault, so every later step returns the old state too. An array outside of the learners counts if
    it was finite before. The metrics gain "fault": 0, or the fault of the first learner that has one, offset by the
    number of names of the learners before it; faults of other arrays follow those of all learners (`fault_name`).
    """

    def careful(state: Any, batch: Any) -> tuple[Any, Metrics]:
        new, metrics = step(state, batch)
        found = learners(new)
        sizes = [len(_names(x)) for x in found]
        code = jnp.zeros((), jnp.int32)
        pairs = [(x, y) for (_, x), (_, y) in zip(_others(new), _others(state), strict=True)]
        if pairs:
            bad = jnp.stack([~finite(x) & finite(y) for x, y in pairs])
            code = jnp.where(bad.any(), sum(sizes) + 1 + jnp.argmax(bad), 0).astype(jnp.int32)
        for x, before in reversed([(x, sum(sizes[:i])) for i, x in enumerate(found)]):
            code = jnp.where(x.fault > 0, x.fault + before, code)
        faults = iter([x.fault for x in found])
        put = lambda x: x.replace(fault=next(faults)) if isinstance(x, Learner) else x
        kept = select(code == 0, new, state)
        return jax.tree.map(put, kept, is_leaf=lambda x: isinstance(x, Learner)), metrics | {"fault": code}

    return careful


def raise_fault(state: Any) -> None:
    """Raises an error if a learner in `state` has met a loss or gradient that is not finite; for loops without `fit`.

        for t in range(steps):
            learner, _ = update(learner, train.batch(0, t))
            if t % 100 == 99:
                raise_fault(learner)

    Reading the fault waits for the device, so do not call this after every step. Learners with a `vmap` axis are
    checked too.

    Args:
      state: a Learner, or a pytree that contains some. Call it outside of jit.

    Raises:
      FloatingPointError: "the gradient of Dense_0.kernel is not finite; ...", for the first learner with a fault.
    """
    before = 0
    for learner in learners(state):
        code = next((int(code) for code in np.ravel(learner.fault) if code), 0)
        if code:
            name = fault_name(state, before + code)
            raise FloatingPointError(f"{name} is not finite; the parameters are those from before that step")
        before += len(_names(learner))


def fault_name(state: Any, code: int) -> str:
    """Returns the meaning of the metric "fault" of `guarded`: "the loss", "the gradient of Dense_0.kernel"."""
    names = []
    for i, learner in enumerate(learners(state)):
        whose = f" of learner {i}" if len(learners(state)) > 1 else ""
        names += [f"{name}{whose}" for name in _names(learner)]
    return [*names, *(f"the state's {path}" for path, _ in _others(state))][code - 1]


def _names(learner: Learner) -> list[str]:
    """Lists the names that a learner's fault counts."""
    paths = [path for path, _ in _paths(learner.params)]
    return [
        "the loss",
        *(f"the gradient of {path}" for path in paths),
        *(f"the parameter {path} after the update" for path in paths),
        *(f"the optimiser's {path}" for path, x in _paths(learner.opt_state) if _is_float(x)),
    ]


def _others(state: Any) -> list[tuple[str, Any]]:
    """Returns the floating-point arrays of a state outside of its learners, with their paths."""
    is_learner = lambda x: isinstance(x, Learner)
    bare = jax.tree.map(lambda x: None if is_learner(x) else x, state, is_leaf=is_learner)
    return [(path, x) for path, x in _paths(bare) if _is_float(x)]


def _is_float(x: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.floating))


def _paths(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]
