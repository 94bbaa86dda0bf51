"""Convolutional encoders and decoders of autoencoders: images -> feature maps -> codes [B, D], and back.

A fully connected encoder or decoder is an `MLP`: it flattens its input, and its output is reshaped to an image.
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
    """Returns (H, W) after `times` layers of stride 2 with "SAME" padding, ceil(H / 2^times): 28 -> 14 -> 7 -> 4."""
    return (-(-shape[0] // 2**times), -(-shape[1] // 2**times))


@dataclass(frozen=True)
class Layers:
    """Options shared by the layers of an encoder or decoder.

    Attributes:
      activation: function applied between layers.
      kernel_init: linen initialiser of the kernels.
      bias_init: linen initialiser of the biases, or a `ByFanIn`.
    """

    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = LECUN
    bias_init: Initializer | ByFanIn = nn.initializers.zeros

    def mlp(self, *widths: int) -> MLP:
        """Returns an `MLP` with layers of these widths."""
        return MLP(widths, self.activation, kernel_init=self.kernel_init, bias_init=self.bias_init)

    def options(self, fan_in: int) -> dict[str, Any]:
        """Returns the initialiser arguments of a layer in which each output has `fan_in` inputs."""
        return {"kernel_init": self.kernel_init, "bias_init": bias_initializer(self.bias_init, fan_in)}


class Downsampling(nn.Module):
    """Strided convolutions: k times [4x4 convolution with stride 2, activation].

    Attributes:
      features: channels of each of the k convolutions.
      layers: initialisers, and the activation after every convolution, including the last.
    """

    features: Sequence[int] = (32, 64)
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns feature maps.

        Args:
          x: images [B, H, W, C], float, with H and W >= 2^k.
          train: ignored.

        Returns:
          [B, ceil(H / 2^k), ceil(W / 2^k), features[-1]].

        Raises:
          ValueError: if x is not [B, H, W, C] with sides of at least 2^k pixels.
        """
        check_images("Downsampling", x, smallest=2 ** len(self.features))
        for features in self.features:
            conv = Conv(features, 4, 2, **self.layers.options(16 * x.shape[-1]))
            x = self.layers.activation(conv(x))
        return x


class Upsampling(nn.Module):
    """Transposed convolutions, the reverse of `Downsampling`: k + 1 layers 4x4 with stride 2.

    Each layer doubles the height and width. Where `Downsampling` halved an odd side, the last row or column is cropped,
    so any H and W can be restored. There is an activation between the layers and none after the last: the outputs are
    logits or means.

    Attributes:
      shape: (H, W, C) of the images.
      features: channels between the layers, from coarse to fine; k widths make k + 1 layers.
      layers: initialisers, and the activation between the layers.
    """

    shape: Sequence[int]
    features: Sequence[int] = (32,)
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns images [B, H, W, C].

        Args:
          x: feature maps [B, ceil(H / 2^(k+1)), ceil(W / 2^(k+1)), D], float.
          train: ignored.

        Raises:
          ValueError: if shape is not (H, W, C), or x has another height or width.
        """
        if len(self.shape) != 3:
            raise ValueError(f"Upsampling: shape must be (H, W, C), got {tuple(self.shape)}")
        count = len(self.features) + 1
        needed = halved(self.shape, count)
        if x.ndim != 4 or x.shape[1:3] != needed:
            raise ValueError(
                f"Upsampling: input must be [B, {needed[0]}, {needed[1]}, D] for {count} layers and shape "
                f"{tuple(self.shape)}, got {list(x.shape)}"
            )
        for i, features in enumerate((*self.features, self.shape[2])):
            # each output pixel depends on 2x2 of the 4x4 taps, so the fan-in is 4 D and not the kernel's 16 D
            conv = ConvTranspose(features, 4, 2, **self.layers.options(4 * x.shape[-1]))
            H, W = halved(self.shape, count - 1 - i)
            x = conv(self.layers.activation(x) if i else x)[:, :H, :W]
        chex.assert_shape(x, (None, *self.shape))
        return x


class ConvEncoder(nn.Module):
    """Convolutional encoder: `Downsampling`, then an MLP with one hidden layer.

    Attributes:
      outputs: D for a code, 2 D for its mean and log variance.
      features: channels of each of the k convolutions.
      dense: width of the hidden layer.
      layers: initialisers, and the activation after every layer but the last.
    """

    outputs: int
    features: Sequence[int] = (32, 64)
    dense: int = 256
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns codes [B, outputs].

        Args:
          x: images [B, H, W, C], float, with H and W >= 2^k.
          train: ignored.

        Raises:
          ValueError: if x is not [B, H, W, C] with sides of at least 2^k pixels.
        """
        x = Downsampling(self.features, self.layers)(x, train)
        return self.layers.mlp(self.dense, self.outputs)(x, train)


class ConvDecoder(nn.Module):
    """Convolutional decoder: an MLP with one hidden layer, then `Upsampling`.

    Attributes:
      shape: (H, W, C) of the images; H and W may be odd and must be at least 2^k.
      features: channels of the feature maps, from coarse to fine; k widths make k transposed convolutions.
      dense: width of the hidden layer.
      layers: initialisers, and the activation after every layer but the last.
    """

    shape: Sequence[int]
    features: Sequence[int] = (64, 32)
    dense: int = 256
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Array:
        """Returns logits or means [B, H, W, C].

        Args:
          z: codes [B, D], float.
          train: ignored.

        Raises:
          ValueError: if shape is not (H, W, C) with sides of at least 2^k pixels.
        """
        k, shape = len(self.features), tuple(self.shape)
        if len(shape) != 3 or min(shape[:2]) < 2**k:
            raise ValueError(f"ConvDecoder: shape must be (H, W, C) with H and W >= {2**k}, got {shape}")
        H, W = halved(shape, k)
        x = self.layers.mlp(self.dense, H * W * self.features[0])(z, train)
        x = self.layers.activation(x).reshape(-1, H, W, self.features[0])
        return Upsampling(shape, self.features[1:], self.layers)(x, train)
