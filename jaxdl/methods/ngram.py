"""Unigram and bigram language models, baselines for neural ones."""

import chex
import numpy as np


def ngram_losses(train: np.ndarray, test: np.ndarray, vocabulary: int) -> dict[str, float]:
    """Returns the mean of -log p(x_t | x_{t-1}) over test without its first token, for a unigram and a bigram model.

        unigram  p(c)     = (n_c + 1) / (N + V)
        bigram   p(c | b) = (n_bc + V p(c)) / (n_b + V)

    The bigram model is smoothed by the unigram model, which counts as V additional observations, so unseen pairs fall
    back on it.

    Args:
      train: integers [N] in [0, V).
      test: integers [M] in [0, V), M >= 2.
      vocabulary: V.

    Returns:
      {"unigram": loss, "bigram": loss}, in nats per token.

    Raises:
      AssertionError: if train or test is not of rank 1.

    Reference: MacKay & Peto 1995, A hierarchical Dirichlet language model.
    """
    chex.assert_rank([train, test], 1)
    V = vocabulary
    unigram = (np.bincount(train, minlength=V) + 1) / (len(train) + V)
    before, after = test[:-1].astype(np.int64), test[1:].astype(np.int64)
    seen, counts = np.unique(train[:-1].astype(np.int64) * V + train[1:], return_counts=True)
    place = np.searchsorted(seen, before * V + after).clip(max=len(seen) - 1)
    pairs = np.where(seen[place] == before * V + after, counts[place], 0)
    bigram = (pairs + V * unigram[after]) / (np.bincount(train[:-1], minlength=V)[before] + V)
    return {"unigram": float(-np.log(unigram[after]).mean()), "bigram": float(-np.log(bigram).mean())}


def ngram_perplexities(train: np.ndarray, test: np.ndarray, vocabulary: int) -> dict[str, float]:
    """Returns the perplexities exp(loss), >= 1; arguments and errors are those of `ngram_losses`."""
    return {name: float(np.exp(loss)) for name, loss in ngram_losses(train, test, vocabulary).items()}
