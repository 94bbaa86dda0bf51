"""A family of networks trains as its members do alone."""

import jax
import numpy as np
import optax
import pytest

from jaxdl import optim
from jaxdl.nn import MLP
from jaxdl.nn.family import Family
from jaxdl.supervision import supervised

B, D, C, N = 13, 3, 5, 2
ARCHITECTURES = ((7, N), (11, 7, N))


def test_outputs_are_those_of_the_members():
    x, family = jax.random.normal(jax.random.key(0), (B, D)), Family(ARCHITECTURES, C)
    params = family.init(jax.random.key(1), x)["params"]
    outputs = family.apply({"params": params}, x)
    assert outputs.shape == (B, 2, C, N)
    for a, features in enumerate(ARCHITECTURES):
        for c in range(C):
            own = jax.tree.map(lambda leaf: leaf[c], params[sorted(params)[a]])
            np.testing.assert_allclose(outputs[:, a, c], MLP(features).apply({"params": own}, x), atol=1e-5)
    kernels = [np.asarray(one["Dense_0"]["kernel"]) for one in params.values()]
    assert len(np.unique(np.concatenate([k.ravel() for k in kernels]))) == sum(k.size for k in kernels)


@pytest.mark.claims
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_members_train_as_if_alone(rule):
    x, y = jax.random.normal(jax.random.key(0), (B, D)), jax.random.normal(jax.random.key(1), (B, N))
    batch, tx = {"x": x, "y": y}, optim.optimizer(rule, optax.constant_schedule(1.0), peak=0.01)
    error = lambda outputs: (outputs - y.reshape(B, *(1,) * (outputs.ndim - 2), N)) ** 2

    def after(model, params):
        experiment = supervised(
            model, tx, example=batch, loss=lambda outputs, batch: error(outputs).sum(tuple(range(1, outputs.ndim)))
        )
        state = experiment.init(jax.random.key(2))
        state = state.replace(learner=state.learner.replace(params=params))
        step = jax.jit(experiment.step)
        for _ in range(7):
            state, _ = step(state, batch)
        return state.learner.params

    family = Family(ARCHITECTURES, C)
    params = family.init(jax.random.key(3), x)["params"]
    found = after(family, params)
    for name, features in zip(sorted(params), ARCHITECTURES, strict=True):
        alone = after(MLP(features), jax.tree.map(lambda leaf: leaf[3], params[name]))
        for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(found[name]), strict=True):
            np.testing.assert_allclose(other[3], one, atol=1e-5)
