import jax
import jax.numpy as jnp
import numpy as np
import peer
import pytest

from jaxdl.nn import ResNet, ResNet18, resnet
from tests.budget import first

X = np.random.default_rng(3).normal(size=(5, 8, 8, 3)).astype(np.float32)


def forward(p, stats, x, train, sizes):
    """ResNet-20 in PyTorch; appends the number of values that each batch norm averages to sizes."""
    import torch

    def norm(p, stats, x):
        sizes.append(x.numel() // x.shape[-1])
        return peer.batch_norm(p, stats, x, train)

    x = torch.relu(norm(p["BatchNorm_0"], stats["BatchNorm_0"], peer.conv(p["Conv_0"], x, padding=1)))
    for i in range(9):
        stride = 2 if i in (3, 6) else 1
        q, s = p[f"ResidualBlock_{i}"], stats[f"ResidualBlock_{i}"]
        y = peer.conv(q["Conv_0"], x, padding=1, stride=stride)
        y = torch.relu(norm(q["BatchNorm_0"], s["BatchNorm_0"], y))
        y = norm(q["BatchNorm_1"], s["BatchNorm_1"], peer.conv(q["Conv_1"], y, padding=1))
        x = x[:, ::stride, ::stride]
        x = torch.relu(y + torch.cat([x, torch.zeros(*x.shape[:3], y.shape[3] - x.shape[3])], 3))
    return peer.dense(p["Dense_0"], x.mean((1, 2)))


@pytest.fixture(scope="module")
def variables():
    return peer.random_variables(ResNet(20, classes=7), X)


def test_training_mode_against_torch(variables):
    pytest.importorskip("torch")
    apply = jax.jit(lambda variables: ResNet(20, 7).apply(variables, X, True, mutable=["batch_stats"]))
    y, new = apply(variables)
    stats, sizes = peer.tensors(variables["batch_stats"]), []
    expected = forward(peer.tensors(variables["params"]), stats, peer.tensors(X), True, sizes)
    np.testing.assert_allclose(y, expected, atol=1e-5, rtol=1e-5)
    assert sizes == [5 * 8 * 8] * 7 + [5 * 4 * 4] * 6 + [5 * 2 * 2] * 6
    names = ["BatchNorm_0", *(f"ResidualBlock_{i}/BatchNorm_{j}" for i in range(9) for j in range(2))]
    for name, n in zip(names, sizes, strict=True):
        before, after, theirs = variables["batch_stats"], new["batch_stats"], peer.arrays(stats)
        for part in name.split("/"):
            before, after, theirs = before[part], after[part], theirs[part]
        np.testing.assert_allclose(after["mean"], theirs["mean"], atol=1e-5)
        np.testing.assert_allclose(after["var"], peer.biased(theirs["var"], before["var"], n), rtol=1e-5)


def test_evaluation_mode_against_torch(variables):
    pytest.importorskip("torch")
    y = jax.jit(ResNet(20, 7).apply)(variables, X)
    stats = peer.tensors(variables["batch_stats"])
    expected = forward(peer.tensors(variables["params"]), stats, peer.tensors(X), False, [])
    np.testing.assert_allclose(y, expected, atol=1e-5, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, peer.arrays(stats), variables["batch_stats"])


@pytest.mark.parametrize("train", first([False, True]))
def test_resnet18_against_torch(train):
    torch = pytest.importorskip("torch")
    variables = peer.random_variables(ResNet18(7, width=5), X)
    p, stats = peer.tensors(variables["params"]), peer.tensors(variables["batch_stats"])

    def unit(p, stats, i, x, **options):
        return peer.batch_norm(
            p[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"], peer.conv(p[f"Conv_{i}"], x, **options), train
        )

    x = torch.relu(unit(p, stats, 0, peer.tensors(X), padding=1))
    for i in range(8):
        stride = 2 if i in (2, 4, 6) else 1
        block = p[f"ResidualBlock_{i}"], stats[f"ResidualBlock_{i}"]
        y = unit(*block, 1, torch.relu(unit(*block, 0, x, padding=1, stride=stride)), padding=1)
        x = torch.relu(y + (x if stride == 1 else unit(*block, 2, x, stride=stride)))
    y, _ = jax.jit(lambda v: ResNet18(7, 5).apply(v, X, train, mutable=["batch_stats"]))(variables)
    np.testing.assert_allclose(y, peer.dense(p["Dense_0"], x.mean((1, 2))), atol=1e-4)


def test_resnet18_number_of_parameters():
    widths = [64, 128, 256, 512]
    convolutions = 27 * 64 + sum(9 * w * w * 4 for w in widths) - sum(9 * w * w // 2 for w in widths[1:])
    projections = sum(w * w // 2 for w in widths[1:])
    norms = 2 * (64 + sum(4 * w for w in widths) + sum(widths[1:]))
    assert convolutions + projections + norms + 512 * 10 + 10 == 11_173_962
    params = jax.eval_shape(ResNet18().init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))["params"]
    assert sum(p.size for p in jax.tree.leaves(params)) == 11_173_962


@pytest.mark.parametrize("n", [3, 5, 9])
def test_number_of_parameters(n):
    depth, groups = 6 * n + 2, [16, 32, 64]
    first = 3 * 3 * 3 * 16 + 2 * 16
    blocks = sum(9 * c * c * 2 * n + 2 * c * 2 * n for c in groups)
    narrower = 9 * (
        32 * 32 - 16 * 32 + 64 * 64 - 32 * 64
    )  # the first convolution of groups 2 and 3 has half the inputs
    total = first + blocks - narrower + 64 * 10 + 10
    assert total == {20: 269_722, 32: 464_154, 56: 853_018}[depth]
    params = jax.eval_shape(ResNet(depth).init, jax.random.key(0), jnp.zeros((2, 8, 8, 3)))["params"]
    assert sum(p.size for p in jax.tree.leaves(params)) == total


def test_every_kernel_starts_with_he_and_convolutions_have_no_bias(monkeypatch):
    assert float(resnet.HE(jax.random.key(0), (3, 3, 37, 101)).var()) == pytest.approx(2 / (9 * 37), rel=0.03)
    monkeypatch.setattr(resnet, "HE", lambda key, shape, dtype: jnp.full(shape, 7, dtype))
    params = jax.jit(ResNet(8).init)(jax.random.key(0), X)["params"]
    layers = [params["Conv_0"], *(params[f"ResidualBlock_{i}"][f"Conv_{j}"] for i in range(3) for j in range(2))]
    assert all(set(layer) == {"kernel"} for layer in layers)
    for layer in (*layers, params["Dense_0"]):
        assert (layer["kernel"] == 7).all()


@pytest.mark.parametrize("shape", [(2, 4, 4, 1), (2, 5, 7, 3), (2, 28, 28, 1)])
def test_input_sizes(shape):
    y, _ = jax.eval_shape(ResNet(8, classes=11).init_with_output, jax.random.key(0), jnp.zeros(shape))
    assert y.shape == (2, 11)


@pytest.mark.parametrize("depth", [2, 18, 21, -4])
def test_wrong_depth(depth):
    with pytest.raises(ValueError, match=rf"depth .*6n \+ 2.* got {depth}\b"):
        ResNet(depth).init(jax.random.key(0), X)


@pytest.mark.parametrize("shape", [(2, 3, 8, 1), (2, 8, 3, 1), (2, 8, 8)])
def test_wrong_images(shape):
    with pytest.raises(ValueError, match=r"ResNet: .*>= 4"):
        ResNet(8).init(jax.random.key(0), np.zeros(shape, np.float32))
