"""Claims of the GAN experiment, and what its fits say to them."""

from collections.abc import Iterator, Mapping
from math import log1p
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from experiments.gan import pictures
from jaxdl import metrics, run
from jaxdl.data import Batches, Data, pixels01
from jaxdl.methods import Judge, frechet_of
from jaxdl.nn import MLP
from jaxdl.run import Claim, Finding, Quantity, Result, measured
from jaxdl.supervision import supervised

N = 500  # points whose earth mover's distance is taken
WALKS, STEPS = 16, 16  # paths of z and images on each

CLAIMS = {
    "modes": Claim("ring: WGAN-GP finds all modes, every seed, in as many steps as the original", "M01", headline=True),
    "distance": Claim("the earth mover's distance of samples and data falls to a fraction", "M01"),
    "road": Claim("y from x where the road forks: regression says the mean, most of its answers are on no mode, most "
                  "of the samples are, on every branch", "M02"),
    "noise": Claim("noise normal or uniform, of the same variance: all modes with both", "M03"),
    "repeat": Claim("the same seed gives the same samples over training, bit by bit", "M03"),
    "path": Claim("images on a path of z: neighbours differ less than random pairs", "M04"),
    "labels": Claim("the judge's label seldom changes on a path of z", "M04"),
    "collapse": Claim("a generator started on one mode: few modes when D is surest, and at the end D's loss near the "
                      "best possible on so many modes, show the collapse", "M05"),
    "recovery": Claim("WGAN-GP from the same generator recovers all modes", "M05"),
    "frechet": Claim("the Frechet distance of samples to as many training images, as is usual, in a classifier's "
                     "features falls, between real halves and noise", "M06", headline=True),
}  # fmt: skip


def least_loss(share: float) -> float:
    """The original's best discriminator's loss, 2 log 2 - 2 JS, against a generator on a share in (0, 1] of the modes.

    D = 1 / (1 + share) where there are samples and 1 elsewhere: share log(1 + 1 / share) + log(1 + share).
    """
    return share * log1p(1 / share) + log1p(share)


def collapse(found: Mapping[str, float], modes: int, objective: str) -> str:
    """Mode collapse as the numbers of an evaluation show it, in words: at most half of the modes; "" if it is none.

    The loss of the original's discriminator is told beside it. Alone it is no sign: of images it falls below that of
    half of the modes where the discriminator tells good samples from real ones.
    """
    if found.get("modes", modes) > modes / 2:
        return ""
    loss = found["critic_loss"]
    beside = f"; D's loss {loss:.2f}, at best {least_loss(0.5):.2f} on half of the modes and {least_loss(1):.2f} on all"
    return f"{found['modes']:g} of {modes} modes" + (beside if objective == "original" else "")


def of_ring(
    config: run.RunConfig, centres: np.ndarray, radius: float, fits: Mapping[str, Result], data: Data, made: np.ndarray
) -> Iterator[Finding]:
    """M01, M02, M03 and M05: fits by name, and as many samples of the first WGAN-GP as there are test points."""
    modes, real = len(centres), data.test.arrays["x"]
    wgan, original, uniform, stuck, freed = (
        fits[k] for k in ("wgan_gp", "original", "uniform", "planted", "recovered")
    )
    answers = regression(config, data.train.arrays["x"], real)
    shown = {name: fits[name].watched for name in ("original", "wgan_gp", "planted", "recovered")}
    pictures.ring(config, real, shown, answers)
    of = lambda name, fit, sign="": Quantity(name, fit.values("modes"), sign, modes, enough=-1 if sign else 0)
    yield measured(
        "modes",
        of("modes", wgan, ">="),
        Quantity("share of samples on modes", wgan.values("on_modes")),
        Quantity("pairs in which D puts the real one above", wgan.values("pairs")),
        of("original: modes", original),
        Quantity("pairs", original.values("pairs")),
    )
    draws = (wgan.watched[0], made, real[N:])
    start, end, least = (metrics.earth_movers_distance(x[:N], real[:N]) for x in draws)
    share = Quantity("at the end / at the start", end / start, "<", 0.25)
    yield measured("distance", share, Quantity("at the end", end), reference={"two draws of data": least})
    yield of_regression(
        *(np.asarray(metrics.mode_hits(jnp.asarray(x), jnp.asarray(centres), radius)) for x in (answers, made))
    )

    yield measured(
        "noise",
        Quantity("normal: modes", wgan.values("modes")[0], ">=", modes),
        of("uniform: modes", uniform, ">="),
    )
    differ = sum(not np.array_equal(fits["again"].watched[t], x) for t, x in original.watched.items())
    yield measured("repeat", Quantity(f"of {len(original.watched)} evaluations, different", differ, "==", 0))
    # when the discriminator is surest: at the end the original may have found more modes by itself
    evaluated = (row for row in stuck.history if "valid/critic_loss" in row)
    fewest = min(evaluated, key=lambda row: row["valid/critic_loss"])["valid/modes"]
    left, loss = stuck.metrics["modes"], stuck.metrics["critic_loss"]
    best = least_loss(max(left, 1) / modes)
    yield measured(
        "collapse",
        Quantity("modes when D is surest", fewest, "<=", modes / 2),
        Quantity("modes at the end", left),
        Quantity("D's loss - best possible on so many", abs(loss - best), "<", 0.25),
        reference={
            "D's least loss on so many modes": best,
            "on all": least_loss(1),
            "modes of wgan_gp": wgan.values("modes")[0],
        },
    )
    yield measured("recovery", of("modes", freed, ">="), reference={"the original": left})


def regression(config: run.RunConfig, x: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Points [n, 2]: the x of real ones and what a network trained on points x with squared error says of y."""
    pairs = Batches({"x": x[:, :1], "y": x[:, 1:]}, config.batch_size)
    loss = lambda y, batch: optax.squared_error(y, batch["y"])
    experiment = supervised(MLP((64, 64, 1)), config.make_optimizer(), example=pairs.example, loss=loss)
    # of its steps nothing is chosen
    result = run.fit(experiment, pairs, config, name="regression", patience=0, watch_test=False, init=None)
    return np.hstack([real[:, :1], result.predict(Batches({"x": real[:, :1]}, 512))])


def of_regression(hits: np.ndarray, samples: np.ndarray) -> Finding:
    """M02: hits [n, N] of the regression's answers at the data's x, and of the GAN's samples, on modes."""
    every = metrics.modes_found(samples.sum(0), len(samples))
    return measured(
        "road",
        Quantity("share of answers on modes", hits.sum(1).mean(), "<", 0.5),
        Quantity("modes of answers", metrics.modes_found(hits.sum(0), len(hits))),
        Quantity("share of samples on modes", samples.sum(1).mean(), ">", 0.5),
        Quantity("modes of samples", every, ">=", samples.shape[1]),
    )


def of_images(config: Any, judge: Judge, result: Result, compared: Batches) -> Iterator[Finding]:
    """M04 and M06: distances in the judge's features, and what it sees on paths from z to z'."""
    real = pixels01(compared.arrays["x"])
    rng, n = np.random.default_rng(0), len(real)
    order, grain = rng.permutation(n), rng.uniform(size=real.shape)
    see = lambda x: run.map_batches(lambda _, batch: judge.features(batch["x"]), None, Batches({"x": x}, 512))
    seen = see(real)
    halves, noise = frechet_of(seen[order[::2]], seen[order[1::2]]), frechet_of(seen, see(grain))
    first, last = result.curve("valid/frechet")[1][0], result.metrics["frechet"]
    yield measured(
        "frechet",
        Quantity("distance", last, "<", noise),
        Quantity("- first", last - first, "<", 0),
        Quantity("- halves'", last - halves, ">", 0),
        Quantity("images", n),
        Quantity("accuracy of the classifier", judge.accuracy),
        reference={"halves of the real images": halves, "uniform noise": noise},
    )
    path, labels = walk(config.prior == "normal", judge, result, compared.arrays["z"])
    pictures.images(config, config.dataset, result.watched, path[:8], labels[:8])
    flat = path.reshape(*path.shape[:2], -1)
    near = float(np.linalg.norm(np.diff(flat, axis=1), axis=-1).mean())
    ends = flat[:, [0, -1]].reshape(-1, flat.shape[-1])
    far = float(np.linalg.norm(ends[:, None] - ends[None], axis=-1).sum() / (len(ends) * (len(ends) - 1)))
    yield measured("path", Quantity("|x - x'|, neighbours / random pairs", near / far, "<", 1 / 3))
    flips = np.count_nonzero(np.diff(labels), axis=1).mean()
    chance = 0.9 * (labels.shape[1] - 1)
    yield measured("labels", Quantity("changes on a path", flips, "<=", 4), reference={"between random images": chance})


def walk(circle: bool, judge: Judge, result: Result, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """WALKS paths of STEPS samples [WALKS, STEPS, H, W, C] and their labels: on a circle, which keeps a normal z's
    length, or else on a straight line.
    """
    t = np.linspace(0, 1, STEPS)[:, None]
    here, there = (np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)) if circle else (1 - t, t)
    path = z[:WALKS, None] * here + z[WALKS : 2 * WALKS, None] * there
    x = result.predict(Batches({"z": path.reshape(WALKS * STEPS, -1)}, WALKS * STEPS))
    labels = run.map_batches(
        lambda _, batch: judge.probabilities(batch["x"]).argmax(-1), None, Batches({"x": x}, len(x))
    )
    return x.reshape(WALKS, STEPS, *x.shape[1:]), labels.reshape(WALKS, STEPS)


def warn(name: str, found: Mapping[str, float], modes: int, objective: str) -> None:
    """Says a collapse in a line."""
    sign = collapse(found, modes, objective)
    if sign:
        run.log(f"{name}: mode collapse: {sign}")
