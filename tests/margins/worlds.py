"""Worlds with different rounding: process environments, and perturbed initial weights."""

import jax
import jax.numpy as jnp

from jaxdl.core import Learner

PLAIN = "plain"
WORLDS = ("SSE4_2", "nudge1", "nudge2", "nudge3", "nudge4")


def environment(world, base):
    """Returns the environment variables of a process in a world; tests/conftest.py calls `nudge` if they ask for it."""
    if world == "SSE4_2":
        return {**base, "XLA_FLAGS": f"{base.get('XLA_FLAGS', '')} --xla_cpu_max_isa=SSE4_2".strip()}
    return {**base, "JAXDL_MARGIN_WORLD": world.removeprefix("nudge")} if world != PLAIN else dict(base)


def nudge(world):
    """Multiplies all further initial weights by 1 + 1e-6 N(0, 1), elementwise; `world` seeds the draw."""
    create = Learner.create.__func__

    def near(key, x):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return x * (1 + 1e-6 * jax.random.normal(key, x.shape, x.dtype))

    def nudged(cls, params, tx):
        leaves, tree = jax.tree.flatten(params)
        keys = [jax.random.fold_in(jax.random.key(world), i) for i in range(len(leaves))]
        return create(cls, tree.unflatten(map(near, keys, leaves)), tx)

    Learner.create = classmethod(nudged)
