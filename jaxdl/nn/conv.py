"""Convolutions and transposed convolutions with fast gradients of every order.

Each gradient of one of these three bilinear functions is another of the three:

    y = convolve(x, k)            dx = input_gradient(dy, k)       dk = kernel_gradient(x, dy)
    x = input_gradient(y, k)      dy = convolve(dx, k)             dk = kernel_gradient(dx, y)
    k = kernel_gradient(x, y)     dx = input_gradient(y, dk)       dy = convolve(x, dk)

`input_gradient` is the transposed convolution. Autodiff of linen's `ConvTranspose`, or of a gradient of linen's `Conv`
(gradient penalties), convolves with an image dilated by zeros instead, which is slow on the CPU.
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
    """Returns y[b, i, j, o] = sum_{u, v, c} x[b, s i + u - p, t j + v - q, c] kernel[u, v, c, o], with x zero outside.

    Supports reverse-mode differentiation, any number of times, and not forward mode.

    Args:
      x: [B, H, W, C_in], float.
      kernel: [h, w, C_in, C_out], of the dtype of x.
      strides: (s, t).
      pads: zeros around x, ((above, below), (left, right)); p = above, q = left.

    Returns:
      [B, (H + above + below - h) // s + 1, (W + left + right - w) // t + 1, C_out].

    Raises:
      TypeError: under `jax.jvp`.
    """
    return _plain(x, kernel, strides, pads)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def input_gradient(y: Array, kernel: Array, strides: Pair, pads: Pads, size: Pair) -> Array:
    """Returns the x with <x, z> = <y, convolve(z, kernel)> for every z [B, *size, C_in]: a transposed convolution.

    Args:
      y: [B, H', W', C_out], the shape of `convolve(x, kernel)`.
      kernel: [h, w, C_in, C_out], of the dtype of y.
      strides: as in `convolve`.
      pads: as in `convolve`.
      size: (H, W) of x, which H', W' and the strides do not determine.

    Returns:
      [B, *size, C_in].

    Raises:
      TypeError: under `jax.jvp`.
    """
    x = ShapeDtypeStruct((y.shape[0], *size, kernel.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _plain(x, kernel, strides, pads), x)(y)[0]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def kernel_gradient(x: Array, y: Array, strides: Pair, pads: Pads, kernel_size: Pair) -> Array:
    """Returns the k with <k, z> = <y, convolve(x, z)> for every z [*kernel_size, C_in, C_out].

    Args:
      x: [B, H, W, C_in], float.
      y: [B, H', W', C_out], the shape of `convolve(x, kernel)`.
      strides: as in `convolve`.
      pads: as in `convolve`.
      kernel_size: (h, w).

    Returns:
      [*kernel_size, C_in, C_out].

    Raises:
      TypeError: under `jax.jvp`.
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
            raise ValueError(f'padding must be "SAME", "VALID", an integer or two pairs of integers, got {padding!r}')
        rows, columns = lax.padtype_to_pads(size, kernel_size, strides, padding)
    else:
        rows, columns = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    return _pair(rows), _pair(columns)


class Conv(nn.Module):
    """Convolution with the parameters and outputs of `flax.linen.Conv`: kernel [h, w, C_in, C_out], bias [C_out].

    Attributes:
      features: C_out.
      kernel_size: (h, w), or one integer for both.
      strides: (s, t), or one integer for both.
      padding: "SAME" (output rows ceil(H / s); an odd number of zeros has one more below and right), "VALID" (none), an
        integer for every side, or ((above, below), (left, right)).
      use_bias: whether to add a bias; use False before a norm.
      kernel_init: linen initialiser of the kernel.
      bias_init: linen initialiser of the bias.
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
        """Returns the convolution [B, H', W', C_out] of x [B, H, W, C_in].

        Raises:
          ValueError: if the kernel is larger than the padded image, or padding is an unknown string.
          AssertionError: if x is not of rank 4.
        """
        chex.assert_rank(x, 4)
        window, strides = _pair(self.kernel_size), _pair(self.strides)
        pads = _pads(self.padding, _size(x), window, strides)
        if any(n + sum(pad) < k for n, pad, k in zip(_size(x), pads, window, strict=True)):
            raise ValueError(
                f"Conv: kernel_size must be at most the padded image, got {window} for {_size(x)} padded by {pads}"
            )
        kernel = self.param("kernel", self.kernel_init, (*window, x.shape[3], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias)
        y = convolve(x, kernel, strides, pads)
        return y if bias is None else y + bias[None, None, None]


class ConvTranspose(nn.Module):
    """Transposed convolution, as PyTorch's ConvTranspose2d: each input pixel adds a patch of h x w output pixels.

        y[b, s i + u - p, t j + v - q, o] += x[b, i, j, c] kernel[u, v, c, o] for all i, j, u, v, c

    kernel [h, w, C_in, C_out] is PyTorch's weight [C_in, C_out, h, w]. The kernel of `flax.linen.ConvTranspose` is this
    one flipped along u and v.

    Attributes:
      features: C_out.
      kernel_size: (h, w), or one integer for both.
      strides: (s, t), or one integer for both.
      padding: padding of the convolution of which this is the transpose: "SAME" (H' = s H, W' = t W), "VALID"
        (H' = s (H - 1) + h), or rows and columns to crop, an integer or ((above, below), (left, right))
        (H' = s (H - 1) + h - above - below).
      use_bias: whether to add a bias; use False before a norm.
      kernel_init: linen initialiser of the kernel. Its fan_in is h w C_in, of which 1 / (s t) reach one output pixel.
      bias_init: linen initialiser of the bias.
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
        """Returns the transposed convolution [B, H', W', C_out] of x [B, H, W, C_in].

        Raises:
          ValueError: if padding crops the whole output, or is an unknown string.
          AssertionError: if x is not of rank 4.
        """
        chex.assert_rank(x, 4)
        window, strides = _pair(self.kernel_size), _pair(self.strides)
        if self.padding == "SAME":
            size = _pair([n * s for n, s in zip(_size(x), strides, strict=True)])
        else:
            cut = _pads(self.padding, (0, 0), window, strides)
            size = _pair([(n - 1) * s + k - sum(c) for n, s, k, c in zip(_size(x), strides, window, cut, strict=True)])
        if min(size) < 1:
            raise ValueError(
                f"ConvTranspose: padding must leave an output of at least 1x1, got {self.padding}, which leaves {size}"
            )
        pads = _pads(self.padding, size, window, strides)
        kernel = self.param("kernel", self.kernel_init, (*window, x.shape[3], self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias)
        y = input_gradient(x, kernel.swapaxes(2, 3), strides, pads, size)
        return y if bias is None else y + bias[None, None, None]
