"""Convolutional halves of an autoencoder: images -> maps -> codes [B, D] and back.

Without convolutions an `MLP` is either half: it flattens what it is given, and its outputs are reshaped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import chex
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer

from jaxdl.nn.cnn import check_images
from jaxdl.nn.conv import Conv, ConvTranspose
from jaxdl.nn.initializers import ByFanIn, bias_initializer
from jaxdl.nn.mlp import MLP

LECUN = nn.initializers.lecun_normal()


def halved(shape: Sequence[int], times: int) -> tuple[int, int]:
    """(H, W) after `times` layers of stride 2, ceil(H / 2^times): 28 -> 14 -> 7 -> 4, as "SAME" padding has it."""
    return (-(-shape[0] // 2**times), -(-shape[1] // 2**times))


@dataclass(frozen=True)
class Layers:
    """What the layers of either half share.

    Attributes:
      activation: between layers.
      kernel_init: linen initialiser of the weights.
      bias_init: linen initialiser of the biases, or one by fan_in (`ByFanIn`).
    """

    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = LECUN
    bias_init: Initializer | ByFanIn = nn.initializers.zeros

    def mlp(self, *widths: int) -> MLP:
        """Dense layers of these widths."""
        return MLP(widths, self.activation, kernel_init=self.kernel_init, bias_init=self.bias_init)

    def options(self, fan_in: int) -> dict[str, Any]:
        """The initialisers of a layer with so many inputs of one output."""
        return {"kernel_init": self.kernel_init, "bias_init": bias_initializer(self.bias_init, fan_in)}


class Downsampling(nn.Module):
    """[conv 4x4 of stride 2, activation] per width: [B, H, W, C] -> [B, ceil(H / 2^k), ceil(W / 2^k), features[-1]].

    Attributes:
      features: channels after each of the k convolutions; sides of at least 2^k pixels are needed.
      layers: initialisers, and the activation after every convolution, the last one too.
    """

    features: Sequence[int] = (32, 64)
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Maps of images x [B, H, W, C].

        Raises:
          ValueError: a side is below 2^k pixels.
        """
        check_images("Downsampling", x, smallest=2 ** len(self.features))
        for features in self.features:
            conv = Conv(features, 4, 2, **self.layers.options(16 * x.shape[-1]))
            x = self.layers.activation(conv(x))
        return x


class Upsampling(nn.Module):
    """The way back: [activation before all but the first, transposed conv 4x4 of stride 2] -> [B, H, W, C].

    Each layer doubles a side; where `Downsampling` came from an odd one, the last row or column is cut off, so that any
    H and W come back. The outputs are logits or means: no activation stands after the last layer.

    Attributes:
      shape: (H, W, C) of the images.
      features: channels between the layers, from the maps on: k widths are k + 1 layers.
      layers: initialisers, and the activation between the layers.
    """

    shape: Sequence[int]
    features: Sequence[int] = (32,)
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Images [B, H, W, C] of maps x [B, ceil(H / 2^(k+1)), ceil(W / 2^(k+1)), D].

        Raises:
          ValueError: shape is not (H, W, C), or maps of another size cannot become it.
        """
        if len(self.shape) != 3:
            raise ValueError(f"Upsampling: shape is {tuple(self.shape)}, it must be (H, W, C)")
        count = len(self.features) + 1
        needed = halved(self.shape, count)
        if x.ndim != 4 or x.shape[1:3] != needed:
            raise ValueError(
                f"Upsampling: input is {list(x.shape)}, {count} layers to {tuple(self.shape)} need [B, "
                f"{needed[0]}, {needed[1]}, D]"
            )
        for i, features in enumerate((*self.features, self.shape[2])):
            # every output pixel is reached by 2x2 of the 4x4 taps: the fan-in is 4 D, not the 16 D of the kernel
            conv = ConvTranspose(features, 4, 2, **self.layers.options(4 * x.shape[-1]))
            H, W = halved(self.shape, count - 1 - i)
            x = conv(self.layers.activation(x) if i else x)[:, :H, :W]
        chex.assert_shape(x, (None, *self.shape))
        return x


class ConvEncoder(nn.Module):
    """`Downsampling`, then an MLP with one hidden layer: images [B, H, W, C] -> [B, outputs].

    Attributes:
      outputs: D for a code, 2 D for its mean and log variance.
      features: channels of the k convolutions; sides of at least 2^k pixels are needed.
      dense: width of the hidden layer.
      layers: initialisers, and the activation after every layer but the last.
    """

    outputs: int
    features: Sequence[int] = (32, 64)
    dense: int = 256
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Codes [B, outputs] of images x [B, H, W, C].

        Raises:
          ValueError: a side is below 2^k pixels.
        """
        x = Downsampling(self.features, self.layers)(x, train)
        return self.layers.mlp(self.dense, self.outputs)(x, train)


class ConvDecoder(nn.Module):
    """An MLP with one hidden layer, then `Upsampling`: codes [B, D] -> logits or means [B, H, W, C].

    Attributes:
      shape: (H, W, C) of the images, any size from 2^k on, odd ones too.
      features: channels of the maps, coarse to fine: k of them are k transposed convolutions.
      dense: width of the hidden layer.
      layers: initialisers, and the activation after every layer but the last.
    """

    shape: Sequence[int]
    features: Sequence[int] = (64, 32)
    dense: int = 256
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Array:
        """Images [B, H, W, C] of codes z [B, D].

        Raises:
          ValueError: shape is not (H, W, C) with sides of at least 2^k pixels.
        """
        k, shape = len(self.features), tuple(self.shape)
        if len(shape) != 3 or min(shape[:2]) < 2**k:
            raise ValueError(f"ConvDecoder: shape is {shape}, it must be (H, W, C) with H and W >= {2**k}")
        H, W = halved(shape, k)
        x = self.layers.mlp(self.dense, H * W * self.features[0])(z, train)
        x = self.layers.activation(x).reshape(-1, H, W, self.features[0])
        return Upsampling(shape, self.features[1:], self.layers)(x, train)
