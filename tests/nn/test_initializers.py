import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdl.nn import CNN, INITIALIZERS, MLP, torch_bias
from jaxdl.nn.initializers import bias_initializer

VARIANCES = {
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
    "torch_linear": lambda fan_in, fan_out: 1 / (3 * fan_in),
}


def test_every_initialiser_has_a_formula():
    assert set(INITIALIZERS) == set(VARIANCES)


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize(("shape", "fans"), [((307, 211), (307, 211)), ((3, 5, 37, 101), (15 * 37, 15 * 101))])
def test_variance(name, shape, fans):
    w = np.asarray(INITIALIZERS[name]["kernel_init"](jax.random.key(0), shape))
    variance = VARIANCES[name](*fans)
    # The sample variance of n draws with kurtosis <= 3 has a relative standard deviation of at most sqrt(2 / n).
    assert w.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / w.size))
    assert abs(w.mean()) < 4 * math.sqrt(variance / w.size)
    # A uniform ends at sqrt(3) of its standard deviations; the truncated normal at 2 of the untruncated normal's, which
    # are 2 / 0.8796 of its own.
    edge = math.sqrt(3 * variance) if name.endswith(("uniform", "linear")) else 2 / 0.87962566 * math.sqrt(variance)
    assert 0.99 * edge < abs(w).max() <= edge * (1 + 1e-6)


def test_torch_linear_has_the_bounds_of_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    fan_in, width = 23, 4999
    for layer in (torch.nn.Linear(fan_in, width), torch.nn.Conv2d(fan_in, width, 1)):
        kernel = INITIALIZERS["torch_linear"]["kernel_init"](jax.random.key(0), (fan_in, width))
        bias = bias_initializer(INITIALIZERS["torch_linear"]["bias_init"], fan_in)(jax.random.key(1), (width,))
        for ours, theirs in ((kernel, layer.weight.detach()), (bias, layer.bias.detach())):
            assert abs(float(ours.max()) - float(theirs.max())) < 1e-2 * fan_in**-0.5
            assert abs(float(ours.min()) - float(theirs.min())) < 1e-2 * fan_in**-0.5
            assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.03)


def test_only_torch_linear_draws_biases():
    for name, both in INITIALIZERS.items():
        bias = bias_initializer(both["bias_init"], 7)(jax.random.key(0), (11,))
        assert bool((bias != 0).all()) == (name == "torch_linear")
    assert abs(torch_bias.make(4)(jax.random.key(0), (997,))).max() <= 0.5


@pytest.mark.claims
def test_biases_accept_linen_initialisers():
    ones = nn.initializers.ones
    for model, x in (
        (MLP((3, 2), bias_init=ones), jnp.ones((5, 7))),
        (CNN(classes=2, bias_init=ones), jnp.ones((2, 8, 8, 1))),
    ):
        params = model.init(jax.random.key(0), x)["params"]
        biases = [leaf for path, leaf in jax.tree.leaves_with_path(params) if path[-1].key == "bias"]
        assert biases
        assert all((bias == 1).all() for bias in biases)
