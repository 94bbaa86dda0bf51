"""A test of conditional independence, with which roll-outs are tested for the Markov property."""

from typing import NamedTuple

import numpy as np

LEAST = 5.0  # the smallest expected count for which chi-squared is a good approximation (Cochran 1954)


class Independence(NamedTuple):
    """statistic: chi-squared. freedom: its degrees of freedom; 0 if no present was followed and preceded by several.

    p_value: the probability of such a statistic or a larger one if past and future are independent.
    """

    statistic: float
    freedom: int
    p_value: float


def conditional_independence(past: np.ndarray, present: np.ndarray, future: np.ndarray) -> Independence:
    """Tests whether the future is independent of the past given the present, by Pearson's chi-squared.

        chi^2 = sum over presents of sum_{i, j} (n_ij - e_ij)^2 / e_ij,  e_ij = n_i. n_.j / n..,
        with (rows - 1) (columns - 1) degrees of freedom each

    Where the present is what an agent saw and did at one time, the past what it saw before, and the future what it saw
    next, independence is the Markov property. It is tested between the three times only: a world may still depend on
    earlier ones. Billingsley 1961, Statistical methods in Markov chains, shows that chi-squared is the distribution of
    such counts along a chain. Rare values of past and future are left out, the rarest first, until every expected count
    of a table is at least 5; only totals decide this, never what was counted inside a table.

    Args:
      past, present, future: numbers of the values, int [N]; row n is one triple.

    Returns:
      The statistic, its degrees of freedom and the p-value, which is 1 without degrees of freedom.

    Raises:
      ValueError: the lengths differ, or there is no triple.
    """
    from scipy.stats import chi2, chi2_contingency

    if not (len(past) == len(present) == len(future) and len(past)):
        raise ValueError(f"needs triples, got {len(past)} pasts, {len(present)} presents and {len(future)} futures")
    statistic, freedom = 0.0, 0
    for now in np.unique(present):
        rows = present == now
        table = _counts(past[rows], future[rows])
        if min(table.shape) > 1:
            found = chi2_contingency(table, correction=False)
            statistic, freedom = statistic + float(found.statistic), freedom + int(found.dof)
    return Independence(statistic, freedom, float(chi2.sf(statistic, freedom)) if freedom else 1.0)


def _counts(past: np.ndarray, future: np.ndarray) -> np.ndarray:
    """A table of counts without the rarest rows and columns, so that every expected count is at least LEAST."""
    i, j = (np.unique(values, return_inverse=True)[1] for values in (past, future))
    table = np.zeros((i.max() + 1, j.max() + 1), np.int64)
    np.add.at(table, (i, j), 1)
    while min(table.shape) > 1:
        rows, columns = table.sum(1), table.sum(0)
        if rows.min() * columns.min() / table.sum() >= LEAST:
            break
        axis = int(columns.min() < rows.min())
        table = np.delete(table, (columns if axis else rows).argmin(), axis)
    return table
