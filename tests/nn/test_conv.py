import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdl.nn import Conv, ConvTranspose, convolve, input_gradient, kernel_gradient
from tests.budget import first

# image, kernel, strides, padding; with strides that divide the sides and strides that do not
GEOMETRIES = [
    ((11, 7), (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((11, 7), (3, 5), (2, 2), ((1, 1), (2, 2))),
    ((13, 10), (4, 4), (2, 2), ((1, 1), (1, 1))),
    ((14, 17), (2, 3), (3, 2), ((0, 0), (0, 0))),
    ((5, 7), (1, 1), (2, 2), ((0, 0), (0, 0))),
]


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def close(ours, theirs, tolerance=1e-5):
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())


def second_order(function, gradients):
    """first: gradients of <function(a, b), c>; second: the sum of their squares, to be differentiated by a, b and c."""

    def first(a, b, c):
        return gradients(lambda a, b: (function(a, b) * c).sum(), a, b)

    return first, lambda a, b, c: sum((g**2).sum() for g in first(a, b, c))


def ours_twice(function, a, b, c):
    first, penalty = second_order(function, lambda f, a, b: jax.grad(f, (0, 1))(a, b))
    return jax.jit(lambda a, b, c: (function(a, b), first(a, b, c), jax.grad(penalty, (0, 1, 2))(a, b, c)))(a, b, c)


def torch_twice(function, a, b, c):
    import torch

    a, b, c = (torch.tensor(x, requires_grad=True) for x in (a, b, c))
    first, penalty = second_order(function, lambda f, a, b: torch.autograd.grad(f(a, b), (a, b), create_graph=True))
    grads = first(a, b, c)
    second = torch.autograd.grad(penalty(a, b, c), (a, b, c))
    return jax.tree.map(lambda t: t.detach().numpy(), (function(a, b), grads, second))


def torch_conv(strides, pads, transpose=False):
    import torch

    padding = (pads[0][0], pads[1][0])

    def convolution(x, k):
        x = x.permute(0, 3, 1, 2)
        if transpose:
            return torch.conv_transpose2d(x, k.permute(2, 3, 0, 1), None, strides, padding).permute(0, 2, 3, 1)
        return torch.conv2d(x, k.permute(3, 2, 0, 1), None, strides, padding).permute(0, 2, 3, 1)

    return convolution


@pytest.mark.parametrize(("size", "window", "strides", "pads"), GEOMETRIES)
def test_convolution_and_two_orders_of_gradients_against_torch(size, window, strides, pads):
    pytest.importorskip("torch")
    x, k = draw(5, *size, 3), draw(*window, 3, 2)
    shape = jax.eval_shape(lambda x, k: convolve(x, k, strides, pads), x, k).shape
    c = draw(*shape)
    ours = ours_twice(lambda x, k: convolve(x, k, strides, pads), x, k, c)
    jax.tree.map(close, ours, torch_twice(torch_conv(strides, pads), x, k, c))


@pytest.mark.parametrize(("window", "strides", "padding"), [((4, 4), 2, 1), ((3, 5), (2, 3), ((1, 1), (2, 2)))])
def test_transposed_convolution_and_two_orders_of_gradients_against_torch(window, strides, padding):
    pytest.importorskip("torch")
    x, k = draw(5, 7, 3, 3), draw(*window, 3, 2)
    model = ConvTranspose(2, window, strides, padding, use_bias=False)

    def ours(x, k):
        return model.apply({"params": {"kernel": k}}, x)

    pads = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    theirs = torch_conv((strides, strides) if isinstance(strides, int) else strides, pads, transpose=True)
    c = draw(*jax.eval_shape(ours, x, k).shape)
    jax.tree.map(close, ours_twice(ours, x, k, c), torch_twice(theirs, x, k, c))


def test_kernel_gradient_can_be_differentiated_itself():
    # A WGAN gradient penalty differentiates the other two functions, a penalty on the parameters' gradient this one.
    geometry = ((2, 1), ((1, 1), (0, 1)))
    x, k = draw(3, 7, 5, 2), draw(3, 2, 2, 5)
    plain = lambda x, k: jax.lax.conv_general_dilated(x, k, *geometry, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = draw(*jax.eval_shape(plain, x, k).shape)

    @jax.jit
    def both(x, y):
        ours = jax.grad(lambda x, y: (kernel_gradient(x, y, *geometry, (3, 2)) ** 3).sum(), (0, 1))
        theirs = jax.grad(lambda x, y: (jax.vjp(lambda k: plain(x, k), k)[1](y)[0] ** 3).sum(), (0, 1))
        return ours(x, y), theirs(x, y)

    jax.tree.map(close, *both(x, y))


@pytest.mark.parametrize("function", [convolve, input_gradient, kernel_gradient])
def test_kernels_may_be_batched_by_vmap_and_split_by_pmap(function):
    geometry = ((2, 2), ((1, 1), (1, 1)))
    a, b, last = {
        convolve: (draw(2, 3, 8, 10, 5), draw(2, 4, 4, 5, 7), ()),
        input_gradient: (draw(2, 3, 4, 5, 7), draw(2, 4, 4, 5, 7), ((8, 10),)),
        kernel_gradient: (draw(2, 3, 8, 10, 5), draw(2, 3, 4, 5, 7), ((4, 4),)),
    }[function]

    def one(a, b):
        return jax.value_and_grad(lambda a, b: (function(a, b, *geometry, *last) ** 2).sum(), (0, 1))(a, b)

    expected = jax.tree.map(lambda *x: np.stack(x), *(jax.jit(one)(x, y) for x, y in zip(a, b, strict=True)))
    jax.tree.map(close, jax.jit(jax.vmap(one))(a, b), expected)
    jax.tree.map(close, jax.pmap(one, devices=jax.devices()[:2])(a, b), expected)


@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    first([((3, 3), (1, 1), "SAME"), ((4, 5), (2, 3), "SAME"), ((4, 5), (2, 3), "VALID"), ((3, 3), (2, 2), 2),
     ((4, 5), (1, 2), ((1, 2), (0, 3)))], 2),
)  # fmt: skip
def test_conv_is_flax_conv(window, strides, padding):
    x = draw(3, 11, 13, 2)
    ours, theirs = Conv(5, window, strides, padding), nn.Conv(5, window, strides, padding)
    variables = jax.jit(theirs.init)(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(ours.init)(jax.random.key(0), x), variables)
    variables["params"]["bias"] = jnp.arange(5.0)
    close(jax.jit(ours.apply)(variables, x), jax.jit(theirs.apply)(variables, x))


@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [((4, 4), (2, 2), "SAME"), ((3, 5), (1, 2), "SAME"), ((2, 4), (3, 1), "SAME"), ((3, 5), (1, 3), "VALID")],
)
def test_conv_transpose_is_flax_conv_transpose_with_the_kernel_flipped(window, strides, padding):
    x = draw(3, 5, 7, 2)
    theirs = nn.ConvTranspose(3, window, strides, padding)
    params = jax.jit(theirs.init)(jax.random.key(0), x)["params"] | {"bias": jnp.arange(3.0)}
    expected = jax.jit(theirs.apply)({"params": params}, x)
    params["kernel"] = params["kernel"][::-1, ::-1]
    close(jax.jit(ConvTranspose(3, window, strides, padding).apply)({"params": params}, x), expected)


@pytest.mark.parametrize("padding", ["SAME", ((1, 2), (3, 0))])
def test_conv_transpose_is_the_transpose_of_conv(padding):
    x, k = draw(2, 10, 9, 3), draw(5, 4, 3, 7)
    down = Conv(7, (5, 4), (2, 3), padding, use_bias=False)
    up = ConvTranspose(3, (5, 4), (2, 3), padding, use_bias=False)
    down_x = jax.jit(lambda x: down.apply({"params": {"kernel": k}}, x))(x)
    y = draw(*down_x.shape)
    up_y = jax.jit(lambda y: up.apply({"params": {"kernel": k.swapaxes(2, 3)}}, y))(y)
    rows, columns = up_y.shape[1:3]  # the last window may end before the last rows and columns of x
    assert (10 - rows, 9 - columns) == ((0, 0) if padding == "SAME" else (0, 2))
    assert float((down_x * y).sum()) == pytest.approx(float((x[:, :rows, :columns] * up_y).sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        (Conv(3, 5, padding="VALID"), 4, r"Conv: kernel_size .*\(5, 5\)"),
        (Conv(3, 3, padding="same"), 4, "padding .*'same'"),
        (ConvTranspose(3, 3, padding=3), 4, r"ConvTranspose: padding .*\(0, 0\)"),
        (ConvTranspose(3, 3, padding="FULL"), 4, "padding .*'FULL'"),
    ],
)
def test_bad_geometry(model, size, message):
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), np.zeros((1, size, size, 2), np.float32))
