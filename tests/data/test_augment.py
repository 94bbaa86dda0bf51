"""Augmentations, against loops in NumPy and scipy.ndimage."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdl.data.augment import batched, compose, flip, noise, rotate, rotate_by, shift
from tests.budget import first

H, W, C = 7, 5, 3
IMAGE = np.random.default_rng(0).uniform(0.1, 1, (H, W, C)).astype(np.float32)


def many(function, count: int, image=IMAGE) -> np.ndarray:
    """The function at one image and many keys."""
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(function, (0, None)))(keys, jnp.asarray(image)))


def test_flip_mirrors_half_of_the_images():
    images = many(flip, 400)
    mirrored = np.array([np.array_equal(image, IMAGE[:, ::-1]) for image in images])
    same = np.array([np.array_equal(image, IMAGE) for image in images])
    assert (mirrored ^ same).all()
    assert 150 < mirrored.sum() < 250  # 5 standard deviations


def moved(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    out = np.zeros_like(image)
    for i in range(H):
        for j in range(W):
            if 0 <= i - dy < H and 0 <= j - dx < W:
                out[i, j] = image[i - dy, j - dx]
    return out


@pytest.mark.parametrize("pixels", first([0, 1, 2]))
def test_shift_moves_by_every_offset_equally_often(pixels):
    offsets = [(dy, dx) for dy in range(-pixels, pixels + 1) for dx in range(-pixels, pixels + 1)]
    images = many(partial(shift, pixels=pixels), 40 * len(offsets))
    counts = [sum(np.array_equal(image, moved(IMAGE, *offset)) for image in images) for offset in offsets]
    assert sum(counts) == len(images)
    assert min(counts) > 15  # of 40: 4 standard deviations
    assert max(counts) < 66 or pixels == 0


@pytest.mark.parametrize("degrees", [0.0, 15.0, -37.5, 90.0, 200.0])
@pytest.mark.parametrize("shape", [(7, 5, 3), (6, 11, 2)])
def test_rotate_by_against_scipy(degrees, shape):
    image = np.random.default_rng(1).uniform(0.1, 1, shape).astype(np.float32)
    # mode grid-constant interpolates towards the zeros outside, as jax's "constant" does.
    reference = scipy.ndimage.rotate(image, degrees, axes=(0, 1), reshape=False, order=1, mode="grid-constant")
    np.testing.assert_allclose(rotate_by(jnp.asarray(image), degrees), reference, atol=2e-5)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_are_exact(turns):
    square = IMAGE[:5]
    np.testing.assert_allclose(rotate_by(jnp.asarray(square), 90.0 * turns), np.rot90(square, turns), atol=1e-5)


def test_rotate_draws_angles_on_both_sides_up_to_the_largest():
    # On the planes x and y about the centre the angle can be read off the pixel right of the centre.
    y, x = np.mgrid[-3:4, -3:4].astype(np.float32)
    images = many(partial(rotate, degrees=20.0), 400, np.stack([y, x], axis=-1))
    angles = np.rad2deg(np.arctan2(-images[:, 3, 4, 0], images[:, 3, 4, 1]))
    assert np.abs(angles).max() < 20.01
    assert angles.min() < -19
    assert angles.max() > 19
    assert abs(angles.mean()) < 3
    assert np.abs(angles).mean() == pytest.approx(10, abs=1.5)  # uniform


def test_noise_has_its_scale_and_is_not_clipped():
    images = many(partial(noise, scale=0.3), 500) - IMAGE
    assert images.mean() == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(images.std(axis=0), 0.3, atol=0.06)
    assert len(np.unique(images[0])) == H * W * C
    assert (images + IMAGE).min() < 0


def test_compose_applies_in_order_with_keys_of_their_own():
    def add(key, image):
        return image + jax.random.uniform(key)

    def double(key, image):
        return 2 * image

    zero = jnp.zeros((H, W, C))
    once = compose(add, double)(jax.random.key(1), zero)
    twice = compose(add, add, double)(jax.random.key(1), zero)
    draws = [float(jax.random.uniform(key)) for key in jax.random.split(jax.random.key(1), 3)]
    np.testing.assert_allclose(once, 2 * float(jax.random.uniform(jax.random.split(jax.random.key(1))[0])), rtol=1e-6)
    np.testing.assert_allclose(twice, 2 * (draws[0] + draws[1]), rtol=1e-6)
    assert draws[0] != draws[1]
    np.testing.assert_array_equal(compose()(jax.random.key(0), IMAGE), IMAGE)


@pytest.mark.claims
def test_batched_gives_every_image_its_own_key():
    augment = compose(flip, partial(shift, pixels=2), partial(rotate, degrees=10.0), partial(noise, scale=0.05))
    images = np.random.default_rng(2).uniform(size=(11, H, W, C)).astype(np.float32)
    keys = jax.random.split(jax.random.key(3), 11)
    together = jax.jit(batched(augment))(keys, images)
    assert together.shape == images.shape
    alone = jax.jit(augment)
    for i in (0, 4, 10):
        np.testing.assert_allclose(together[i], alone(keys[i], jnp.asarray(images[i])), atol=1e-5)
    assert len({image.tobytes() for image in many(partial(noise, scale=0.05), 5)}) == 5


@pytest.mark.parametrize("function", [flip, shift, rotate, noise])
def test_dtypes_and_wrong_images(function):
    key = jax.random.key(0)
    assert function(key, jnp.ones((H, W, C), jnp.bfloat16)).dtype == jnp.bfloat16
    # not computed: XLA has no float16 on a processor without F16C
    assert jax.eval_shape(function, key, jax.ShapeDtypeStruct((H, W, C), jnp.float16)).dtype == jnp.float16
    with pytest.raises(ValueError, match="uint8"):
        function(key, jnp.ones((H, W, C), jnp.uint8))
    with pytest.raises(ValueError, match=r"\(2, 7, 5, 3\)"):
        function(key, jnp.ones((2, H, W, C)))


def test_shift_refuses_a_negative_distance():
    with pytest.raises(ValueError, match="pixels=-1"):
        shift(jax.random.key(0), jnp.ones((H, W, C)), pixels=-1)
