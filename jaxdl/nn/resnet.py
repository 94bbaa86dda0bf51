"""Residual networks for small images: CIFAR ResNets and ResNet-18."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl.nn.cnn import check_images
from jaxdl.nn.norm import batch_norm

HE = nn.initializers.he_normal()


def _convolution(features: int, stride: int = 1) -> nn.Conv:
    # Padding 1 on every side: "SAME" with stride 2 would pad only right and below and shift the maps relative to the
    # shortcut, which takes pixels 0, 2, 4, ... No bias, because batch norm follows.
    return nn.Conv(features, (3, 3), strides=stride, padding=1, use_bias=False, kernel_init=HE)


class ResidualBlock(nn.Module):
    """Residual block: y = relu(shortcut(x) + BN(conv(relu(BN(conv(x)))))) with 3x3 convolutions.

    Attributes:
      features: channels of y; at least those of x if `projection` is False.
      stride: stride of the first convolution; the shortcut takes every stride-th pixel.
      projection: the type of the shortcut. False: it appends zero channels and has no parameters (option A of the
        paper). True: it is BN(conv 1x1) where the shape changes (option B).

    Reference: He, Zhang, Ren & Sun 2015, arXiv:1512.03385, sections 3.3 and 4.1.
    """

    features: int
    stride: int = 1
    projection: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns y [B, ceil(H / stride), ceil(W / stride), features] of x [B, H, W, C], float.

        Raises:
          ValueError: if features is below C and `projection` is False.
        """
        y = nn.relu(batch_norm(train)(_convolution(self.features, self.stride)(x)))
        y = batch_norm(train)(_convolution(self.features)(y))
        shortcut = x[:, :: self.stride, :: self.stride]
        if self.projection and shortcut.shape != y.shape:
            shortcut = nn.Conv(self.features, (1, 1), use_bias=False, kernel_init=HE)(shortcut)
            shortcut = batch_norm(train)(shortcut)
        else:
            shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, self.features - x.shape[-1])))
        return nn.relu(shortcut + y)


def _layers(
    x: Array, train: bool, widths: Sequence[int], blocks: int, projection: bool, classes: int, remat: bool
) -> Array:
    """Applies conv, a group of blocks per width, mean over pixels and dense; to be called inside a module."""
    x = nn.relu(batch_norm(train)(_convolution(widths[0])(x)))
    for group, width in enumerate(widths):
        for block in range(blocks):
            residual = ResidualBlock(width, 2 if group > 0 and block == 0 else 1, projection)
            call = lambda residual, x: residual(x, train)
            x = (nn.remat(call) if remat else call)(residual, x)
    return nn.Dense(classes, kernel_init=HE)(x.mean((1, 2)))


class ResNet(nn.Module):
    """CIFAR ResNet with 6n + 2 layers: conv, three groups of n blocks, mean over pixels, dense.

    The groups have width, 2 width and 4 width channels; the second and third start with stride 2. For width 16, N = 10
    and RGB images it has 269,722 parameters with 20 layers, 464,154 with 32 and 853,018 with 56.

    Attributes:
      depth: 6n + 2, n >= 1: 8, 14, 20, 32, 44, 56, 110, ...
      classes: N.
      width: channels of the first group.
      remat: whether to keep only the input of each block for the backward pass and recompute the rest.

    Reference: He, Zhang, Ren & Sun 2015, arXiv:1512.03385, section 4.2; initialisation: arXiv:1502.01852 (He normal).
    """

    depth: int = 20
    classes: int = 10
    width: int = 16
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns logits [B, N].

        Args:
          x: images [B, H, W, C], float, with H and W >= 4.
          train: whether batch norms use the batch's statistics and update the collection `batch_stats`.

        Raises:
          ValueError: if depth is not 6n + 2, or x is not [B, H, W, C] with sides of at least 4 pixels.
        """
        blocks, rest = divmod(self.depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"ResNet: depth must be 6n + 2 with n >= 1 (8, 14, 20, 32, 44, 56, 110), got {self.depth}")
        check_images("ResNet", x, smallest=4)
        return _layers(x, train, [self.width * 2**group for group in range(3)], blocks, False, self.classes, self.remat)


class ResNet18(nn.Module):
    """ResNet-18 for small images: 3x3 conv, four groups of two blocks, mean over pixels, dense.

    The groups have width, 2, 4 and 8 width channels; the last three start with stride 2. Shortcuts are projections if
    the shape changes. For width 64, N = 10 and RGB images it has 11,173,962 parameters. The paper's network for images
    of 224 pixels starts with a 7x7 convolution of stride 2 and a pool, which would reduce 32x32 images to 1x1 maps.

    Attributes:
      classes: N.
      width: channels of the first group.
      remat: whether to keep only the input of each block for the backward pass and recompute the rest.

    Reference: He, Zhang, Ren & Sun 2015, arXiv:1512.03385, table 1 and section 4.1 (B).
    """

    classes: int = 10
    width: int = 64
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns logits [B, N].

        Args:
          x: images [B, H, W, C], float, with H and W >= 8.
          train: whether batch norms use the batch's statistics and update the collection `batch_stats`.

        Raises:
          ValueError: if x is not [B, H, W, C] with sides of at least 8 pixels.
        """
        check_images("ResNet18", x, smallest=8)
        return _layers(x, train, [self.width * 2**group for group in range(4)], 2, True, self.classes, self.remat)
