"""Connections of networks whose graph is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdl.nn import CNN, MLP, LeNet5
from jaxdl.nn.connections import connections


def seen(model, *shape):
    x = jax.ShapeDtypeStruct((1, *shape), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: random.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype), shapes)
    return connections(lambda x: model.apply(variables, x), x)


class Sparse(nn.Module):
    """Two dense layers; a mask leaves each hidden unit with two inputs."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.normal(), (7, 5))
        mask = (jnp.arange(7)[:, None] - jnp.arange(5)[None]) % 7 < 2
        return nn.Dense(3)(nn.relu(x @ (kernel * mask)))


def test_a_dense_network():
    found = seen(MLP((5, 3)), 7)
    assert [layer.shape for layer in found.layers] == [(5, 7), (3, 5)]
    assert (found.hidden, found.share, found.feedforward, found.is_mlp) == (1, 1.0, True, True)


def test_a_perceptron_has_no_hidden_layer():
    found = seen(MLP((1,)), 7)
    assert (found.hidden, found.share, found.feedforward, found.is_mlp) == (0, 1.0, True, False)


def test_a_mask_removes_connections():
    found = seen(Sparse(), 7)
    rows, columns = np.indices((5, 7))
    np.testing.assert_array_equal(found.layers[0], (columns - rows) % 7 < 2)
    assert found.layers[1].all()
    assert found.share == pytest.approx(2 / 7)
    assert found.feedforward
    assert not found.is_mlp


def test_a_convolution_sees_its_window():
    """3x3 with padding, from 5x3 pixels to 5x3 outputs of two channels: neighbours only."""
    found = seen(nn.Sequential([nn.Conv(2, (3, 3)), nn.relu, lambda x: x.reshape(1, -1), nn.Dense(3)]), 5, 3, 1)
    i, j = np.indices((5, 3)).reshape(2, -1)
    near = (abs(i[:, None] - i) <= 1) & (abs(j[:, None] - j) <= 1)
    np.testing.assert_array_equal(found.layers[0], near.repeat(2, axis=0))
    assert found.layers[1].shape == (3, 30)
    assert not found.is_mlp


def test_a_recurrent_network_is_not_feed_forward():
    found = seen(nn.Sequential([nn.RNN(nn.SimpleCell(5)), lambda x: x[:, -1], nn.Dense(3)]), 11, 2)
    assert not found.feedforward
    assert not found.is_mlp


@pytest.mark.claims
@pytest.mark.parametrize(
    ("model", "shape", "layers", "mlp"),
    [
        (MLP((5, 11, 3), activation=nn.gelu), (7,), 3, True),
        (MLP((5, 3), norm=True), (7,), 2, True),
        (nn.Sequential([nn.Dense(5), nn.silu, nn.remat(nn.Dense)(3)]), (7,), 2, True),
        (LeNet5(classes=3), (28, 28, 1), 5, False),
        (CNN((4,), 8, 3), (7, 5, 1), 3, False),
    ],
)
def test_other_networks(model, shape, layers, mlp):
    found = seen(model, *shape)
    assert len(found.layers) == layers
    assert found.feedforward
    assert found.is_mlp is mlp
