import jax
import jax.numpy as jnp
import numpy as np
import peer
import pytest
from flax import linen as nn

from jaxdl.nn import CNN, ByFanIn, LeNet5, average_pool, max_pool


def images(*shape):
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


def parameters(model, shape):
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))["params"]
    return sum(p.size for p in jax.tree.leaves(params))


def head(p, x, layers, activation):
    x = x.flatten(1)
    for i in range(layers):
        x = peer.dense(p["MLP_0"][f"Dense_{i}"], x)
        x = activation(x) if i < layers - 1 else x
    return x


def lenet(p, x, activation, kind):
    x = peer.pool(activation(peer.conv(p["Conv_0"], x, padding=2)), kind)
    x = peer.pool(activation(peer.conv(p["Conv_1"], x)), kind)
    return head(p, x, 3, activation)


@pytest.mark.parametrize(
    ("activation", "kind", "size"), [("relu", "max", (29, 19, 2)), ("tanh", "average", (17, 23, 3))]
)
def test_lenet_output_and_gradient_against_torch(activation, kind, size):
    torch = pytest.importorskip("torch")
    x = images(5, *size)
    pool = {"max": max_pool, "average": average_pool}[kind]
    model = LeNet5(classes=7, activation=getattr(nn, activation), pool=pool)
    variables = peer.random_variables(model, x)

    @jax.jit
    def value_and_grad(params):
        def loss(params):
            y = model.apply({"params": params}, x)
            return (y**2).mean(), y

        return jax.value_and_grad(loss, has_aux=True)(params)

    (_, y), grads = value_and_grad(variables["params"])
    p = peer.tensors(variables["params"], requires_grad=True)
    expected = lenet(p, peer.tensors(x), getattr(torch, activation), kind)
    expected.square().mean().backward()
    assert y.shape == (5, 7)
    np.testing.assert_allclose(y, expected.detach(), atol=1e-5)
    jax.tree.map(lambda g, t: np.testing.assert_allclose(g, t.grad, atol=1e-5), grads, p)


def test_lenet_pads_small_images_to_16():
    torch = pytest.importorskip("torch")
    for size, padding in (((8, 8), (4, 4, 4, 4)), ((13, 17), (0, 0, 1, 2)), ((5, 16), (0, 0, 5, 6))):
        x = images(3, *size, 1)
        variables = peer.random_variables(LeNet5(), x)
        padded = torch.nn.functional.pad(peer.tensors(x), (0, 0, *padding))
        assert min(padded.shape[1:3]) == 16
        expected = lenet(peer.tensors(variables["params"]), padded, torch.relu, "max")
        np.testing.assert_allclose(jax.jit(LeNet5().apply)(variables, x), expected, atol=1e-5)


def test_lenet_number_of_parameters():
    assert 156 + 2416 + 48120 + 10164 + 850 == 61_706
    assert parameters(LeNet5(), (2, 28, 28, 1)) == 61_706
    assert parameters(LeNet5(activation=nn.tanh, pool=average_pool), (2, 28, 28, 1)) == 61_706
    # CIFAR: maps 32, 16, 12, 6; 8x8 and 16x16: 16, 8, 4, 2.
    assert parameters(LeNet5(), (2, 32, 32, 3)) == 61_706 + 5 * 5 * 2 * 6 + (36 - 25) * 16 * 120
    assert parameters(LeNet5(), (2, 8, 8, 1)) == parameters(LeNet5(), (2, 16, 16, 1)) == 61_706 - (25 - 4) * 16 * 120


@pytest.mark.parametrize(("ours", "theirs"), [(max_pool, nn.max_pool), (average_pool, nn.avg_pool)])
def test_pools_against_linen(ours, theirs):
    @jax.jit
    def values_and_gradients(x):
        return [
            (f(x), jax.grad(lambda x, f=f: (f(x) ** 3).sum())(x)) for f in (ours, lambda x: theirs(x, (2, 2), (2, 2)))
        ]

    one, other = values_and_gradients(images(3, 7, 11, 5))
    assert one[0].shape == (3, 3, 5, 5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, other)


def test_max_pool_shares_the_gradient_of_equal_entries():
    grad = jax.jit(jax.grad(lambda x: max_pool(x).sum()))(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(grad.ravel(), [0.25] * 4)


def test_cnn_against_torch():
    torch = pytest.importorskip("torch")
    x = images(3, 11, 13, 2)
    model = CNN((5, 7), 17, 3)
    variables = peer.random_variables(model, x)
    p, y = peer.tensors(variables["params"]), peer.tensors(x)
    for i in range(2):
        y = peer.pool(torch.relu(peer.conv(p[f"Conv_{i}"], y, padding=1)), "average")
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), head(p, y, 2, torch.relu), atol=1e-5)


def test_cnn_number_of_parameters():
    assert 9 * 32 + 32 + 9 * 32 * 64 + 64 + 7 * 7 * 64 * 256 + 256 + 2570 == 824_458
    assert parameters(CNN(), (2, 28, 28, 1)) == 824_458
    assert parameters(CNN(), (2, 8, 8, 1)) == 320 + 18_496 + 2 * 2 * 64 * 256 + 256 + 2570


@pytest.mark.parametrize("model", [LeNet5, CNN])
def test_initialisers_get_the_fan_in_of_each_layer(model):
    model = model(kernel_init=nn.initializers.ones, bias_init=ByFanIn(nn.initializers.constant))
    params = jax.jit(model.init)(jax.random.key(0), images(1, 8, 8, 3))["params"]
    for layer in (*(params[f"Conv_{i}"] for i in range(2)), *params["MLP_0"].values()):
        assert (layer["kernel"] == 1).all()
        assert (layer["bias"] == np.prod(layer["kernel"].shape[:-1])).all()


@pytest.mark.parametrize(
    ("model", "shape", "smallest"),
    [
        (LeNet5(), (2, 4, 28, 1), 5),
        (LeNet5(), (2, 28, 4, 1), 5),
        (LeNet5(), (2, 28, 28), 5),
        (CNN(), (2, 3, 8, 1), 4),
        (CNN((3, 5, 7)), (2, 7, 8, 1), 8),
    ],
)
def test_wrong_images(model, shape, smallest):
    with pytest.raises(ValueError, match=rf"{type(model).__name__}: .*>= {smallest}"):
        model.init(jax.random.key(0), images(*shape))
    y, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((2, smallest, smallest, 1)))
    assert y.shape == (2, 10)
