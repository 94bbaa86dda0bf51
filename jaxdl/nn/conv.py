"""Convolutions whose gradients of every order are convolutions again, none of them a slow one.

Three bilinear functions, each gradient of which is another of the three:

    y = convolve(x, k)            dx = input_gradient(dy, k)       dk = kernel_gradient(x, dy)
    x = input_gradient(y, k)      dy = convolve(dx, k)             dk = kernel_gradient(dx, y)
    k = kernel_gradient(x, y)     dx = input_gradient(y, dk)       dy = convolve(x, dk)

`input_gradient` is the transposed convolution. Autodiff of it, which `nn.ConvTranspose` and any second derivative of
`nn.Conv` (gradient penalties) come down to, convolves an image full of zeros with another one instead.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import chex
import jax
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import Array, ShapeDtypeStruct, lax
from jax.nn.initializers import Initializer

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
Padding = str | int | Sequence[Pair]

NUMBERS = ("NHWC", "HWIO", "NHWC")


def _plain(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=NUMBERS)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    """y[b, i, j, o] = sum_{u, v, c} x[b, s i + u - p, t j + v - q, c] kernel[u, v, c, o], zeros outside x.

    Reverse mode only, any number of times; `jax.jvp` raises a TypeError.

    Args:
      x: [B, H, W, C_in].
      kernel: [h, w, C_in, C_out].
      strides: (s, t).
      pads: zeros around x, ((above, below), (left, right)); p = above, q = left.

    Returns:
      [B, (H + above + below - h) // s + 1, (W + left + right - w) // t + 1, C_out].
    """
    return _plain(x, kernel, strides, pads)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def input_gradient(y: Array, kernel: Array, strides: Pair, pads: Pads, size: Pair) -> Array:
    """The x with <x, z> = <y, convolve(z, kernel)> for every z [B, *size, C_in]: a transposed convolution.

    Args:
      y: [B, H', W', C_out], as `convolve` makes it of x.
      kernel: [h, w, C_in, C_out].
      strides: of `convolve`.
      pads: of `convolve`.
      size: (H, W); strides leave open which of several sizes it was.

    Returns:
      [B, *size, C_in].
    """
    x = ShapeDtypeStruct((y.shape[0], *size, kernel.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _plain(x, kernel, strides, pads), x)(y)[0]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def kernel_gradient(x: Array, y: Array, strides: Pair, pads: Pads, kernel_size: Pair) -> Array:
    """The k with <k, z> = <y, convolve(x, z)> for every z [*kernel_size, C_in, C_out].

    Args:
      x: [B, H, W, C_in].
      y: [B, H', W', C_out].
      strides: of `convolve`.
      pads: of `convolve`.
      kernel_size: (h, w).

    Returns:
      [*kernel_size, C_in, C_out].
    """
    kernel = ShapeDtypeStruct((*kernel_size, x.shape[3], y.shape[3]), x.dtype)
    return jax.linear_transpose(lambda kernel: _plain(x, kernel, strides, pads), kernel)(y)[0]


def _size(image: Array) -> Any:
    return image.shape[1:3]


def _convolve_backward(strides: Pair, pads: Pads, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, k = saved
    return input_gradient(dy, k, strides, pads, _size(x)), kernel_gradient(x, dy, strides, pads, k.shape[:2])


def _input_backward(s: Pair, pads: Pads, size: Pair, saved: tuple[Array, Array], dx: Array) -> tuple[Array, Array]:
    y, k = saved
    return convolve(dx, k, s, pads), kernel_gradient(dx, y, s, pads, k.shape[:2])


def _kernel_backward(s: Pair, pads: Pads, size: Pair, saved: tuple[Array, Array], dk: Array) -> tuple[Array, Array]:
    x, y = saved
    return input_gradient(y, dk, s, pads, _size(x)), convolve(x, dk, s, pads)


def _save(function: Any) -> Any:
    return lambda a, b, *geometry: (function(a, b, *geometry), (a, b))


convolve.defvjp(_save(convolve), _convolve_backward)
input_gradient.defvjp(_save(input_gradient), _input_backward)
kernel_gradient.defvjp(_save(kernel_gradient), _kernel_backward)


def _pair(value: int | Sequence[int]) -> Pair:
    first, second = (value, value) if isinstance(value, int) else value
    return first, second


def _pads(padding: Padding, size: Pair, kernel_size: Pair, strides: Pair) -> Pads:
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f'padding is {padding!r}, it must be "SAME", "VALID", a number or two pairs of numbers')
        rows, columns = lax.padtype_to_pads(size, kernel_size, strides, padding)
    else:
        rows, columns = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    return _pair(rows), _pair(columns)


class Conv(nn.Module):
    """Convolution, with the parameters and the output of `flax.linen.Conv`: kernel [h, w, C_in, C_out], bias [C_out].

    Attributes:
      features: C_out.
      kernel_size: (h, w), or one number for both.
      strides: one number or a pair.
      padding: "SAME" (ceil(H / stride) rows; an odd zero goes below and right), "VALID" (none), zeros on every side, or
        ((above, below), (left, right)).
      use_bias: False before a norm.
      kernel_init: linen initialiser.
      bias_init: linen initialiser.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C_in] -> [B, H', W', C_out].

        Raises:
          ValueError: the kernel is larger than the padded image, or the padding is no padding.
        """
        chex.assert_rank(x, 4)
        window, strides = _pair(self.kernel_size), _pair(self.strides)
        pads = _pads(self.padding, _size(x), window, strides)
        if any(n + sum(pad) < k for n, pad, k in zip(_size(x), pads, window, strict=True)):
            raise ValueError(f"Conv: a kernel of {window} is larger than the padded image, {_size(x)} with {pads}")
        kernel = self.param("kernel", self.kernel_init, (*window, x.shape[3], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias)
        y = convolve(x, kernel, strides, pads)
        return y if bias is None else y + bias[None, None, None]


class ConvTranspose(nn.Module):
    """The transpose of a strided convolution, PyTorch's ConvTranspose2d: each pixel adds a patch of h x w pixels.

        y[b, s i + u - p, t j + v - q, o] += x[b, i, j, c] kernel[u, v, c, o] for all i, j, u, v, c

    kernel [h, w, C_in, C_out] is PyTorch's weight [C_in, C_out, h, w]; `flax.linen.ConvTranspose` counts u and v from
    the other end.

    Attributes:
      features: C_out.
      kernel_size: (h, w), or one number for both.
      strides: one number or a pair.
      padding: what the convolution it is the transpose of has: "SAME" ([B, s H, t W, C_out]), "VALID"
        (H' = s (H - 1) + h), or rows and columns to cut off, one number or ((above, below), (left, right))
        (H' = s (H - 1) + h - above - below).
      use_bias: False before a norm.
      kernel_init: linen initialiser; its fan-in is h w C_in, of which s t share an output pixel.
      bias_init: linen initialiser.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C_in] -> [B, H', W', C_out].

        Raises:
          ValueError: nothing is left after the cuts, or the padding is no padding.
        """
        chex.assert_rank(x, 4)
        window, strides = _pair(self.kernel_size), _pair(self.strides)
        if self.padding == "SAME":
            size = _pair([n * s for n, s in zip(_size(x), strides, strict=True)])
        else:
            cut = _pads(self.padding, (0, 0), window, strides)
            size = _pair([(n - 1) * s + k - sum(c) for n, s, k, c in zip(_size(x), strides, window, cut, strict=True)])
        if min(size) < 1:
            raise ValueError(f"ConvTranspose: padding {self.padding} leaves {size} of an image of {_size(x)}")
        pads = _pads(self.padding, size, window, strides)
        kernel = self.param("kernel", self.kernel_init, (*window, x.shape[3], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias)
        y = input_gradient(x, kernel.swapaxes(2, 3), strides, pads, size)
        return y if bias is None else y + bias[None, None, None]
