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
    python -m experiments.gan --workdir=RUN --predict=64           # as many samples of the finished run

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
FIGURE = "ring"  # the one that the results page shows
CENTRES, SPREAD = toys.ring(), 0.05
PRIORS: dict[str, Any] = {  # both of variance 1
    "normal": jax.random.normal,
    "uniform": partial(jax.random.uniform, minval=-(3**0.5), maxval=3**0.5),
}
HELD_OUT = 2560  # points of the ring in its validation part, and as many in its test part
MOST = 10_000  # images that are compared
IMAGES = {"objective": "original", "latent": 64, "width": 64, "epochs": 10, "seeds": 1, "learning_rate": 2e-4}
SMALL = {"steps": 2000, "seeds": 1}  # where the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    recipes = {
        "dataset": {
            "ring": {
                "objective": "wgan_gp",
                "latent": 2,
                "width": 64,
                "steps": 2000,
                "seeds": 5,
                "learning_rate": 3e-3,
            },
            "digits": IMAGES | {"width": 32, "epochs": 80, "learning_rate": 1e-3},
            "mnist": IMAGES,
            "fashion_mnist": IMAGES,
        }
    }
    dataset: str = flag(
        "ring", "ring: 8 Gaussians, then digits too unless --steps or --epochs is given; or images",
        choices=recipes["dataset"],
    )  # fmt: skip
    objective: str = flag(None, "what the two minimise", choices=OBJECTIVES)
    prior: str = flag("normal", "distribution of z, of mean 0 and variance 1", choices=PRIORS)
    latent: int = flag(None, "length of z", minimum=1)
    width: int = flag(None, "units of an MLP, or DCGAN's channels next to the image", minimum=1)
    seeds: int = flag(None)
    learning_rate: float = flag(None)
    draw_seed: int = flag(0, "seed of what --predict draws", group="use", minimum=0, affects_result=False)
    schedule: str = "cosine"
    momentum: float = 0.5
    beta2: float = 0.9
    monitor: str = "frechet"


def data(config: Config) -> Data:
    """Training batches of critic_steps * batch_size rows; real examples x with a z for each, to compare samples with.

    Of the ring, training, validation and test points are three draws. Images are compared with those trained on, as is
    usual (Heusel et al.): there is no test part, and what is held out serves the judge.
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
    """Key -> z [D]."""
    return lambda key: PRIORS[config.prior](key, (config.latent,))


def scaled(x: Any) -> Any:
    """What the critic sees: points as they are, pixels in -1..1."""
    return x if x.ndim == 2 else pixels11(x)


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


def build(config: Config, data: Data, judge: Judge | None = None) -> Experiment:
    """The game; of z it predicts samples. Of images without a judge the distance is that of pixels."""
    example, objective = data.example, OBJECTIVES[config.objective]
    generator, critic = networks(config, example)
    config, n = config.resolve(data), objective.critic_steps
    # the critic's schedule counts its own updates, n in a step
    longer: Any = {k: v and n * v for k in ("steps", "warmup", "decay_every") for v in [getattr(config, k)]}
    optimizers = config.make_optimizer(), config.replace(**longer).make_optimizer()
    init, step = game(generator, critic, objective, optimizers, noise(config), scaled, example["x"])

    def look(x: Array) -> tuple[Array, Array]:
        """Features [B, D], and on which mode each example is [B, N]."""
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
    """Samples: so many, or those of z [n, D]."""

    def encode(inputs: Any) -> Batches:
        z = inputs
        if np.ndim(z) == 0:
            keys = jax.random.split(jax.random.key(config.draw_seed), run.count_of(z))
            z = jax.vmap(noise(config))(keys)
        if np.ndim(z) != 2 or np.shape(z)[1] != config.latent or not np.isfinite(z).all():
            told = f"a number of samples, or z [n, {config.latent}]"
            raise run.FlagError(f"predict: {told}, are needed, not an array of shape {list(np.shape(z))}")
        return Batches({"z": np.asarray(z, np.float32)}, min(256, len(z)))

    def read(words: list[str]) -> tuple[list[str], Batches]:
        rows = encode(words[0])
        return [f"sample {i + 1}" for i in range(rows.length)], rows

    flat = data.example["x"].ndim == 2
    table = lambda x: {f"x{i}": [f"{value:.4f}" for value in column] for i, column in enumerate(x.T, 1)} if flat else {}
    return run.Inference(read, encode, table=table, images=lambda x: None if flat else x, words=True)


def report(config: Config, parts: Data) -> Iterator[run.Finding]:
    """The ring and, unless told how long, digits; or one set of images."""
    if config.dataset != "ring":
        yield from on_images(config, parts)
        return
    yield from on_ring(config, parts)
    if "steps" in config.open:
        digits = config.replace(dataset="digits", watch_test=False)  # only the ring has a test part
        images = data(digits)
        run.log(images.note)
        yield from on_images(digits, images)


def train_one(config: Config, data: Data, name: str, judge: Any = None, **options: Any) -> run.Result:
    """One fit, evaluated and watched on fixed noise some 20 times, and a line if it collapsed."""
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
    """The ring's generator on one mode: of its last layer a thousandth of the weights, the bias at a centre."""
    layer = max(state.generator.params)
    last = {"kernel": state.generator.params[layer]["kernel"] / 1000, "bias": jnp.asarray(CENTRES[0])}
    return state.replace(generator=state.generator.replace(params=state.generator.params | {layer: last}))


def on_ring(config: Config, parts: Data) -> Iterator[run.Finding]:
    """The fits on the ring, all of as many steps, and a regression beside them."""

    def fit(name: str, objective: str, **changes: Any) -> run.Result:
        start = changes.pop("state", None)
        one = config.replace(objective=objective, steps=config.steps, **changes)
        return train_one(one, data(one), name, state=start)

    fits = {name: fit(name, name) for name in OBJECTIVES}
    fits["uniform"] = fit("uniform", "wgan_gp", prior="uniform", seeds=1)
    fits["again"] = fit("again", "original", seeds=1)
    start = planted(fits["wgan_gp"].experiment.init(jax.random.key(config.seed)))
    fits["planted"] = fit("planted", "original", seeds=1, state=start)
    fits["recovered"] = fit("recovered", "wgan_gp", seeds=1, state=start)
    made = fits["wgan_gp"].predict(parts.test)
    yield from claims.of_ring(config.replace(seeds=1), CENTRES, 3 * SPREAD, fits, parts, made)


def on_images(config: Config, data: Data) -> Iterator[run.Finding]:
    """One fit on images, judged by a classifier of the same images."""
    fit = image_classifier.fitted(config, config.dataset)
    eyes = judge(fit.experiment, fit.state, fit.metrics["accuracy"])
    result = train_one(config, data, config.dataset, eyes)
    yield from claims.of_images(config, eyes, result, data.valid)
