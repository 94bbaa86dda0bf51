"""Generative adversarial networks: a generator against a critic, on a ring of modes or on images.

A GAN learns to sample without a likelihood, and its training can collapse to a few modes. On a ring of eight Gaussians
the experiment shows mode collapse, how to detect it and how WGAN-GP avoids it; on images a DCGAN is scored by the
Frechet distance in a classifier's features, and paths between samples are drawn.

The generator maps noise z to G(z); the critic scores real and generated examples by D. By --objective they minimise
    original  D: softplus(-D(x)) + softplus(D(G(z)))        G: softplus(-D(G(z))), "non-saturating"
    wgan_gp   D: D(G(z)) - D(x) + 10 (|grad D(u)| - 1)^2    G: -D(G(z)), u at random between x and G(z)
The Frechet distance compares Gaussians fitted to real and generated examples: to the points of the ring, or to images'
features in a fixed classifier (the judge). A mode (a Gaussian of the ring, within 3 standard deviations of its centre,
or a class predicted by the judge) counts as found if it receives a fifth of its fair share of samples.

    python -m experiments.gan                                      # ring, then digits; no files needed
    python -m experiments.gan --dataset=mnist --data_dir=DATA      # DCGAN, base width 64
    python -m experiments.gan --dataset=digits --objective=wgan_gp
    python -m experiments.gan --workdir=RUN --predict=64           # 64 samples of the finished run

Goodfellow et al. 2014 (arXiv:1406.2661); Radford et al. 2015, DCGAN
(arXiv:1511.06434); Gulrajani et al. 2017, WGAN-GP (arXiv:1704.00028); Heusel et al. 2017 (arXiv:1706.08500).
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import ceil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from experiments import image_classifier
from experiments.gan import claims
from experiments.gan.claims import CLAIMS as CLAIMS
from jaxdl import metrics, run
from jaxdl.core import Experiment
from jaxdl.data import Batches, Data, load_images, pixels11, toys
from jaxdl.methods import Judge, judge
from jaxdl.methods.adversarial import OBJECTIVES, Players, comparison, game, play
from jaxdl.nn import MLP, DCGANCritic, DCGANGenerator
from jaxdl.run import flag

FAMILY = "generative models"
FIGURE = "ring"  # shown on the page of results
CENTRES, SPREAD = toys.ring(), 0.05
PRIORS: dict[str, Any] = {  # both of variance 1
    "normal": jax.random.normal,
    "uniform": partial(jax.random.uniform, minval=-(3**0.5), maxval=3**0.5),
}
HELD_OUT = 2560  # points of the ring in the validation part, and in the test part
MOST = 10_000  # real images to compare with
IMAGES = {"objective": "original", "latent": 64, "width": 64, "epochs": 10, "seeds": 1, "learning_rate": 2e-4}
SMALL = {"steps": 1500, "seeds": 1}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    recipes = {
        "dataset": {
            "ring": {
                "objective": "wgan_gp",
                "latent": 2,
                "width": 64,
                "steps": 2000,
                "seeds": 3,
                "learning_rate": 3e-3,
            },
            "digits": IMAGES | {"width": 32, "epochs": 80, "seeds": 3, "learning_rate": 1e-3},
            "mnist": IMAGES,
            "fashion_mnist": IMAGES,
        }
    }
    dataset: str = flag(
        "ring", "ring: 8 Gaussians, then one seed of digits unless --steps or --epochs is given; or images",
        choices=recipes["dataset"],
    )  # fmt: skip
    objective: str = flag(None, "losses of critic and generator", choices=OBJECTIVES)
    prior: str = flag("normal", "distribution of z, with mean 0 and variance 1", choices=PRIORS)
    latent: int = flag(None, "dimension of z", minimum=1)
    width: int = flag(None, "units of an MLP, or DCGAN's channels next to the image", minimum=1)
    seeds: int = flag(None)
    learning_rate: float = flag(None)
    draw_seed: int = flag(0, "seed of the samples of --predict", group="use", minimum=0, affects_result=False)
    schedule: str = "cosine"
    momentum: float = 0.5
    beta2: float = 0.9
    monitor: str = "frechet"


def data(config: Config) -> Data:
    """Returns training batches of critic_steps * batch_size rows, and real examples x, each with a z, to evaluate on.

    Training, validation and test points of the ring are three independent draws. Samples of images are compared with
    the training images, as is usual (Heusel et al.): there is no test part, and held-out images serve the judge.
    """

    def compared(real: np.ndarray, seed: int) -> Batches:
        z = jax.vmap(noise(config))(jax.random.split(jax.random.key(seed), len(real)))
        return Batches({"x": real, "z": np.asarray(z)}, 512)

    size = OBJECTIVES[config.objective].critic_steps * config.batch_size
    if config.dataset != "ring":
        images = load_images(config.dataset, config.data_dir, valid=config.valid_fraction)
        x = images.train["x"]
        return Data(Batches({"x": x}, size), compared(x[:MOST], 1), None, images.note, {"names": list(images.names)})
    test, valid, train = np.split(toys.gaussians(CENTRES, SPREAD, 10 * HELD_OUT), [HELD_OUT, 2 * HELD_OUT])
    return Data(Batches({"x": train}, size), compared(valid, 2), compared(test, 1))


def noise(config: Config) -> Callable[[Array], Array]:
    """Returns a function from a key to z [D]."""
    return lambda key: PRIORS[config.prior](key, (config.latent,))


def scaled(x: Any) -> Any:
    """Scales examples for the critic: points unchanged, pixels to -1..1."""
    return x if x.ndim == 2 else pixels11(x)


def unscaled(x: Array) -> Array:
    """Scales samples back: points unchanged, pixels to 0..1."""
    return x if x.ndim == 2 else jnp.clip((x + 1) / 2, 0, 1)


def networks(config: Config, example: Any) -> tuple[nn.Module, nn.Module]:
    """Builds the generator, z [B, D] -> examples [B, ...] with images in -1..1, and the critic, examples -> [B, 1]."""
    shape, hidden = example["x"].shape[1:], (config.width,) * 3
    if len(shape) == 1:
        return MLP((*hidden, *shape)), MLP((*hidden, 1))
    norm = OBJECTIVES[config.objective].norm
    return DCGANGenerator(shape[2], shape[:2], config.width), DCGANCritic(config.width, norm=norm)


def build(config: Config, data: Data, judge: Judge | None = None) -> Experiment:
    """Builds the game, which predicts samples from z. Without a judge the features of images are their pixels."""
    example, objective = data.example, OBJECTIVES[config.objective]
    generator, critic = networks(config, example)
    config, n = config.resolve(data), objective.critic_steps
    # the critic's schedule counts the critic's updates, n per step
    longer: Any = {k: v and n * v for k in ("steps", "warmup", "decay_every") for v in [getattr(config, k)]}
    optimizers = config.make_optimizer(), config.replace(**longer).make_optimizer()
    init, step = game(generator, critic, objective, optimizers, noise(config), scaled, example["x"])

    def look(x: Array) -> tuple[Array, Array]:
        """Returns features [B, D], and a mask of the mode of each example [B, N]."""
        if x.ndim == 2:
            return x, metrics.mode_hits(x, jnp.asarray(CENTRES), 3 * SPREAD)
        if judge is None:
            return x.reshape(len(x), -1), jnp.zeros((len(x), 0))
        probabilities = judge.probabilities(x)
        return judge.features(x), jax.nn.one_hot(probabilities.argmax(-1), probabilities.shape[-1])

    def sample(state: Players, batch: Any) -> Array:
        stats = state.stats["generator"]
        return unscaled(play(generator, state.generator.averaged, stats, batch["z"], train=False)[0])

    evaluate, summarize = comparison(sample, critic, objective, scaled, look)
    return Experiment(init, step, evaluate, summarize, sample, generator)


def inference(config: Config, data: Data) -> run.Inference:
    """Draws a number of samples, or those of given z [n, D]."""

    def encode(inputs: Any) -> Batches:
        z = inputs
        if np.ndim(z) == 0:
            keys = jax.random.split(jax.random.key(config.draw_seed), run.count_of(z))
            z = jax.vmap(noise(config))(keys)
        if np.ndim(z) != 2 or np.shape(z)[1] != config.latent or not np.isfinite(z).all():
            wanted = f"a number of samples, or finite z of shape [n, {config.latent}]"
            raise run.FlagError(f"predict: needs {wanted}, got shape {list(np.shape(z))}")
        return Batches({"z": np.asarray(z, np.float32)}, min(256, len(z)))

    def read(words: list[str]) -> tuple[list[str], Batches]:
        rows = encode(words[0])
        return [f"sample {i + 1}" for i in range(rows.length)], rows

    flat = data.example["x"].ndim == 2
    table = lambda x: {f"x{i}": [f"{value:.4f}" for value in column] for i, column in enumerate(x.T, 1)} if flat else {}
    return run.Inference(read, encode, table=table, images=lambda x: None if flat else x, words=True)


def report(config: Config, parts: Data) -> Iterator[run.Finding]:
    """Runs the ring, followed by digits unless --steps or --epochs is given; or one set of images."""
    if config.dataset != "ring":
        yield from on_images(config, parts)
        return
    yield from on_ring(config, parts)
    if "steps" in config.open:
        once = {"seeds": 1} if "seeds" in config.open else {}  # three seeds take 50 s more: --dataset=digits
        digits = config.replace(dataset="digits", watch_test=False, **once)  # only the ring has a test part
        images = data(digits)
        run.log(images.note)
        yield from on_images(digits, images)


def train_one(config: Config, data: Data, name: str, judge: Any = None, **options: Any) -> run.Result:
    """Runs one fit, evaluated and watched on fixed noise about 20 times; logs a line if it collapsed."""
    config = config.resolve(data)
    config = config.replace(eval_every=config.eval_every or max(1, ceil((config.steps or 0) / 20)))
    z = jnp.asarray(data.valid.arrays["z"][: 64 if "names" in data.facts else 1024])
    experiment = build(config, data, judge)
    predict = experiment.predict
    assert predict is not None
    watch = lambda state: predict(state, {"z": z})
    result = run.fit(experiment, data, config, name=name, watch=watch, **options)
    for seed in result.runs:
        claims.warn(name, seed.metrics, len(data.facts.get("names", CENTRES)), config.objective)
    return result


def planted(state: Players) -> Players:
    """Moves the ring's generator onto one mode: the last layer's weights / 1000, its bias at a centre."""
    layer = max(state.generator.params)
    last = {"kernel": state.generator.params[layer]["kernel"] / 1000, "bias": jnp.asarray(CENTRES[0])}
    return state.replace(generator=state.generator.replace(params=state.generator.params | {layer: last}))


def on_ring(config: Config, parts: Data) -> Iterator[run.Finding]:
    """Runs the fits on the ring, all with the same number of steps, and a regression for comparison."""

    def fit(name: str, objective: str, **changes: Any) -> run.Result:
        start = changes.pop("state", None)
        one = config.replace(objective=objective, steps=config.steps, **changes)
        return train_one(one, data(one), name, state=start)

    fits = {name: fit(name, name) for name in OBJECTIVES}
    fits["uniform"] = fit("uniform", "wgan_gp", prior="uniform")
    fits["again"] = fit("again", "original", seeds=1)
    start = planted(fits["wgan_gp"].experiment.init(jax.random.key(config.seed)))
    fits["planted"] = fit("planted", "original", state=start)
    fits["recovered"] = fit("recovered", "wgan_gp", state=start)
    yield from claims.of_ring(config, CENTRES, 3 * SPREAD, fits, parts)


def on_images(config: Config, data: Data) -> Iterator[run.Finding]:
    """Trains on images and judges the samples by a classifier of the same images."""
    fit = image_classifier.fitted(config, config.dataset)
    eyes = judge(fit.experiment, fit.state, fit.metrics["accuracy"])
    result = train_one(config, data, config.dataset, eyes)
    yield from claims.of_images(config, eyes, result, data.valid)
