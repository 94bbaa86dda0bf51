"""What `vae` is held against: densities of images whose likelihood is exact, and the eyes of a classifier."""

from typing import Any

import numpy as np

from experiments._judge import frechet_of, judge
from jaxdl import run
from jaxdl.data import Batches, Images, unit
from jaxdl.run import Bound, Claim


def mixture_of_bernoullis(train: np.ndarray, test: np.ndarray, components: int, rounds: int = 30) -> float:
    """Exact -log p of the test images in nats under a mixture fitted by EM: a model with one latent of k values."""
    x, test = (a.reshape(len(a), -1).astype(np.float32) for a in (train, test))
    shares = np.random.default_rng(0).dirichlet(np.ones(components), len(x)).astype(np.float32)
    score = lambda x, p, w: x @ (np.log(p) - np.log1p(-p)).T + np.log1p(-p).sum(1) + np.log(w)
    for _ in range(rounds):
        counts = shares.sum(0)
        p, w = (shares.T @ x + 0.5) / (counts[:, None] + 1), (counts + 1) / (len(x) + components)  # smoothed
        joint = score(x, p, w)
        shares = np.exp(joint - np.logaddexp.reduce(joint, 1, keepdims=True))
    return -float(np.logaddexp.reduce(score(test, p, w), 1).mean())


def beside_mixtures(title: str, found: str, bounds: np.ndarray, train: Batches, test: Batches) -> Claim:
    """Bounds L(1) ... L(k) on -log p(x), in nats, beside the exact figure of mixtures of Bernoullis."""
    x = train.arrays["x"], test.arrays["x"]
    mixtures = {n: mixture_of_bernoullis(*x, n) for n in (1, 10, 50)}
    exact = ", ".join(f"{value:.2f} with {n}" for n, value in mixtures.items())
    last = float(bounds[-1])
    kept = (
        Bound(last - float(bounds[0]), "<=", 0.0, "L(k) - L(1)"),
        Bound(last - min(mixtures.values()), "<", 0.0, "L(k) - best mixture"),
    )
    claim = f"{title}: -log p(x) <= L(k) <= L(1), and below every mixture of Bernoullis"
    measured = f"-ELBO {found}; L(1) {bounds[0]:.2f}, L({len(bounds)}) {bounds[-1]:.2f}"
    source = "components of mixtures fitted by EM, exact -log p(x)"
    return Claim("M12", claim, measured, exact, source, all(bound.holds for bound in kept), bounds=kept)


def judge_samples(config: run.RunConfig, images: Images, samples: np.ndarray) -> Claim:
    """What a classifier of the same data sees in samples, beside test images and noise.

    Its certainty says little, it may be as sure of noise: the Frechet distance of its features to those of training
    images tells the two apart.
    """
    judged = judge(config, images)
    x = unit(images.test["x"])
    noise = np.random.default_rng(0).permuted(x, axis=0)  # the pixels of the test images, each by itself
    look: Any = lambda state, batch: (judged.probabilities(unit(batch["x"])), judged.features(unit(batch["x"])))
    groups = (images.train["x"][:10_000], samples, x, noise)
    (_, real), *seen = (run.apply(look, (), Batches({"x": group}, 256)) for group in groups)
    top = [float(p.max(-1).mean()) for p, _ in seen]
    far = [frechet_of(f, real) for _, f in seen]
    shares = np.bincount(seen[0][0].argmax(-1), minlength=len(images.names)) / len(samples)
    shown = [f"{p:.3f} at {d:.3g}" for p, d in zip(top, far, strict=True)]
    claim = (
        f"{len(samples):,} images from the prior: a classifier's top probability >= 0.7, "
        "Frechet distance to training images below noise's"
    )
    found = f"{shown[0]}; classes {shares.min():.1%} to {shares.max():.1%}"
    beside = f"test images {shown[1]}, noise {shown[2]}"
    source = f"image_classifier, {judged.accuracy:.2%} right; noise: test pixels shuffled over images"
    bounds = Bound(top[0], ">=", 0.7, "top probability"), Bound(far[0] - far[2], "<", 0.0, "distance - noise's")
    return Claim("M12", claim, found, beside, source, all(bound.holds for bound in bounds), bounds=bounds)
