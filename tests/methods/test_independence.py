"""Compares the test of conditional independence with SciPy's tables, and its p-values with the uniform distribution."""

import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency, kstest

from jaxdl.methods import conditional_independence
from jaxdl.methods.independence import _counts


def test_the_statistic_is_the_sum_of_the_tables_of_scipy():
    random = np.random.default_rng(0)
    past, present = random.integers(3, size=997), random.integers(2, size=997)
    future = (past + random.integers(3, size=997)) % 4 + 10
    found = conditional_independence(past, present, future)
    tables = [np.histogram2d(past[present == k], future[present == k], (3, 4), ((0, 3), (10, 14)))[0] for k in (0, 1)]
    each = [chi2_contingency(table, correction=False) for table in tables]
    statistic, freedom = sum(one.statistic for one in each), sum(one.dof for one in each)
    assert found.statistic == pytest.approx(statistic)
    assert found.freedom == freedom == 12
    assert found.p_value == pytest.approx(chi2.sf(statistic, freedom))
    assert found.p_value < 1e-6


def chain(seed, steps=2000, memory=0.0):
    """A random walk on three states; with `memory` it returns to where it was before with that probability."""
    random, states = np.random.default_rng(seed), [0, 1]
    P = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3], [0.3, 0.3, 0.4]])
    for _ in range(steps):
        back = random.uniform() < memory
        states.append(states[-2] if back else random.choice(3, p=P[states[-1]]))
    x = np.array(states)
    return conditional_independence(x[:-2], x[1:-1], x[2:])


@pytest.mark.claims
def test_p_values_of_a_markov_chain_are_uniform():
    p = [chain(seed, 1000).p_value for seed in range(200)]
    assert kstest(p, "uniform").pvalue > 0.001
    assert sum(x < 0.01 for x in p) <= 8  # more have probability 0.0002


def test_a_memory_is_found():
    assert chain(0).p_value > 0.01
    assert chain(0, memory=0.2).p_value < 1e-6


def test_two_values_by_hand_without_a_correction_for_continuity():
    """Counts 20, 10, 10, 20; all expected counts are 15: chi^2 = 4 * 5^2 / 15."""
    past, future = np.repeat([0, 1], 30), np.repeat([0, 1, 0, 1], [20, 10, 10, 20])
    found = conditional_independence(past, np.zeros(60, int), future)
    assert (found.statistic, found.freedom) == (pytest.approx(100 / 15), 1)


def test_rare_values_are_left_out():
    """Three of 63 pasts have the value 9: their expected counts are below 5; the rest is a table of 60."""
    past = np.array([0] * 30 + [1] * 30 + [9] * 3)
    future = np.array([0, 1] * 30 + [0, 1, 1])
    table = _counts(past, future)
    assert table.tolist() == [[15, 15], [15, 15]]
    found = conditional_independence(past, np.zeros(63, int), future)
    assert (found.statistic, found.freedom, found.p_value) == (0, 1, 1)


def test_without_a_choice_there_is_nothing_to_test():
    found = conditional_independence(np.zeros(50, int), np.zeros(50, int), np.arange(50) % 2)
    assert (found.freedom, found.p_value) == (0, 1.0)
    with pytest.raises(ValueError, match="needs triples, got 2 pasts, 3 presents"):
        conditional_independence(np.zeros(2), np.zeros(3), np.zeros(3))
