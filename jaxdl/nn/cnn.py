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
"""Means of 2x2 windows, [B, H, W, C] -> [B, H // 2, W // 2, C]; a last odd row or column is dropped."""


def max_pool(x: Array) -> Array:
    """Maxima of 2x2 windows, [B, H, W, C] -> [B, H // 2, W // 2, C]; a last odd row or column is dropped.

    Equal to `nn.max_pool`, whose gradient (select-and-scatter) is slow on the CPU: [128, 28, 28, 32] takes 53 ms there
    forward and backward, this 1.6 ms. Equal entries of a window share the gradient.
    """
    chex.assert_rank(x, 4)
    H, W = x.shape[1:3]
    x = x[:, : H // 2 * 2, : W // 2 * 2]
    top, bottom = x[:, ::2], x[:, 1::2]
    return jnp.maximum(jnp.maximum(top[:, :, ::2], top[:, :, 1::2]), jnp.maximum(bottom[:, :, ::2], bottom[:, :, 1::2]))


def check_images(model: str, x: Array, smallest: int) -> None:
    """Raises a ValueError that names the model unless x is [B, H, W, C] with H and W >= smallest."""
    if x.ndim != 4 or min(x.shape[1:3]) < smallest:
        raise ValueError(f"{model}: input is {list(x.shape)}, it must be [B, H, W, C] with H and W >= {smallest}")


class LeNet5(nn.Module):
    """LeNet-5: conv 5x5 6, pool, conv 5x5 16, pool, dense 120, 84, N; 61,706 parameters at [B, 28, 28, 1] and N = 10.

        C1 156 + C3 2,416 + C5 48,120 + F6 10,164 + output 850 = 61,706

    It differs from LeCun et al. 1998, as most of today's do: maximum or average pooling without parameters (there a sum
    with trainable coefficient and bias, then a squashing function); C3 sees all six maps (there a table of 60 of the 96
    pairs, 1,516 parameters); logits from a dense layer (there distances to fixed bitmaps, an RBF layer); ReLU by
    default (there 1.7159 tanh(2 x / 3)). `LeNet5(activation=nn.tanh, pool=average_pool)` is nearest to the original.

    C1 keeps the size, as in the paper, where 28x28 digits stood in 32x32 images. Sides of 5 pixels and more are
    possible, square or not. A side below 16 is first padded with zeros to 16 (8x8 digits: four pixels all round);
    12 would do for C3's kernel, but leaves it 2x2 outputs (digits, three seeds: 96.6% right against 97.6%).

    Attributes:
      classes: N.
      activation: after every layer but the last.
      pool: `max_pool` or `average_pool`.
      kernel_init: linen initialiser of the weights.
      bias_init: linen initialiser of the biases, or one by fan_in (`ByFanIn`).

    Reference: LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document recognition.
    """

    classes: int = 10
    activation: Callable[[Array], Array] = nn.relu
    pool: Callable[[Array], Array] = max_pool
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer | ByFanIn = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits [B, N] of images x [B, H, W, C], float32.

        Raises:
          ValueError: a side is below 5 pixels.
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
    """The 32-64 CNN of flax's MNIST example: [conv 3x3, activation, pool] per width, dense, N.

    824,458 parameters at [B, 28, 28, 1], widths 32 and 64, dense 256 and N = 10:
    320 + 18,496 + (7 7 64 256 + 256 = 803,072) + 2,570. Convolutions keep the size (zero padding), pools halve it.

    Attributes:
      features: channels of each convolution; k of them need sides of at least 2^k pixels.
      dense: width of the hidden dense layer.
      classes: N.
      activation: after every layer but the last.
      pool: `max_pool` or `average_pool`.
      kernel_init: linen initialiser of the weights.
      bias_init: linen initialiser of the biases, or one by fan_in (`ByFanIn`).
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
        """Logits [B, N] of images x [B, H, W, C], float32.

        Raises:
          ValueError: a side is below 2^k pixels.
        """
        check_images("CNN", x, smallest=2 ** len(self.features))
        for features in self.features:
            bias_init = bias_initializer(self.bias_init, 9 * x.shape[-1])
            x = nn.Conv(features, (3, 3), kernel_init=self.kernel_init, bias_init=bias_init)(x)
            x = self.pool(self.activation(x))
        widths = (self.dense, self.classes)
        return MLP(widths, self.activation, kernel_init=self.kernel_init, bias_init=self.bias_init)(x, train)
