"""Convolutional networks for small images: LeNet-5 and the 32-64 CNN of flax's MNIST example."""

from collections.abc import Callable, Sequence
from functools import partial

import chex
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer

from jaxdl.nn.initializers import ByFanIn, bias_initializer
from jaxdl.nn.mlp import MLP

average_pool = partial(nn.avg_pool, window_shape=(2, 2), strides=(2, 2))
"""Averages 2x2 windows, [B, H, W, C] -> [B, H // 2, W // 2, C]; an odd side loses its last row or column."""


def max_pool(x: Array) -> Array:
    """Returns maxima of 2x2 windows, [B, H, W, C] -> [B, H // 2, W // 2, C]; an odd side loses its last row or column.

    Equals `flax.linen.max_pool`, whose gradient (select-and-scatter) is slow on the CPU: forward and backward of
    [128, 28, 28, 32] take 53 ms there and 1.6 ms here. Equal maxima of a window share the gradient.

    Raises:
      AssertionError: if x is not of rank 4.
    """
    chex.assert_rank(x, 4)
    H, W = x.shape[1:3]
    x = x[:, : H // 2 * 2, : W // 2 * 2]
    top, bottom = x[:, ::2], x[:, 1::2]
    return jnp.maximum(jnp.maximum(top[:, :, ::2], top[:, :, 1::2]), jnp.maximum(bottom[:, :, ::2], bottom[:, :, 1::2]))


def check_images(model: str, x: Array, smallest: int) -> None:
    """Raises a ValueError with the name of the model unless x is [B, H, W, C] with H and W >= smallest."""
    if x.ndim != 4 or min(x.shape[1:3]) < smallest:
        raise ValueError(f"{model}: input must be [B, H, W, C] with H and W >= {smallest}, got {list(x.shape)}")


class LeNet5(nn.Module):
    """LeNet-5: 5x5 convolution to 6 channels, pool, 5x5 convolution to 16, pool, dense layers of 120, 84 and N units.

    For images 28x28x1 and N = 10 it has 61,706 parameters:

        C1 156 + C3 2,416 + C5 48,120 + F6 10,164 + output 850 = 61,706

    Like most modern versions it differs from LeCun et al. 1998: pooling has no parameters (there a sum with trainable
    coefficient and bias, then a squashing function); C3 is connected to all six maps (there 60 of the 96 pairs of maps,
    1,516 parameters); a dense layer computes the logits (there an RBF layer, distances to fixed bitmaps); the default
    activation is ReLU (there 1.7159 tanh(2 x / 3)). `LeNet5(activation=nn.tanh, pool=average_pool)` is closest to the
    original.

    C1 keeps the size, as in the paper, where 28x28 digits are centred in 32x32 images. Images may have any sides of at
    least 5 pixels. A side below 16 is padded with zeros to 16 (8x8 digits by four pixels on each side): 12 suffices for
    the kernel of C3, but leaves it 2x2 outputs and a lower accuracy (96.6% instead of 97.6% on digits, three seeds).

    Attributes:
      classes: N.
      activation: function applied after every layer except the last.
      pool: `max_pool` or `average_pool`.
      kernel_init: linen initialiser of the kernels.
      bias_init: linen initialiser of the biases, or a `ByFanIn`.

    Reference: LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document recognition.
    """

    classes: int = 10
    activation: Callable[[Array], Array] = nn.relu
    pool: Callable[[Array], Array] = max_pool
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer | ByFanIn = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns logits [B, N].

        Args:
          x: images [B, H, W, C], float, with H and W >= 5.
          train: ignored.

        Raises:
          ValueError: if x is not [B, H, W, C] with sides of at least 5 pixels.
        """
        check_images("LeNet5", x, smallest=5)
        missing = [max(0, 16 - side) for side in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0)))
        for features, padding in ((6, "SAME"), (16, "VALID")):
            bias_init = bias_initializer(self.bias_init, 25 * x.shape[-1])
            x = nn.Conv(features, (5, 5), padding=padding, kernel_init=self.kernel_init, bias_init=bias_init)(x)
            x = self.pool(self.activation(x))
        widths = (120, 84, self.classes)
        return MLP(widths, self.activation, kernel_init=self.kernel_init, bias_init=self.bias_init)(x, train)


class CNN(nn.Module):
    """The CNN of flax's MNIST example: k times [3x3 convolution, activation, pool], then two dense layers.

    Convolutions keep the size (zero padding), pools halve it. For images 28x28x1 and the default fields it has 824,458
    parameters: 320 + 18,496 + (7 7 64 256 + 256 = 803,072) + 2,570.

    Attributes:
      features: channels of each of the k convolutions.
      dense: width of the hidden dense layer.
      classes: N.
      activation: function applied after every layer except the last.
      pool: `max_pool` or `average_pool`.
      kernel_init: linen initialiser of the kernels.
      bias_init: linen initialiser of the biases, or a `ByFanIn`.

    Reference: https://github.com/google/flax/tree/main/examples/mnist.
    """

    features: Sequence[int] = (32, 64)
    dense: int = 256
    classes: int = 10
    activation: Callable[[Array], Array] = nn.relu
    pool: Callable[[Array], Array] = average_pool
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer | ByFanIn = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns logits [B, N].

        Args:
          x: images [B, H, W, C], float, with H and W >= 2^k.
          train: ignored.

        Raises:
          ValueError: if x is not [B, H, W, C] with sides of at least 2^k pixels.
        """
        check_images("CNN", x, smallest=2 ** len(self.features))
        for features in self.features:
            bias_init = bias_initializer(self.bias_init, 9 * x.shape[-1])
            x = nn.Conv(features, (3, 3), kernel_init=self.kernel_init, bias_init=bias_init)(x)
            x = self.pool(self.activation(x))
        widths = (self.dense, self.classes)
        return MLP(widths, self.activation, kernel_init=self.kernel_init, bias_init=self.bias_init)(x, train)
