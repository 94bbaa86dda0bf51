"""The problems have their margins, one step of the notes' network equals PyTorch's, and MLPs fit XOR at a safe rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.perceptron import (
    DRAWS,
    MARGINS,
    POINTS,
    XOR,
    Config,
    boolean,
    build,
    data,
    problems,
    separable,
)
from jaxdl import losses, run
from jaxdl.methods.perceptron import best_margin
from jaxdl.nn import MLP


def test_the_problems_have_their_margins():
    """The least distance bounds the best margin from below: a bias scales w to a length of at most sqrt(1 + 0.3^2)."""
    x, y = problems(3)
    assert x.shape == (len(MARGINS) * DRAWS, 100, 3)
    for i, margin in enumerate(MARGINS):
        found = [best_margin(*one)[0] for one in zip(x[i * DRAWS :][:3], y[i * DRAWS :][:3], strict=True)]
        assert min(found) >= margin / 1.09**0.5
        assert max(found) < margin + 0.15
    assert not np.array_equal(problems(4)[0], x)


@pytest.mark.claims
@pytest.mark.parametrize("seed", [1, 2])
def test_claims_of_other_draws(seed):
    found, mistakes, bounds = separable(Config(seed=seed))
    assert all(one.holds for one in [*found, *boolean(Config(seed=seed))[0]])
    assert mistakes.min() > 0
    assert (mistakes <= bounds).all()


@pytest.mark.claims
def test_a_step_of_adam_in_pytorch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.ReLU(), torch.nn.Linear(20, 3))
    assert sum(p.numel() for p in network.parameters()) == 283
    x, y = torch.randn(5, 10), torch.randint(0, 3, (5,))
    pairs = {f"Dense_{i}": network[2 * i] for i in (0, 1)}
    params = {
        name: {"kernel": layer.weight.detach().numpy().T.copy(), "bias": layer.bias.detach().numpy().copy()}
        for name, layer in pairs.items()
    }
    optimizer, known = torch.optim.Adam(network.parameters(), lr=0.001), []
    for _ in range(2):
        loss = torch.nn.CrossEntropyLoss()(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        known.append(loss.item())
    ours = lambda params: losses.softmax_cross_entropy(
        MLP((20, 3)).apply({"params": params}, jnp.asarray(x.numpy())), jnp.asarray(y.numpy())
    ).mean()
    before, slope = jax.value_and_grad(ours)(params)
    tx = optax.adam(1e-3)
    after = ours(optax.apply_updates(params, tx.update(slope, tx.init(params))[0]))
    np.testing.assert_allclose([before, after], known, atol=1e-6)
    assert after < before


@pytest.mark.trained
@pytest.mark.claims
def test_the_rate_at_which_networks_fit_xor(seed, bound):
    """Of 80 networks; the experiment needs 19 of 20."""
    config = Config(progress=False, seed=4 * seed, seeds=4)
    parts = data(config)
    result = run.fit(build(config, parts), parts, config)
    right = [(one.predict({"x": POINTS}) > 0.5) == (XOR == 1)[:, None] for one in result.runs]
    bound(float(np.mean([one.all(0) for one in right])), ">=", 0.98, "rate")
