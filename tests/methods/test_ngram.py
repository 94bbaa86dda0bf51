import itertools

import numpy as np
import pytest

from jaxdl.methods import ngram_losses

TRAIN, TEST, V = np.array([0, 1, 0, 1, 2, 0, 1]), np.array([1, 0, 1, 1, 3]), 5


def probabilities():
    """Probabilities of both models, counted in loops."""
    train = TRAIN.tolist()
    unigram = [(train.count(c) + 1) / (7 + V) for c in range(V)]
    pairs = list(itertools.pairwise(train))
    starts = [b for b, _ in pairs]
    bigram = [[(pairs.count((b, c)) + V * unigram[c]) / (starts.count(b) + V) for c in range(V)] for b in range(V)]
    return unigram, bigram


def test_by_counting():
    unigram, bigram = probabilities()
    assert sum(unigram) == pytest.approx(1)
    assert np.sum(bigram, 1) == pytest.approx(1)
    losses = ngram_losses(TRAIN, TEST, V)
    follow = list(itertools.pairwise(TEST.tolist()))
    assert losses["unigram"] == pytest.approx(-np.mean([np.log(unigram[c]) for _, c in follow]))
    assert losses["bigram"] == pytest.approx(-np.mean([np.log(bigram[b][c]) for b, c in follow]))


def test_a_periodic_text():
    """After 10,000 pairs the bigram model predicts the next token; the unigram model has only the frequencies."""
    text = np.tile([0, 1, 2, 3], 2500)
    losses = ngram_losses(text, text, 4)
    assert losses["unigram"] == pytest.approx(np.log(4), abs=1e-3)
    assert 0 < losses["bigram"] < 0.01
