"""Claims of the GAN experiment, from the fits that its `main` made."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import log1p
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from experiments import _gan_pictures as pictures
from experiments._judge import Judge, frechet_of
from jaxdl import metrics, run
from jaxdl.core import supervised
from jaxdl.data import Batches, unit
from jaxdl.nn import MLP
from jaxdl.run import Bound, Claim, Result

N = 500  # points whose earth mover's distance is taken
WALKS, STEPS = 16, 16  # paths of z and images on each

COMMAND = "python -m experiments.gan"


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


def earth_movers_distance(x: np.ndarray, y: np.ndarray) -> float:
    """min over pairings of the mean |x_i - y_p(i)|: the 1-Wasserstein distance of two samples [n, D] of equal size."""
    from scipy.optimize import linear_sum_assignment

    cost = np.linalg.norm(x[:, None] - y[None], axis=-1)
    return float(cost[linear_sum_assignment(cost)].mean())


def counts(result: Result) -> str:
    """Modes found by each seed."""
    return " ".join(f"{n:g}" for n in result.values("modes"))


def claim(row: str, text: str, found: str, *bounds: Bound, known: str = "", source: str = "") -> Claim:
    """A claim that holds if all its bounds do."""
    return Claim(row, text, found, known, source, all(bound.holds for bound in bounds), bounds=bounds)


def of_ring(
    config: run.RunConfig, centres: np.ndarray, radius: float, fits: Mapping[str, Result], train: Batches,
    real: np.ndarray, made: np.ndarray,
) -> list[Claim]:  # fmt: skip
    """M01, M02, M03 and M05: fits by name, real points [n, 2] and as many samples of the first WGAN-GP."""
    modes = len(centres)
    wgan, original, uniform, stuck, freed = (
        fits[k] for k in ("wgan_gp", "original", "uniform", "planted", "recovered")
    )
    pairs = float(np.mean(wgan.values("pairs")))
    draws = (wgan.watched[0], made, real[N:])
    moved = [earth_movers_distance(x[:N], real[:N]) for x in draws]
    answers = regression(config, train, real)
    shown = {name: fits[name].watched for name in ("original", "wgan_gp", "planted", "recovered")}
    pictures.ring(config, real, shown, answers)
    hits = [np.asarray(metrics.mode_hits(jnp.asarray(x), jnp.asarray(centres), radius)) for x in (answers, made)]
    # when the discriminator is surest: at the end the original may have found more modes by itself
    evaluated = (row for row in stuck.history if "valid/critic_loss" in row)
    fewest = min(evaluated, key=lambda row: row["valid/critic_loss"])["valid/modes"]
    left, loss = stuck.metrics["modes"], stuck.metrics["critic_loss"]
    best = least_loss(max(left, 1) / modes)
    found = (
        f"wgan_gp {wgan.metrics['on_modes']:.0%} on modes, D puts real above generated in {pairs:.0%} of pairs; "
        f"original {counts(original)} modes, {float(np.mean(original.values('pairs'))):.0%}"
    )
    distance = "{:.2f} to {:.2f}; two draws of data {:.2f}".format(*moved)
    same = all(np.array_equal(fits["again"].watched[t], x) for t, x in original.watched.items())
    found_all = lambda value, name, seeds=0: Bound(value, ">=", modes, f"modes, {name}", seeds)
    return [
        claim("M01", f"ring, WGAN-GP: all {modes} modes, every seed", f"{counts(wgan)}",
              found_all(min(wgan.values("modes")), "wgan_gp", len(wgan.values("modes"))),
              known=found, source="same steps of G"),
        claim("M01", "earth mover's distance of samples and data falls to less than a quarter", distance,
              Bound(moved[1] / moved[0], "<", 0.25, "at the end / at the start")),
        claim("M03", f"noise normal or uniform, of the same variance: {modes} modes with both",
              f"{counts(wgan).split()[0]} and {counts(uniform)}",
              found_all(wgan.values("modes")[0], "normal"), found_all(uniform.metrics["modes"], "uniform")),
        Claim("M03", "the same seed gives the same samples over training, bit by bit",
              f"{len(original.watched)} evaluations {'alike' if same else 'differ'}", holds=same),
        claim("M05", f"a generator started on one mode: at most {modes // 2} of {modes} modes when D is surest, and "
              "at the end D's loss within 0.25 of the best possible on so many modes, show the collapse",
              f"{fewest:g} modes; at the end {left:g} and D's loss {loss:.2f}, at best {best:.2f}",
              Bound(fewest, "<=", modes / 2, "modes"), Bound(abs(loss - best), "<", 0.25, "D's loss"),
              known=f"on all modes {least_loss(1):.2f}; none at the end of wgan_gp: {counts(wgan).split()[0]} modes"),
        claim("M05", "WGAN-GP from the same generator recovers all modes", f"{freed.metrics['modes']:g} of {modes}",
              found_all(freed.metrics["modes"], "recovered"), known=f"original {stuck.metrics['modes']:g}"),
        of_regression(*hits),
    ]  # fmt: skip


def regression(config: run.RunConfig, train: Batches, real: np.ndarray) -> np.ndarray:
    """Points [n, 2]: the x of real ones and what a network trained with squared error says of y."""
    x = train.arrays["x"]
    pairs, model = Batches({"x": x[:, :1], "y": x[:, 1:]}, config.batch_size), MLP((64, 64, 1))
    loss = lambda y, batch: optax.squared_error(y, batch["y"])
    experiment = supervised(model, config.make_optimizer(), example=pairs.example, loss=loss)
    alone = replace(config, patience=0, watch_test=False)  # of its steps nothing is chosen
    state = run.fit(experiment, pairs, None, alone, name="regression").state
    says = run.apply(
        lambda state, batch: model.apply(state.variables, batch["x"]), state, Batches({"x": real[:, :1]}, 512)
    )
    return np.hstack([real[:, :1], says])


def of_regression(hits: np.ndarray, samples: np.ndarray) -> Claim:
    """M02: hits [n, N] of the regression's answers at the data's x, and of the GAN's samples, on modes."""
    near, made = float(hits.sum(1).mean()), float(samples.sum(1).mean())
    found = f"regression's answers {near:.0%} on modes, {metrics.modes_found(hits.sum(0), len(hits))} modes"
    text = (
        "y from x where the road forks: regression says the mean, less than half of its answers are on a mode; more "
        "than half of the samples are, on every branch"
    )
    every = metrics.modes_found(samples.sum(0), len(samples))
    bounds = (
        Bound(near, "<", 0.5, "answers on modes"),
        Bound(made, ">", 0.5, "samples on modes"),
        Bound(every, ">=", samples.shape[1], "modes of samples"),
    )
    return claim("M02", text, found, *bounds, known=f"samples {made:.0%} on modes, {every} modes", source="wgan_gp")


def of_images(
    config: Any, judge: Judge, result: Result, sample: Callable[[Any, Any], Any], train: Batches, compared: Batches
) -> list[Claim]:
    """M04 and M06: distances in the judge's features, and what it sees on paths from z to z'."""
    name, real = config.dataset, unit(compared.arrays["x"])
    rng, n = np.random.default_rng(0), len(real)
    order, grain = rng.permutation(n), rng.uniform(size=real.shape)
    see = lambda x: run.apply(lambda _, batch: judge.features(batch["x"]), None, Batches({"x": x}, 512))
    seen = see(real)
    halves, noise = frechet_of(seen[order[::2]], seen[order[1::2]]), frechet_of(seen, see(grain))
    path, labels = walk(config.prior == "normal", judge, result.state, sample, compared.arrays["z"])
    pictures.images(config, name, result.watched, path[:8], labels[:8])
    epoch = -(-train.length // train.batch_size) / result.steps_per_second
    judged = f"a classifier ({judge.accuracy:.1%} right, {seen.shape[1]} features)"
    _, distances = result.curve("valid/frechet")
    first, last = distances[0], result.metrics["frechet"]
    flat = path.reshape(*path.shape[:2], -1)
    near = float(np.linalg.norm(np.diff(flat, axis=1), axis=-1).mean())
    ends = flat[:, [0, -1]].reshape(-1, flat.shape[-1])
    apart = np.linalg.norm(ends[:, None] - ends[None], axis=-1)
    far = float(apart.sum() / (len(ends) * (len(ends) - 1)))
    flips = float(np.count_nonzero(np.diff(labels), axis=1).mean())
    chance = 0.9 * (labels.shape[1] - 1)
    text = (
        f"{name}: Frechet distance of {n:,} samples to as many training images, as is usual, in features of {judged} "
        "falls, between real halves and noise"
    )
    found = f"{first:.1f} to {last:.1f}, {epoch:.2g} s an epoch"
    known = f"halves of the real images {halves:.2f} ({n // 2:,} each), uniform noise {noise:.0f}"
    steps = labels.shape[1]
    return [
        claim("M06", text, found, Bound(last - first, "<", 0.0, "last - first"),
              Bound(last - halves, ">", 0.0, "last - halves"), Bound(last - noise, "<", 0.0, "last - noise"),
              known=known),
        claim("M04", f"{name}, paths of z of {steps} images: neighbours differ by less than a third of random pairs",
              f"{near:.2f}", Bound(near / far, "<", 1 / 3, "neighbours / random pairs"),
              known=f"random pairs {far:.2f}", source="|x - x'|"),
        claim("M04", f"{name}: the judge's label changes at most 4 times on a path, on average", f"{flips:.1f}",
              Bound(flips, "<=", 4.0, "changes"), known=f"{chance:.0f} between random images"),
    ]  # fmt: skip


def walk(
    circle: bool, judge: Judge, state: Any, sample: Callable[[Any, Any], Any], z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """WALKS paths of STEPS samples [WALKS, STEPS, H, W, C] and their labels: on a circle, which keeps a normal z's
    length, or else on a straight line.
    """
    t = np.linspace(0, 1, STEPS)[:, None]
    here, there = (np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)) if circle else (1 - t, t)
    path = z[:WALKS, None] * here + z[WALKS : 2 * WALKS, None] * there

    def both(state: Any, batch: Any) -> Any:
        x = sample(state, batch["z"])
        return x, judge.probabilities(x).argmax(-1)

    x, labels = run.apply(both, state, Batches({"z": path.reshape(WALKS * STEPS, -1)}, WALKS * STEPS))
    return x.reshape(WALKS, STEPS, *x.shape[1:]), labels.reshape(WALKS, STEPS)


def not_measured() -> list[Claim]:
    """What a short run on the ring leaves out."""
    texts = {"M06": "digits: Frechet distance falls", "M04": "digits: neighbours on a path of z are alike"}
    return [Claim(row, text, "not measured", command=COMMAND) for row, text in texts.items()]


def warn(name: str, found: Mapping[str, float], modes: int, objective: str) -> None:
    """Says a collapse in a line."""
    sign = collapse(found, modes, objective)
    if sign:
        run.say(f"{name}: mode collapse: {sign}")
