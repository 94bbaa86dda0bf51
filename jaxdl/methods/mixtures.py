"""Mixtures whose likelihood is exact, fitted by expectation-maximisation."""

import numpy as np


def mixture_of_bernoullis(train: np.ndarray, test: np.ndarray, components: int, rounds: int = 30) -> float:
    """Exact mean -log p of test rows, in nats, under a mixture fitted by EM.

        p(x) = sum_k w_k prod_d p_kd^x_d (1 - p_kd)^(1 - x_d)

    Args:
      train: [N, ...] of 0 and 1.
      test: the same, of other rows.
      components: K; half a success and half a failure are added to the counts of each.
      rounds: of expectation and maximisation, from random responsibilities of seed 0.
    """
    x, test = (a.reshape(len(a), -1).astype(np.float32) for a in (train, test))
    shares = np.random.default_rng(0).dirichlet(np.ones(components), len(x)).astype(np.float32)
    score = lambda x, p, w: x @ (np.log(p) - np.log1p(-p)).T + np.log1p(-p).sum(1) + np.log(w)
    for _ in range(rounds):
        counts = shares.sum(0)
        p, w = (shares.T @ x + 0.5) / (counts[:, None] + 1), (counts + 1) / (len(x) + components)  # smoothed
        joint = score(x, p, w)
        shares = np.exp(joint - np.logaddexp.reduce(joint, 1, keepdims=True))
    return -float(np.logaddexp.reduce(score(test, p, w), 1).mean())
