"""Random changes of one image that keep its class: pure JAX functions that run inside the training step.

Each except ``resized`` is ``(key, image [H, W, C] of floats) -> image`` of the same shape and dtype;
``functools.partial`` sets its strength, ``compose`` chains them, ``batched`` lifts them to
``(keys [B], images [B, H, W, C])``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.ndimage import map_coordinates

from jaxdl.data.images import pixels01

Augmentation = Callable[[Any, Array], Array]


def flip(key: Array, image: Array) -> Array:
    """Mirrors left and right with probability 1/2.

    Args:
      key: a PRNG key.
      image: [H, W, C], floats.

    Returns:
      [H, W, C], the same dtype.
    """
    _check(image)
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def shift(key: Array, image: Array, pixels: int = 4) -> Array:
    """Shifts the image by a random whole number of pixels vertically and horizontally; pads with zeros.

    out[i, j] = image[i - dy, j - dx], dy and dx uniform on -pixels ... pixels: the pad-and-crop of He et al. 2015,
    "Deep Residual Learning for Image Recognition", section 4.2.

    Args:
      key: a PRNG key.
      image: [H, W, C], floats.
      pixels: the largest shift, 0 or more.

    Returns:
      [H, W, C], the same dtype.

    Raises:
      ValueError: pixels below 0.
    """
    _check(image)
    if pixels < 0:
        raise ValueError(f"pixels={pixels} must not be negative")
    padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def rotate(key: Array, image: Array, degrees: float = 15.0) -> Array:
    """Rotates the image about its centre by an angle uniform on -degrees ... degrees; see rotate_by.

    Args:
      key: a PRNG key.
      image: [H, W, C], floats.
      degrees: the largest angle.

    Returns:
      [H, W, C], the same dtype.
    """
    return rotate_by(image, jax.random.uniform(key, (), jnp.float32, -degrees, degrees))


def rotate_by(image: Array, degrees: float | Array) -> Array:
    """Rotates the image about its centre, counter-clockwise as seen (row 0 on top), with linear interpolation.

    Output pixel p shows the input at R(degrees) (p - c) + c with c = ((H - 1) / 2, (W - 1) / 2); outside is 0.

    Args:
      image: [H, W, C], floats.
      degrees: scalar.

    Returns:
      [H, W, C], the same dtype.
    """
    _check(image)
    height, width, _ = image.shape
    cos, sin = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    x = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
    rows, columns = cos * y + sin * x + (height - 1) / 2, cos * x - sin * y + (width - 1) / 2
    channel = lambda plane: map_coordinates(plane, [rows, columns], order=1, mode="constant", cval=0.0)
    return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)


def noise(key: Array, image: Array, scale: float = 0.1) -> Array:
    """Adds Gaussian noise, image + scale · N(0, 1); the result is not clipped to the range of the pixels.

    Args:
      key: a PRNG key.
      image: [H, W, C], floats.
      scale: standard deviation, in units of the pixels.

    Returns:
      [H, W, C], the same dtype.
    """
    _check(image)
    return image + (scale * jax.random.normal(key, image.shape)).astype(image.dtype)


def compose(*functions: Augmentation) -> Augmentation:
    """Returns an augmentation that applies these one after the other, each with its own key."""

    def composed(key: Array, image: Array) -> Array:
        for subkey, function in zip(jax.random.split(key, max(1, len(functions))), functions, strict=False):
            image = function(subkey, image)
        return image

    return composed


def batched(function: Augmentation) -> Callable[[Array, Array], Array]:
    """Returns (keys [B], images [B, H, W, C]) -> images [B, H, W, C]: each image changed with its own key."""
    return jax.vmap(function)


def _check(image: Array) -> None:
    if image.ndim != 3:
        raise ValueError(f"image has shape {image.shape}; expected [H, W, C] (batched() lifts it to [B, H, W, C])")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"image has dtype {image.dtype}; expected floats; jaxdl.data.pixels01 converts uint8")


def resized(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resizes images [N, h, w, c] to float32 [N, H, W, C] in 0..1: bilinear, with antialiasing; grey becomes RGB.

    Raises:
      ValueError: colours cannot be converted to grey.
    """
    if x.shape[-1] not in (1, shape[-1]):
        raise ValueError(f"images with {x.shape[-1]} channels; the model expects {shape[-1]}")
    if x.shape[1:3] != tuple(shape[:2]):
        x = np.clip(jax.image.resize(pixels01(x), (len(x), *shape[:2], x.shape[-1]), "linear"), 0, 1)
    return np.broadcast_to(pixels01(x), (*x.shape[:-1], shape[-1]))
