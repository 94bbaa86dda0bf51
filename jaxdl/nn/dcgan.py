"""DCGAN: a generator and a critic of strided convolutions."""

from collections.abc import Callable
from functools import partial

import chex
from flax import linen as nn
from jax import Array, random
from jax import numpy as jnp

from jaxdl.nn.conv import Conv, ConvTranspose
from jaxdl.nn.norm import LayerNorm, batch_norm

WEIGHTS = nn.initializers.normal(0.02)


def scales(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
    """Draws initial scales of a norm from N(1, 0.02^2), as in the paper."""
    return 1 + 0.02 * random.normal(key, shape, dtype)


NORMS: dict[str, Callable[[bool], Callable[[Array], Array]]] = {
    "batch": lambda train: batch_norm(train, scale_init=scales),
    "layer": lambda train: LayerNorm(reduction_axes=(1, 2, 3), scale_init=scales),
    "none": lambda train: lambda x: x,
}


def _halvings(model: str, stages: int, H: int, W: int) -> tuple[int, int]:
    """Returns (H, W) after `stages` halvings."""
    if stages < 1 or H < 1 or W < 1 or H % 2**stages or W % 2**stages:
        raise ValueError(
            f"{model}: height and width must be multiples of {2 ** max(stages, 1)} for stages={stages}, got {H} x {W}"
        )
    return H // 2**stages, W // 2**stages


class DCGANGenerator(nn.Module):
    """DCGAN generator: dense, then `stages` times [batch norm, ReLU, 4x4 transposed convolution with stride 2], tanh.

        [B, D] -> [B, H / 2^s, W / 2^s, 2^(s-1) width] -> ... -> [B, H / 2, W / 2, width] -> [B, H, W, C]

    For images 28x28x1, width 64, D = 100 and s = 2 it has 627,200 + 256 + 131,072 + 128 + 1,025 = 759,681 parameters.
    Layers before a batch norm have no bias. Kernels are drawn from N(0, 0.02^2), scales from N(1, 0.02^2).

    Attributes:
      channels: C of the images.
      size: (H, W) of the images, multiples of 2^stages.
      width: channels before the last layer; each earlier stage has twice as many.
      stages: s, the number of doublings of the size, at least 1. The paper uses 4 for images 64x64.

    Reference: Radford, Metz & Chintala 2015, arXiv:1511.06434.
    """

    channels: int = 1
    size: tuple[int, int] = (28, 28)
    width: int = 64
    stages: int = 2

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Array:
        """Returns images [B, H, W, C] in [-1, 1].

        Args:
          z: latent vectors [B, D], float, usually drawn from N(0, 1).
          train: whether batch norms use the batch's statistics and update the collection `batch_stats`.

        Raises:
          ValueError: if stages is below 1, or H or W is not a multiple of 2^stages.
          AssertionError: if z is not of rank 2.
        """
        chex.assert_rank(z, 2)
        H, W = _halvings("DCGANGenerator", self.stages, *self.size)
        features = self.width * 2 ** (self.stages - 1)
        x = nn.Dense(H * W * features, use_bias=False, kernel_init=WEIGHTS)(z).reshape(-1, H, W, features)
        layer = partial(ConvTranspose, kernel_size=4, strides=2, kernel_init=WEIGHTS)
        for stage in reversed(range(self.stages)):
            x = nn.relu(NORMS["batch"](train)(x))
            last = stage == 0
            x = layer(self.channels if last else self.width * 2 ** (stage - 1), use_bias=last)(x)
        return jnp.tanh(x)


class DCGANCritic(nn.Module):
    """DCGAN critic: `stages` times [4x4 convolution with stride 2, norm, leaky ReLU 0.2], then a dense layer.

        [B, H, W, C] -> [B, H / 2, W / 2, width] -> ... -> [B, H / 2^s, W / 2^s, 2^(s-1) width] -> [B]

    For images 28x28x1, width 64, s = 2 and batch norm it has 1,088 + 131,072 + 256 + 6,273 = 138,689 parameters. The
    first convolution has a bias and no norm, as in the paper. Kernels are drawn from N(0, 0.02^2), scales from
    N(1, 0.02^2).

    Attributes:
      width: channels of the first convolution; each later one has twice as many.
      stages: s, the number of halvings of the size, at least 1.
      norm: "batch"; "layer", over all pixels and channels of an image, with scale and shift per channel; or "none". A
        gradient penalty needs "layer" or "none", because batch norm mixes the examples whose gradients the penalty
        bounds (Gulrajani et al. 2017, arXiv:1704.00028).

    Reference: Radford, Metz & Chintala 2015, arXiv:1511.06434.
    """

    width: int = 64
    stages: int = 2
    norm: str = "batch"

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns one logit per image, [B].

        Args:
          x: images [B, H, W, C] in [-1, 1], float.
          train: whether batch norms use the batch's statistics and update the collection `batch_stats`.

        Raises:
          ValueError: if norm is unknown, stages is below 1, or H or W is not a multiple of 2^stages.
          AssertionError: if x is not of rank 4.
        """
        chex.assert_rank(x, 4)
        if self.norm not in NORMS:
            raise ValueError(f"DCGANCritic: norm must be one of {', '.join(NORMS)}, got {self.norm!r}")
        _halvings("DCGANCritic", self.stages, *x.shape[1:3])
        for stage in range(self.stages):
            norm = "none" if stage == 0 else self.norm
            x = Conv(self.width * 2**stage, 4, 2, use_bias=norm == "none", kernel_init=WEIGHTS)(x)
            x = nn.leaky_relu(NORMS[norm](train)(x), 0.2)
        return nn.Dense(1, kernel_init=WEIGHTS)(x.reshape(len(x), -1))[:, 0]
