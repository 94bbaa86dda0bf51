"""DCGAN: generator and critic of strided convolutions."""

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
    """N(1, 0.02^2), the paper's start of a norm's scale."""
    return 1 + 0.02 * random.normal(key, shape, dtype)


NORMS: dict[str, Callable[[bool], Callable[[Array], Array]]] = {
    "batch": lambda train: batch_norm(train, scale_init=scales),
    "layer": lambda train: LayerNorm(reduction_axes=(1, 2, 3), scale_init=scales),
    "none": lambda train: lambda x: x,
}


def _halvings(model: str, stages: int, H: int, W: int) -> tuple[int, int]:
    """Height and width after `stages` halvings."""
    if stages < 1 or H < 1 or W < 1 or H % 2**stages or W % 2**stages:
        raise ValueError(f"{model}: images are {H} x {W}, {stages} halvings need multiples of {2 ** max(stages, 1)}")
    return H // 2**stages, W // 2**stages


class DCGANGenerator(nn.Module):
    """Images of latent vectors: dense, then `stages` times [norm, relu, transposed convolution 4x4 stride 2], tanh.

        [B, D] -> [B, H / 2^s, W / 2^s, 2^(s-1) width] -> ... -> [B, H / 2, W / 2, width] -> [B, H, W, C]

    At 28x28x1, width 64 and D = 100 (s = 2): 627,200 + 256 + 131,072 + 128 + 1,025 = 759,681 parameters. Norms are
    batch norms, with no bias before them. Weights start as N(0, 0.02^2), scales as N(1, 0.02^2).

    Attributes:
      channels: C.
      size: (H, W), multiples of 2^stages.
      width: channels before the last layer; twice as many with each stage before it.
      stages: s, doublings of the size. The paper's 64x64 images have 4.

    Reference: Radford, Metz & Chintala 2015, arXiv:1511.06434.
    """

    channels: int = 1
    size: tuple[int, int] = (28, 28)
    width: int = 64
    stages: int = 2

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Array:
        """Images [B, H, W, C] in -1..1 of z [B, D], usually N(0, 1); `train=True` updates `batch_stats`.

        Raises:
          ValueError: the size is no multiple of 2^stages.
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
    """One number per image: `stages` times [convolution 4x4 stride 2, norm, leaky relu 0.2], dense.

        [B, H, W, C] -> [B, H / 2, W / 2, width] -> ... -> [B, H / 2^s, W / 2^s, 2^(s-1) width] -> [B]

    At 28x28x1, width 64 and batch norm (s = 2): 1,088 + 131,072 + 256 + 6,273 = 138,689 parameters. The first
    convolution has a bias and no norm, as in the paper. Weights start as N(0, 0.02^2), scales as N(1, 0.02^2).

    Attributes:
      width: channels of the first convolution; twice as many with each later one.
      stages: s, halvings of the size.
      norm: "batch"; "layer", over all pixels and channels of one image, scale and shift per channel; or "none". A
        gradient penalty needs one of the last two, because batch norm mixes the examples whose gradients it bounds
        (Gulrajani et al. 2017, arXiv:1704.00028).

    Reference: Radford, Metz & Chintala 2015, arXiv:1511.06434.
    """

    width: int = 64
    stages: int = 2
    norm: str = "batch"

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits [B] of images x [B, H, W, C] in -1..1; with batch norm `train=True` updates `batch_stats`.

        Raises:
          ValueError: the norm is unknown, or H or W is no multiple of 2^stages.
        """
        chex.assert_rank(x, 4)
        if self.norm not in NORMS:
            raise ValueError(f"DCGANCritic: norm is {self.norm!r}, it must be one of {', '.join(NORMS)}")
        _halvings("DCGANCritic", self.stages, *x.shape[1:3])
        for stage in range(self.stages):
            norm = "none" if stage == 0 else self.norm
            x = Conv(self.width * 2**stage, 4, 2, use_bias=norm == "none", kernel_init=WEIGHTS)(x)
            x = nn.leaky_relu(NORMS[norm](train)(x), 0.2)
        return nn.Dense(1, kernel_init=WEIGHTS)(x.reshape(len(x), -1))[:, 0]
