"""Mixture models with exact likelihoods, fitted by expectation-maximisation."""

import numpy as np


def mixture_of_bernoullis(train: np.ndarray, test: np.ndarray, components: int, rounds: int = 30) -> float:
    """Fits a mixture of Bernoullis by EM and returns the mean -log p of the test rows, in nats.

        p(x) = sum_k w_k prod_d p_kd^x_d (1 - p_kd)^(1 - x_d)

    Args:
      train: [N, ...], entries 0 or 1.
      test: [M, ...], entries 0 or 1.
      components: K, the number of components; the counts of each get half a success and half a failure added.
      rounds: number of EM iterations, starting from random responsibilities (seed 0).

    Returns:
      The exact mean negative log likelihood, >= 0.

    Reference: Bishop 2006, Pattern recognition and machine learning, section 9.3.3.
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
