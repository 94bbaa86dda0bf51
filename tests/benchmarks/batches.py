"""One fixed random batch for each case of `tests.benchmarks.steps`, as NumPy arrays for all frameworks."""

import numpy as np


def _images(B, H, C):
    rng = np.random.default_rng(0)
    return {"x": rng.random((B, H, H, C), np.float32), "y": rng.integers(10, size=B, dtype=np.int32)}


def _tokens(B, T=64, V=65):
    text = np.random.default_rng(0).integers(V, size=(B, T + 1), dtype=np.int32)
    return {"x": text[:, :-1].copy(), "y": text[:, 1:].copy()}


BATCHES = {
    "lstm": lambda: _tokens(32),
    "gpt": lambda: _tokens(12),
    "cnn": lambda: _images(128, 28, 1),
    "resnet18": lambda: _images(64, 32, 3),
    "vae": lambda: {"x": np.random.default_rng(0).random((128, 784), np.float32)},
    "dcgan": lambda: {"x": np.random.default_rng(0).uniform(-1, 1, (64, 28, 28, 1)).astype(np.float32)},
}
