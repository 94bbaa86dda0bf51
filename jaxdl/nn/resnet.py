"""Residual networks for small images."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxdl.nn.cnn import check_images
from jaxdl.nn.norm import batch_norm

HE = nn.initializers.he_normal()


def _convolution(features: int, stride: int = 1) -> nn.Conv:
    # Padding 1 on every side: "SAME" at stride 2 would put all of it right and below, and shift the maps against the
    # shortcut, which takes pixels 0, 2, 4, ... No bias, because batch norm follows.
    return nn.Conv(features, (3, 3), strides=stride, padding=1, use_bias=False, kernel_init=HE)


class ResidualBlock(nn.Module):
    """y = relu(shortcut(x) + BN(conv(relu(BN(conv(x)))))), with the shortcuts A or B of He et al. 2015.

    Attributes:
      features: channels of y, at least those of x if there is no projection.
      stride: of the first convolution; the shortcut takes every stride-th pixel.
      projection: False: the shortcut fills up with zero channels, behind, and has no parameters (A). True: where the
        shape changes it is BN(conv 1x1) (B).
    """

    features: int
    stride: int = 1
    projection: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features]."""
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
    """Conv, a group of blocks of each width, mean over pixels, dense; to be called inside a module."""
    x = nn.relu(batch_norm(train)(_convolution(widths[0])(x)))
    for group, width in enumerate(widths):
        for block in range(blocks):
            residual = ResidualBlock(width, 2 if group > 0 and block == 0 else 1, projection)
            call = lambda residual, x: residual(x, train)
            x = (nn.remat(call) if remat else call)(residual, x)
    return nn.Dense(classes, kernel_init=HE)(x.mean((1, 2)))


class ResNet(nn.Module):
    """CIFAR ResNet of 6n + 2 layers: conv, n blocks each of width, 2 width, 4 width channels, mean over pixels, dense.

    At width 16, N = 10 and RGB images it has 269,722 parameters with 20 layers, 464,154 with 32 and 853,018 with 56.
    The second and third group start with stride 2. `train=True` updates the collection `batch_stats`.

    Attributes:
      depth: 6n + 2, n >= 1: 8, 14, 20, 32, 44, 56, 110, ...
      classes: N.
      width: channels of the first group.
      remat: keep only the input of each block for the backward pass, and compute the rest anew.

    Reference: He, Zhang, Ren & Sun 2015, arXiv:1512.03385, section 4.2; weights after arXiv:1502.01852 (He normal).
    """

    depth: int = 20
    classes: int = 10
    width: int = 16
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits [B, N] of images x [B, H, W, C], float32, H and W >= 4.

        Raises:
          ValueError: depth is not 6n + 2, or a side is below 4 pixels.
        """
        blocks, rest = divmod(self.depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(
                f"ResNet: depth is {self.depth}, it must be 6n + 2 with n >= 1: 8, 14, 20, 32, 44, 56, 110"
            )
        check_images("ResNet", x, smallest=4)
        return _layers(x, train, [self.width * 2**group for group in range(3)], blocks, False, self.classes, self.remat)


class ResNet18(nn.Module):
    """ResNet-18 with the entrance for small images: conv 3x3, 2 blocks each of width, 2, 4 and 8 width, mean, dense.

    At width 64, N = 10 and RGB images it has 11,173,962 parameters. The paper's, for images of 224 pixels, begins with
    a convolution 7x7 of stride 2 and a pool, which would leave 32x32 images 1x1 maps. Shortcuts are projections where
    the shape changes. `train=True` updates the collection `batch_stats`.

    Attributes:
      classes: N.
      width: channels of the first group.
      remat: keep only the input of each block for the backward pass, and compute the rest anew.

    Reference: He, Zhang, Ren & Sun 2015, arXiv:1512.03385, table 1 and section 4.1 (B).
    """

    classes: int = 10
    width: int = 64
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits [B, N] of images x [B, H, W, C], float32, H and W >= 8.

        Raises:
          ValueError: a side is below 8 pixels.
        """
        check_images("ResNet18", x, smallest=8)
        return _layers(x, train, [self.width * 2**group for group in range(4)], 2, True, self.classes, self.remat)
