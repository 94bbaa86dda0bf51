import numpy as np
import pytest

from jaxdl.data import toys


def test_the_ring_by_hand():
    centres = toys.ring(4, 3.0)
    np.testing.assert_allclose(centres, [[3, 0], [0, 3], [-3, 0], [0, -3]], atol=1e-6)
    assert centres.dtype == np.float32


def test_gaussians_have_their_centres_spread_and_seed():
    centres = np.array([[0.0, 0, 0], [10, 20, 30]])
    x = toys.gaussians(centres, 0.5, 5000)
    far = x[:, 0] > 5
    assert far.mean() == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(x[far].mean(0), centres[1], atol=0.05)
    np.testing.assert_allclose(x[far].std(0), 0.5, rtol=0.05)
    np.testing.assert_array_equal(x, toys.gaussians(centres, 0.5, 5000))
    assert not np.array_equal(x, toys.gaussians(centres, 0.5, 5000, seed=1))
