"""Claims of the GAN experiment, and their measurement."""

from collections.abc import Iterator, Mapping, Sequence
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

N = 500  # points for the earth mover's distance
WALKS, STEPS = 16, 16  # paths of z, and images on each

CLAIMS = {
    "modes": Claim("WGAN-GP finds all modes of the ring for every seed, with the original GAN's number of steps", "M01",
                   headline=True),
    "distance": Claim("Training reduces the earth mover's distance between samples and data to a fraction", "M01"),
    "road": Claim("On a multimodal target, regression predicts the mean, off every mode; a GAN samples every mode",
                  "M02"),
    "noise": Claim("Normal and uniform noise of equal variance both lead to all modes", "M03"),
    "repeat": Claim("Equal seeds give bit-identical samples throughout training", "M03"),
    "path": Claim("Images on a path of z change gradually: neighbours differ less than random pairs", "M04"),
    "labels": Claim("The predicted class seldom changes along a path of z", "M04"),
    "collapse": Claim("Mode collapse is visible in the number of modes and in the discriminator's loss", "M05"),
    "recovery": Claim("WGAN-GP recovers all modes from a collapsed generator", "M05"),
    "frechet": Claim("The Frechet distance to training images falls, to between real halves and noise", "M06",
                     headline=True, flags="--dataset=digits"),
}  # fmt: skip


def least_loss(share: float) -> float:
    """Returns the original's optimal discriminator loss, 2 log 2 - 2 JS, if samples cover a share in (0, 1] of modes.

    D is 1 / (1 + share) on covered modes and 1 elsewhere: the loss is share log(1 + 1 / share) + log(1 + share).
    """
    return share * log1p(1 / share) + log1p(share)


def collapse(found: Mapping[str, float], modes: int, objective: str) -> str:
    """Describes a mode collapse, at most half of the modes, from the metrics of an evaluation; "" without a collapse.

    The text also reports the loss of the original's discriminator. Alone it does not show a collapse: on images it
    also falls when the discriminator can distinguish good samples from real images.
    """
    if found.get("modes", modes) > modes / 2:
        return ""
    loss = found["critic_loss"]
    half, every = least_loss(0.5), least_loss(1)
    more = f"; D's loss {loss:.2f} (optimal on half of the modes: {half:.2f}, on all modes: {every:.2f})"
    return f"{found['modes']:g} of {modes} modes" + (more if objective == "original" else "")


def of_ring(
    config: run.RunConfig, centres: np.ndarray, radius: float, fits: Mapping[str, Result], data: Data
) -> Iterator[Finding]:
    """Measures M01, M02, M03 and M05 from the fits by name."""
    modes, real = len(centres), data.test.arrays["x"]
    wgan, original, uniform, stuck, freed = (
        fits[k] for k in ("wgan_gp", "original", "uniform", "planted", "recovered")
    )
    made = [one.predict(data.test) for one in wgan.runs]  # as many samples as test points
    answers = regression(config, data.train.arrays["x"], real)
    shown = {name: fits[name].watched for name in ("original", "wgan_gp", "planted", "recovered")}
    pictures.ring(config, real, shown, answers[0])
    of = lambda name, fit, sign="": Quantity(name, fit.values("modes"), sign, modes, enough=-1 if sign else 0)
    yield measured(
        "modes",
        of("modes", wgan, ">="),
        Quantity("share of samples on modes", wgan.values("on_modes")),
        Quantity("share of pairs with D(real) > D(sample)", wgan.values("pairs")),
        of("original: modes", original),
        Quantity("original: share of pairs", original.values("pairs")),
    )
    distance = lambda x: metrics.earth_movers_distance(x[:N], real[:N])
    start, end = ([distance(x) for x in draws] for draws in ([one.watched[0] for one in wgan.runs], made))
    share = Quantity("distance, end / start", np.divide(end, start), "<", 0.25)
    reference = {"distance of two draws of the data": distance(real[N:])}
    yield measured("distance", share, Quantity("distance at the end", end), reference=reference)
    hits = lambda x: np.asarray(metrics.mode_hits(jnp.asarray(x), jnp.asarray(centres), radius))
    yield of_regression([hits(x) for x in answers], [hits(x) for x in made])

    yield measured("noise", of("normal: modes", wgan, ">="), of("uniform: modes", uniform, ">="))
    differ = sum(not np.array_equal(fits["again"].watched[t], x) for t, x in original.watched.items())
    yield measured("repeat", Quantity(f"differing evaluations of {len(original.watched)}", differ, "==", 0))
    # at the discriminator's lowest loss, because at the end the original may have found more modes
    evaluated = ([row for row in history if "valid/critic_loss" in row] for history in stuck.histories())
    fewest = [min(rows, key=lambda row: row["valid/critic_loss"])["valid/modes"] for rows in evaluated]
    left = stuck.values("modes")
    best = [least_loss(max(each, 1) / modes) for each in left]
    yield measured(
        "collapse",
        Quantity("modes at D's lowest loss", fewest, "<=", modes / 2),
        Quantity("modes at the end", left),
        Quantity(
            "D's loss - optimal loss on these modes", np.abs(np.subtract(stuck.values("critic_loss"), best)), "<", 0.25
        ),
        reference={
            "D's optimal loss on these modes": best,
            "D's optimal loss on all modes": least_loss(1),
            "modes, WGAN-GP": wgan.values("modes"),
        },
    )
    yield measured("recovery", of("modes", freed, ">="), reference={"modes, original": left})


def regression(config: run.RunConfig, x: np.ndarray, real: np.ndarray) -> list[np.ndarray]:
    """Regresses y on x with squared error; returns for each seed points [n, 2], x of `real` and predicted y."""
    pairs = Batches({"x": x[:, :1], "y": x[:, 1:]}, config.batch_size)
    loss = lambda y, batch: optax.squared_error(y, batch["y"])
    experiment = supervised(MLP((64, 64, 1)), config.make_optimizer(), example=pairs.example, loss=loss)
    # there is no validation part, so no early stopping
    result = run.fit(experiment, pairs, config, name="regression", patience=0, watch_test=False, init=None)
    return [np.hstack([real[:, :1], one.predict(Batches({"x": real[:, :1]}, 512))]) for one in result.runs]


def of_regression(answers: Sequence[np.ndarray], samples: Sequence[np.ndarray]) -> Finding:
    """Measures M02 from hits [n, N] on modes, for each seed, of the regression's predictions and the GAN's samples."""
    on_modes = lambda each: [hits.sum(1).mean() for hits in each]
    found = lambda each: [metrics.modes_found(hits.sum(0), len(hits)) for hits in each]
    return measured(
        "road",
        Quantity("regression: share of predictions on modes", on_modes(answers), "<", 0.5),
        Quantity("regression: modes", found(answers)),
        Quantity("GAN: share of samples on modes", on_modes(samples), ">", 0.5),
        Quantity("GAN: modes", found(samples), ">=", samples[0].shape[1]),
    )


def of_images(config: Any, judge: Judge, result: Result, compared: Batches) -> Iterator[Finding]:
    """Measures M04 and M06: distances in the judge's features, and images on paths from z to z'."""
    real = pixels01(compared.arrays["x"])
    rng, n = np.random.default_rng(0), len(real)
    order, grain = rng.permutation(n), rng.uniform(size=real.shape)
    see = lambda x: run.map_batches(lambda _, batch: judge.features(batch["x"]), None, Batches({"x": x}, 512))
    seen = see(real)
    halves, noise = frechet_of(seen[order[::2]], seen[order[1::2]]), frechet_of(seen, see(grain))
    first, last = ([one.curve("valid/frechet")[1][0] for one in result.runs], np.array(result.values("frechet")))
    yield measured(
        "frechet",
        Quantity("Frechet distance", last, "<", noise),
        Quantity("end - start", last - first, "<", 0),
        Quantity("end - real halves", last - halves, ">", 0),
        Quantity("images", n),
        Quantity("accuracy of the classifier", judge.accuracy),
        reference={"Frechet distance, real halves": halves, "Frechet distance, uniform noise": noise},
    )
    walks = [walk(config.prior == "normal", judge, one, compared.arrays["z"]) for one in result.runs]
    path, labels = walks[0]
    pictures.images(config, config.dataset, result.watched, path[:8], labels[:8])
    ratios = [smoothness(path) for path, _ in walks]
    yield measured("path", Quantity("|x - x'|, neighbours / random pairs", ratios, "<", 1 / 3))
    flips = [np.count_nonzero(np.diff(labels), axis=1).mean() for _, labels in walks]
    chance = {"changes between random images": 0.9 * (STEPS - 1)}
    yield measured("labels", Quantity("changes per path", flips, "<=", 4), reference=chance)


def smoothness(path: np.ndarray) -> float:
    """Returns the mean distance of neighbours on paths [n, STEPS, ...] divided by that of random ends."""
    flat = path.reshape(*path.shape[:2], -1)
    near = float(np.linalg.norm(np.diff(flat, axis=1), axis=-1).mean())
    ends = flat[:, [0, -1]].reshape(-1, flat.shape[-1])
    far = float(np.linalg.norm(ends[:, None] - ends[None], axis=-1).sum() / (len(ends) * (len(ends) - 1)))
    return near / far


def walk(circle: bool, judge: Judge, result: Result, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns samples on paths of z [WALKS, STEPS, H, W, C] and their predicted classes [WALKS, STEPS].

    The paths are arcs of a circle, on which a normal z keeps its length, or straight lines.
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
    """Logs a line if the generator collapsed."""
    sign = collapse(found, modes, objective)
    if sign:
        run.log(f"{name}: mode collapse: {sign}")
