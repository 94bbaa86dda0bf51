import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import peer
import pytest

from jaxdl.nn import MLP, ByFanIn

X = np.random.default_rng(1).normal(size=(5, 3, 7)).astype(np.float32)


def forward(p, stats, x, activation, norm, train):
    """The network of widths 11, 13, 2 in PyTorch."""
    x = x.flatten(1)
    for i in range(2):
        x = peer.dense(p[f"Dense_{i}"], x)
        if norm:
            x = peer.batch_norm(p[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"], x, train)
        x = activation(x)
    return peer.dense(p["Dense_2"], x)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_output_and_gradient_against_torch(norm, activation):
    torch = pytest.importorskip("torch")
    model = MLP((11, 13, 2), getattr(nn, activation), norm=norm)
    variables = peer.random_variables(model, X)
    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}

    def loss(params):
        y, new = model.apply({"params": params, **rest}, X, True, mutable=["batch_stats"])
        return (y**2).mean(), (y, new)

    (_, (y, new)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    p, stats = peer.tensors(params, requires_grad=True), peer.tensors(variables.get("batch_stats", {}))
    expected = forward(p, stats, peer.tensors(X), getattr(torch, activation), norm, True)
    expected.square().mean().backward()
    np.testing.assert_allclose(y, expected.detach(), atol=1e-5)
    close = lambda g, t: np.testing.assert_allclose(g, t.grad, atol=5e-5 * max(1, t.grad.abs().max()))
    jax.tree.map(close, grads, p)
    if norm:
        means, expected_means = (
            [s[f"BatchNorm_{i}"]["mean"] for i in range(2)] for s in (new["batch_stats"], peer.arrays(stats))
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), means, expected_means)
        y = jax.jit(model.apply)({"params": params, **new}, X)
        stats = peer.tensors(new["batch_stats"])
        expected = forward(peer.tensors(params), stats, peer.tensors(X), getattr(torch, activation), norm, False)
        np.testing.assert_allclose(y, expected, atol=1e-5)


def test_linear_classifier_is_one_product():
    model = MLP((13,))
    variables = peer.random_variables(model, X)
    p = variables["params"]["Dense_0"]
    np.testing.assert_allclose(model.apply(variables, X), X.reshape(5, 21) @ p["kernel"] + p["bias"], atol=1e-5)


def test_number_of_parameters():
    def count(model, shape):
        params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))["params"]
        return sum(p.size for p in jax.tree.leaves(params))

    assert count(MLP((128, 10)), (2, 28, 28, 1)) == 784 * 128 + 128 + 128 * 10 + 10 == 101_770
    assert count(MLP((10,)), (2, 28, 28, 1)) == 7_850
    # With norm the hidden layers have a scale and a shift instead of a bias.
    assert count(MLP((11, 13, 2), norm=True), (2, 7)) == 7 * 11 + 22 + 11 * 13 + 26 + 13 * 2 + 2


def test_initialisers_get_the_fan_in_of_each_layer():
    model = MLP((11, 13), kernel_init=nn.initializers.ones, bias_init=ByFanIn(nn.initializers.constant))
    params = jax.jit(model.init)(jax.random.key(0), X)["params"]
    np.testing.assert_array_equal(params["Dense_0"]["bias"], np.full(11, 21))
    np.testing.assert_array_equal(params["Dense_1"]["bias"], np.full(13, 11))
    np.testing.assert_array_equal(params["Dense_1"]["kernel"], np.ones((11, 13)))


def test_dropout():
    width, rows, rate = 499, 23, 0.3
    model = MLP((width, width), lambda x: x, dropout=rate)
    identity = {"kernel": np.eye(width, dtype=np.float32), "bias": np.zeros(width, np.float32)}
    variables = {"params": {"Dense_0": identity, "Dense_1": identity}}
    x = np.ones((rows, width), np.float32)
    np.testing.assert_array_equal(model.apply(variables, x), x)

    def train(seed):
        return np.asarray(model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(seed)}))

    y = train(0)
    dropped = y == 0
    np.testing.assert_allclose(y[~dropped], 1 / (1 - rate), rtol=1e-6)
    sigma = (rate * (1 - rate) / y.size) ** 0.5
    assert abs(dropped.mean() - rate) < 4 * sigma
    # Rows and columns have separate draws.
    assert dropped.mean(0).std() < 0.15
    assert dropped.mean(1).std() < 0.05
    np.testing.assert_array_equal(y, train(0))
    assert (y != train(1)).any()


@pytest.mark.parametrize(
    ("model", "message"),
    [(MLP(()), "features"), (MLP((3,), dropout=1.0), "dropout"), (MLP((3,), dropout=-0.1), "dropout")],
)
def test_bad_fields(model, message):
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), X)
