import jax
import jax.numpy as jnp
import numpy as np
import peer
import pytest

from jaxdl.nn import ConvDecoder, ConvEncoder, Downsampling, Upsampling

SIZES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (29, 19, 2), (5, 7, 1)]


def images(*shape):
    return np.random.default_rng(6).normal(size=shape).astype(np.float32)


def value_and_grads(model, variables, x):
    def loss(params):
        y = model.apply({"params": params}, x)
        return (y**2).mean(), y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return y, grads


def down(p, x, layers):
    torch = pytest.importorskip("torch")
    for i in range(layers):
        H, W = x.shape[1:3]
        # padding: 1 on either end of an even side, 1 and 2 of an odd side
        x = torch.nn.functional.pad(x, (0, 0, 1, 1 + W % 2, 1, 1 + H % 2))
        x = torch.relu(peer.conv(p[f"Conv_{i}"], x, stride=2))
    return x


def up(p, x, sizes):
    torch = pytest.importorskip("torch")
    for i, (H, W) in enumerate(sizes):
        x = torch.relu(x) if i else x
        weight = p[f"ConvTranspose_{i}"]["kernel"].permute(2, 3, 0, 1)
        y = torch.conv_transpose2d(x.permute(0, 3, 1, 2), weight, p[f"ConvTranspose_{i}"]["bias"], 2, 1)
        x = y.permute(0, 2, 3, 1)[:, :H, :W]
    return x


def mlp(p, x):
    return peer.dense(p["Dense_1"], peer.dense(p["Dense_0"], x.flatten(1)).relu())


def same(model, x, theirs):
    variables = peer.random_variables(model, x)
    y, grads = value_and_grads(model, variables, x)
    p = peer.tensors(variables["params"], requires_grad=True)
    expected = theirs(p, peer.tensors(x))
    expected.square().mean().backward()
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected.detach(), atol=1e-5)
    jax.tree.map(lambda g, t: np.testing.assert_allclose(g, t.grad, atol=1e-5), grads, p)


@pytest.mark.parametrize("size", [(29, 19, 2), (12, 20, 3)])
def test_encoder_against_torch(size):
    pytest.importorskip("torch")
    model = ConvEncoder(13, features=(5, 11), dense=17)
    same(model, images(3, *size), lambda p, x: mlp(p["MLP_0"], down(p["Downsampling_0"], x, 2)))


@pytest.mark.parametrize(("size", "sizes"), [((29, 19, 2), ((15, 10), (29, 19))), ((12, 20, 3), ((6, 10), (12, 20)))])
def test_decoder_against_torch(size, sizes):
    pytest.importorskip("torch")
    H, W = (-(-side // 4) for side in size[:2])

    def theirs(p, z):
        return up(p["Upsampling_0"], mlp(p["MLP_0"], z).relu().reshape(3, H, W, 11), sizes)

    same(ConvDecoder(size, features=(11, 5), dense=17), images(3, 13), theirs)


def test_upsampling_alone_has_no_activation_before_the_first_layer():
    pytest.importorskip("torch")
    same(Upsampling((12, 9, 2), (5,)), images(3, 3, 3, 7), lambda p, x: up(p, x, ((6, 5), (12, 9))))


@pytest.mark.parametrize("size", SIZES)
def test_decoder_restores_any_size(size):
    x = jax.ShapeDtypeStruct((3, *size), jnp.float32)
    shape = lambda model, x: jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], x)
    code = shape(ConvEncoder(7), x)
    assert code.shape == (3, 7)
    assert shape(ConvDecoder(size), code).shape == x.shape
    maps = shape(Downsampling((5, 11)), x)
    assert maps.shape == (3, -(-size[0] // 4), -(-size[1] // 4), 11)
    assert shape(Upsampling(size, (5,)), maps).shape == x.shape


def test_number_of_parameters():
    count = lambda model, *shape: sum(
        x.size for x in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape)))
    )
    conv, maps, dense = (16 + 1) * 32 + (16 * 32 + 1) * 64, 7 * 7 * 64, 256
    assert count(ConvEncoder(40), 2, 28, 28, 1) == conv + (maps + 1) * dense + (dense + 1) * 40
    conv = (16 * 64 + 1) * 32 + 16 * 32 + 1
    assert count(ConvDecoder((28, 28, 1)), 2, 20) == (20 + 1) * dense + (dense + 1) * maps + conv


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (ConvEncoder(3), (2, 3, 8, 1), r"Downsampling: .*>= 4.*\[2, 3, 8, 1\]"),
        (ConvEncoder(3), (2, 64), r"Downsampling: .*\[2, 64\]"),
        (ConvDecoder((3, 8, 1)), (2, 5), r"ConvDecoder: shape .*>= 4.*\(3, 8, 1\)"),
        (ConvDecoder((8, 8)), (2, 5), r"ConvDecoder: shape .*\(8, 8\)"),
        (Upsampling((8, 8)), (2, 2, 2, 3), r"Upsampling: shape .*\(8, 8\)"),
        (Upsampling((9, 8, 1)), (2, 2, 2, 3), r"Upsampling: input .*\[B, 3, 2, D\].*\[2, 2, 2, 3\]"),
    ],
)
def test_bad_sizes(model, shape, message):
    with pytest.raises(ValueError, match=message) as error:
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    assert "\n" not in str(error.value)
