import numpy as np
import pytest
from scipy import stats

from jaxdl import metrics


def test_counts_balance_and_sign_test():
    """By hand: 3 wins, 1 loss, 2 draws; p = 2 (C(4,3) + C(4,4)) / 2^4 = 10/16."""
    found = metrics.gsb([1, 1, 1, 0, 1, 0], [0, 0, 0, 1, 1, 0])
    assert found[:3] == (3, 2, 1)
    assert found.n == 6
    assert found.balance == pytest.approx(2 / 6)
    assert found.p == pytest.approx(10 / 16)


def test_exchanged_models_flip_the_sign():
    random = np.random.default_rng(0)
    for _ in range(100):
        a, b = random.normal(size=(2, 31)).round(1)
        one, other = metrics.gsb(a, b), metrics.gsb(b, a)
        assert one.good + one.same + one.bad == 31
        assert (one.good, one.same, one.balance, one.p) == (other.bad, other.same, -other.balance, other.p)
        assert one.p == pytest.approx(stats.binomtest(one.good, one.good + one.bad).pvalue)


def test_equal_models():
    assert metrics.gsb(np.ones(5), np.ones(5)) == (0, 5, 0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [([], [], "shape"), ([1, 2], [1], "shape"), ([[1]], [[1]], "shape"), ([1, np.nan], [1, 2], "a: score 1 is NaN")],
)
def test_what_cannot_be_compared_raises(a, b, words):
    with pytest.raises(ValueError, match=words):
        metrics.gsb(a, b)
