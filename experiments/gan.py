"""Generative adversarial networks: a generator and a critic play against each other, on a ring of modes or on images.

The generator makes G(z) of noise z, the critic gives D(x) to real and generated examples. By --objective they minimise
    original  D: softplus(-D(x)) + softplus(D(G(z)))        G: softplus(-D(G(z))), "non-saturating"
    wgan_gp   D: D(G(z)) - D(x) + 10 (|grad D(u)| - 1)^2    G: -D(G(z)), u at random between x and G(z)
The Frechet distance is that of two Gaussians fitted to real and generated examples: on the ring to the points, of
images to the features of a fixed classifier (the judge). A mode, of the ring or a class as the judge sees it, is found
if a fifth of its fair share of samples is on it; on the ring that is within 3 standard deviations of its centre.

    python -m experiments.gan                                      # ring, then digits; no files needed
    python -m experiments.gan --dataset=mnist --data_dir=DATA      # DCGAN, base width 64
    python -m experiments.gan --dataset=digits --objective=wgan_gp

Mission rows M01, M02, M03, M04, M05, M06. Goodfellow et al. 2014 (arXiv:1406.2661); Radford et al. 2015, DCGAN
(arXiv:1511.06434); Gulrajani et al. 2017, WGAN-GP (arXiv:1704.00028); Heusel et al. 2017 (arXiv:1706.08500).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from experiments import _gan_claims as claims
from experiments import _judge
from experiments._gan_game import OBJECTIVES, Players, comparison, game, play
from experiments._judge import Judge
from jaxdl import metrics, run
from jaxdl.core import Experiment
from jaxdl.data import Batches, Images, load_images, unit
from jaxdl.nn import MLP, DCGANCritic, DCGANGenerator
from jaxdl.run import Claim, flag

MODES, RADIUS, SPREAD = 8, 2.0, 0.05
ANGLES = np.arange(MODES) * 2 * np.pi / MODES
CENTRES = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
PRIORS: dict[str, Any] = {  # both of variance 1
    "normal": jax.random.normal,
    "uniform": partial(jax.random.uniform, minval=-(3**0.5), maxval=3**0.5),
}
HELD_OUT = 2560  # points of the ring in its validation part, and as many in its test part
MOST = 10_000  # images that are compared
RING = {"objective": "wgan_gp", "latent": 2, "width": 64, "steps": 2000, "seeds": 5, "learning_rate": 3e-3}
IMAGES = {"objective": "original", "latent": 64, "width": 64, "epochs": 10.0, "seeds": 1, "learning_rate": 2e-4}
DIGITS = IMAGES | {"width": 32, "epochs": 80.0, "learning_rate": 1e-3}
RECIPES: dict[str, Any] = {"ring": RING, "digits": DIGITS, "mnist": IMAGES, "fashion_mnist": IMAGES}
SMALL = {"steps": 2000, "seeds": 1}  # where the tests check the claims


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment; `auto`, 0 and what is not set stand for the data set's own recipe."""

    dataset: str = flag(
        "ring", "ring: 8 Gaussians, then digits too unless --steps or --epochs is given; or images", choices=RECIPES
    )
    objective: str = flag("auto", "what the two minimise; auto: wgan_gp on the ring", choices=("auto", *OBJECTIVES))
    prior: str = flag("normal", "distribution of z, of mean 0 and variance 1", choices=PRIORS)
    latent: int = flag(0, "length of z; 0: 2 on the ring, else 64", low=0)
    width: int = flag(0, "units of an MLP, or DCGAN's channels next to the image; 0: 64, digits 32", low=0)
    seeds: int | None = flag(None, "runs, with seeds seed, seed+1, ...; mean ± standard deviation", group="training",
                             low=1, shown="5 on the ring, else 1")  # fmt: skip
    learning_rate: float = flag(0.0, "peak; 0: 3e-3 on the ring, else 2e-4", group="optimiser", low=0)
    schedule: str = "cosine"
    momentum: float = 0.5
    beta2: float = 0.9
    monitor: str = "frechet"

    def with_recipe(self) -> "Config":
        """The configuration with every open choice filled in."""
        long = {"steps", "epochs"} if self.steps is not None or self.epochs is not None else set()
        recipe = {name: value for name, value in RECIPES[self.dataset].items() if name not in long}
        return replace(self, **{k: v for k, v in recipe.items() if getattr(self, k) in ("auto", 0, None)})


def load(config: Config) -> Images:
    """The images that the flags name; what is held out serves the judge."""
    return load_images(config.dataset, config.data_dir, valid=config.valid_fraction)


def data(config: Config, images: Images | None = None) -> tuple[Batches, Batches, Batches | None]:
    """Training batches of critic_steps * batch_size rows; real examples x with a z for each, to compare samples with.

    Of the ring, training, validation and test points are three draws. Images are compared with those trained on, as is
    usual (Heusel et al.): there is no test part.
    """
    config = config.with_recipe()

    def compared(real: np.ndarray, seed: int) -> Batches:
        z = jax.vmap(noise(config))(jax.random.split(jax.random.key(seed), len(real)))
        return Batches({"x": real, "z": np.asarray(z)}, 512)

    size = OBJECTIVES[config.objective].critic_steps * config.batch_size
    if config.dataset != "ring":
        x = (images or load(config)).train["x"]
        return Batches({"x": x}, size), compared(x[:MOST], 1), None
    rng, count = np.random.default_rng(0), 10 * HELD_OUT
    x = CENTRES[rng.integers(MODES, size=count)] + SPREAD * rng.normal(size=(count, 2))
    test, valid, train = np.split(x, [HELD_OUT, 2 * HELD_OUT])
    return Batches({"x": train}, size), compared(valid, 2), compared(test, 1)


def noise(config: Config) -> Callable[[Array], Array]:
    """Key -> z [D]."""
    return lambda key: PRIORS[config.prior](key, (config.latent,))


def scaled(x: Any) -> Any:
    """What the critic sees: points as they are, pixels in -1..1."""
    return x if x.ndim == 2 else 2 * unit(x) - 1


def unscaled(x: Array) -> Array:
    """What a person and the judge see: points as they are, pixels in 0..1."""
    return x if x.ndim == 2 else jnp.clip((x + 1) / 2, 0, 1)


def networks(config: Config, example: Any) -> tuple[nn.Module, nn.Module]:
    """Generator z [B, D] -> [B, ...] in the shape of `example`, images in -1..1; critic -> [B, 1]."""
    shape, hidden = example["x"].shape[1:], (config.width,) * 3
    if len(shape) == 1:
        return MLP((*hidden, *shape)), MLP((*hidden, 1))
    norm = OBJECTIVES[config.objective].norm
    return DCGANGenerator(shape[2], shape[:2], config.width), DCGANCritic(config.width, norm=norm)


def sampler(config: Config, example: Any) -> Callable[[Players, Array], Array]:
    """(state, z [B, D]) -> samples [B, ...]: points, or images in 0..1."""
    generator, _ = networks(config, example)
    output = lambda state, z: play(generator, state.generator.params, state.stats["generator"], z, train=False)[0]
    return lambda state, z: unscaled(output(state, z))


def build(config: Config, example: Any, judge: Judge | None = None) -> Experiment:
    """The experiment for batches of `example`'s shapes; of images without a judge the distance is that of pixels."""
    config = config.with_recipe()
    objective = OBJECTIVES[config.objective]
    generator, critic = networks(config, example)
    n = objective.critic_steps
    # the critic's schedule counts its own updates, n in a step
    longer: Any = {k: v and n * v for k in ("steps", "warmup", "decay_every") for v in [getattr(config, k)]}
    optimizers = config.make_optimizer(), replace(config, **longer).make_optimizer()
    init, step = game(generator, critic, objective, optimizers, noise(config), scaled, example["x"])

    def look(x: Array) -> tuple[Array, Array]:
        """Features [B, D], and on which mode each example is [B, N]."""
        if x.ndim == 2:
            return x, metrics.mode_hits(x, jnp.asarray(CENTRES), 3 * SPREAD)
        if judge is None:
            return x.reshape(len(x), -1), jnp.zeros((len(x), 0))
        probabilities = judge.probabilities(x)
        return judge.features(x), jax.nn.one_hot(probabilities.argmax(-1), probabilities.shape[-1])

    sample = sampler(config, example)
    return Experiment(init, step, *comparison(sample, critic, objective, scaled, look))


def main(config: Config) -> list[Claim]:
    """Trains, draws and reports."""
    if config.dataset != "ring":
        return on_images(config)
    found, whole = on_ring(config.with_recipe()), config.steps is None and config.epochs is None
    digits = replace(config, dataset="digits", watch_test=False)  # only the ring has a test part
    return [*found, *(on_images(digits) if whole else claims.not_measured())]


def train_one(config: Config, name: str, judge: Any = None, images: Images | None = None, **options: Any) -> run.Result:
    """One fit, evaluated and watched on fixed noise some 20 times, and a line if it collapsed."""
    train, valid, test = data(config, images)
    config = config.resolve(train)
    config = replace(config, eval_every=config.eval_every or max(1, ceil((config.steps or 0) / 20)))
    z = jnp.asarray(valid.arrays["z"][: 64 if images else 1024])
    experiment, sample = build(config, train.example, judge), sampler(config, train.example)
    watch = lambda state: sample(state, z)
    result = run.fit(experiment, train, valid, config, test=test, name=name, watch=watch, **options)
    for seed in result.runs or (result,):
        claims.warn(name, seed.metrics, len(images.names) if images else MODES, config.objective)
    return result


def planted(state: Players) -> Players:
    """The ring's generator on one mode: of its last layer a thousandth of the weights, the bias at a centre."""
    layer = max(state.generator.params)
    last = {"kernel": state.generator.params[layer]["kernel"] / 1000, "bias": jnp.asarray(CENTRES[0])}
    return state.replace(generator=state.generator.replace(params=state.generator.params | {layer: last}))


def on_ring(config: Config) -> list[Claim]:
    """The fits on the ring, all of as many steps, and a regression beside them."""
    train, _, test = data(replace(config, objective="wgan_gp"))
    assert test is not None
    config = config.resolve(train)
    fits = {name: train_one(replace(config, objective=name), name) for name in OBJECTIVES}
    wgan, original = (replace(config, objective=name, seeds=1) for name in ("wgan_gp", "original"))
    fits["uniform"] = train_one(replace(wgan, prior="uniform"), "uniform")
    fits["again"] = train_one(original, "again")
    start = planted(build(wgan, train.example).init(jax.random.key(config.seed)))
    fits["planted"] = train_one(original, "planted", state=start)
    fits["recovered"] = train_one(wgan, "recovered", state=start)
    sample = sampler(wgan, train.example)
    made = run.apply(lambda state, batch: sample(state, batch["z"]), fits["wgan_gp"].state, test)
    return claims.of_ring(wgan, CENTRES, 3 * SPREAD, fits, train, test.arrays["x"], made)


def on_images(config: Config) -> list[Claim]:
    """One fit on images, judged by a classifier of the same images."""
    images = load(config)
    run.say(images.note)
    config = config.with_recipe()
    judge = _judge.judge(config, images)
    result = train_one(config, config.dataset, judge, images)
    train, compared, _ = data(config, images)
    return claims.of_images(config, judge, result, sampler(config, train.example), train, compared)


if __name__ == "__main__":
    run.main(Config, main)
