"""--summary: the layers of an experiment's networks and their numbers of weights, from shapes alone."""

import math
from typing import Any

import jax

from jaxdl.core import Experiment, Learner
from jaxdl.machine import size
from jaxdl.optim import path_of
from jaxdl.run.store.runs import format_table


def summary(experiment: Experiment) -> str:
    """Returns a line per module with parameters: path, shapes, number of weights; and the total of each learner."""
    state: Any = jax.eval_shape(experiment.init, jax.random.key(0))
    is_learner = lambda node: isinstance(node, Learner)
    lines = [["layer", "arrays", "weights"]]
    for path, learner in jax.tree_util.tree_leaves_with_path(state, is_leaf=is_learner):
        if not is_learner(learner):
            continue
        layers: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
        for below, leaf in jax.tree_util.tree_leaves_with_path(learner.params):
            layer, _, name = path_of(below).rpartition("/")
            layers.setdefault(layer or name, []).append((name, leaf.shape))
        for layer, arrays in layers.items():
            shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in arrays)
            lines.append([layer, shapes, f"{sum(math.prod(shape) for _, shape in arrays):,}"])
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(learner.params))
        moments = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(learner.opt_state))
        lines.append([f"{path_of(path)}, total", f"optimiser state: {size(moments)}", f"{count:,}"])
    return format_table(lines)
