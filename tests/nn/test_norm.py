from functools import partial

import flax.linen as nn
import jax
import numpy as np
import peer
import pytest

from jaxdl.core import AXIS
from jaxdl.nn import LayerNorm, batch_norm


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False, mask=None):
        return batch_norm(train)(x, mask=mask)


@partial(jax.jit, static_argnums=2)
def apply(variables, x, train, mask=None):
    return Net().apply(variables, x, train, mask, mutable=["batch_stats"])


def variables_and_input(shape):
    x = 2 + 3 * np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return peer.random_variables(Net(), x), x


@pytest.mark.parametrize("shape", [(11, 3), (5, 7, 2, 3)])
@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_against_torch(shape, train):
    pytest.importorskip("torch")
    variables, x = variables_and_input(shape)
    y, new = apply(variables, x, train)
    stats = peer.tensors(variables["batch_stats"]["BatchNorm_0"])
    expected = peer.batch_norm(peer.tensors(variables["params"]["BatchNorm_0"]), stats, peer.tensors(x), train)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    before, after = variables["batch_stats"]["BatchNorm_0"], new["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(after["mean"], stats["mean"], atol=1e-6)
    n = x.size // shape[-1]
    np.testing.assert_allclose(
        after["var"], peer.biased(stats["var"].numpy(), before["var"], n) if train else before["var"], rtol=1e-5
    )


def test_batch_norm_under_pmap_uses_the_global_batch():
    variables, x = variables_and_input((24, 5))
    # The rows of each device have a different mean, so local statistics would give a different result.
    x += 7 * np.repeat(np.arange(8), 3)[:, None].astype(np.float32)
    expected = apply(variables, x, True)
    on_devices = jax.pmap(lambda x: Net().apply(variables, x, True, mutable=["batch_stats"]), axis_name=AXIS)
    y, new = on_devices(x.reshape(8, 3, 5))
    np.testing.assert_allclose(y.reshape(24, 5), expected[0], atol=1e-5)
    for device in range(8):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[device], b, rtol=1e-5), new, expected[1])


def test_batch_norm_mask_excludes_padding():
    variables, x = variables_and_input((13, 3))
    expected, stats = apply(variables, x[:11], True)
    x[11:] = 1e3
    y, masked = apply(variables, x, True, np.arange(13)[:, None] < 11)
    np.testing.assert_allclose(y[:11], expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), masked, stats)


def test_batch_norm_starts_as_the_identity_in_evaluation():
    x = np.ones((2, 3), np.float32)
    y, _ = jax.jit(Net().init_with_output)(jax.random.key(0), x)
    np.testing.assert_allclose(y, x, rtol=1e-5)


def test_layer_norm_against_torch():
    torch = pytest.importorskip("torch")
    # Small entries, so that the result depends on epsilon.
    x = 0.01 * np.random.default_rng(0).normal(size=(5, 3, 7)).astype(np.float32)
    params = peer.random_variables(LayerNorm(), x)["params"]
    p = peer.tensors(params)
    expected = torch.nn.functional.layer_norm(peer.tensors(x), (7,), p["scale"], p["bias"])
    np.testing.assert_allclose(LayerNorm().apply({"params": params}, x), expected, atol=1e-5)
