"""Variational autoencoder: encoder and decoder trained together, the decoder then draws new images from noise.

A black and white image x has a code z ~ N(0, I); the encoder's q(z|x) = N(m(x), diag s(x)^2) stands for its posterior.
Minimised is the negative evidence lower bound in nats per image, with one draw z = m + s e,
    -ELBO = E_q[-log p(x|z)] + KL(q(z|x) || N(0, I)) >= -log p(x)
With k draws L(k) = -E log(1/k sum p(x, z) / q(z|x)) is nearer to -log p(x). Grey pixels g are drawn Bernoulli(g), once,
with one seed for all runs: thresholding them would be an easier task with a lower figure.

    python -m experiments.vae                                          # digits, no files needed
    python -m experiments.vae --dataset=mnist --data_dir=DATA
    python -m experiments.vae --dataset=mnist --data_dir=DATA --model=conv
    python -m experiments.vae --beta=4                                 # KL weighs 4: fewer latents are used

Mission row M12. Kingma and Welling 2013 (arXiv:1312.6114); Burda, Grosse and Salakhutdinov 2015 (arXiv:1509.00519);
Higgins et al. 2017, beta-VAE.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from experiments import _vae_pictures as pictures
from experiments._vae_claims import beside_mixtures, judge_samples
from jaxdl import losses, run
from jaxdl.core import Experiment, Learner, State, descend, mean, total
from jaxdl.data import Batches, Images, load_images, unit
from jaxdl.nn import INITIALIZERS, MLP, ConvDecoder, ConvEncoder
from jaxdl.run import Bound, Claim, flag, plots

EPOCHS = {"digits": 200, "mnist": 10, "fashion_mnist": 10}
PUBLISHED = ("about 104", "flax's VAE example, 10 epochs")
COMMAND = "python -m experiments.vae --dataset=mnist --data_dir=DATA"
DRAWN = 1000  # samples from the prior that the judge sees
SMALL = {"dataset": "digits", "epochs": 100}  # where the tests check the claims


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment; without --steps and --epochs: 200 epochs on digits, else 10."""

    dataset: str = flag("digits", "images; all but digits are files in --data_dir", choices=EPOCHS)
    model: str = flag("mlp", "encoder and decoder", choices=("mlp", "conv"))
    latents: int = flag(20, "dimensions of the code z", low=1)
    width: int = flag(500, "hidden units, in encoder and decoder", low=1)
    beta: float = flag(1.0, "weight of KL in training; 1: the bound itself", low=0)
    importance_samples: int = flag(20, "draws of z per image in the tighter bound at the end", low=1)
    optimizer: str = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 0.3
    schedule: str = "cosine"


class VAE(State):
    """One learner whose params are {"encoder", "decoder"}."""

    learner: Learner


def load(config: Config) -> Images:
    """The images that the flags name."""
    return load_images(config.dataset, config.data_dir, valid=config.valid_fraction)


def data(config: Config, images: Images | None = None) -> tuple[Batches, Batches | None, Batches]:
    """Pixels that are 0 or 1; an image that is not trained on has a number, by which evaluation draws its noise."""
    images, draw = images or load(config), np.random.default_rng(1312_6114)
    # in this order a test image is drawn alike, however large the validation part is
    pixels: Any = lambda part: {"x": draw.random(part["x"].shape) < unit(part["x"]), "id": np.arange(len(part["x"]))}
    train = Batches({"x": pixels(images.train)["x"]}, config.batch_size)
    valid = Batches(pixels(images.valid), 512) if images.valid else None
    return train, valid, Batches(pixels(images.test), 512)


class Model(NamedTuple):
    """Two networks as pure functions of params = {"encoder", "decoder"}."""

    encoder: Any
    decoder: Any
    shape: tuple[int, ...]  # (H, W, C)

    def encode(self, params: Any, x: Array) -> list[Array]:
        """Mean and log variance of q(z|x), each [B, D], of images [B, H, W, C]."""
        return jnp.split(self.encoder.apply({"params": params["encoder"]}, x.astype(jnp.float32)), 2, -1)

    def decode(self, params: Any, z: Array) -> Array:
        """Logits of the pixels [B, H, W, C] of codes [B, D]."""
        return self.decoder.apply({"params": params["decoder"]}, z).reshape(-1, *self.shape)

    def bound(self, params: Any, x: Array, keys: Array) -> tuple[Array, Array, Array]:
        """-log p(x|z) [B], the terms of KL [B, D] and log p(x, z) / q(z|x) [B], one z drawn with one key per image."""
        m, log_variance = self.encode(params, x)
        noise = jax.vmap(lambda key: jax.random.normal(key, m.shape[1:]))(keys)
        z = m + jnp.exp(log_variance / 2) * noise
        reconstruction = losses.sigmoid_cross_entropy(self.decode(params, z), x).sum((1, 2, 3))
        ratio = jnp.sum(noise**2 + log_variance - z**2, -1) / 2  # log p(z) / q(z|x)
        return reconstruction, losses.gaussian_kl(m, log_variance), ratio - reconstruction


def make_model(config: Config, shape: tuple[int, ...]) -> Model:
    """The networks for images of `shape`, (H, W, C)."""
    codes, width = 2 * config.latents, config.width
    if config.model == "conv":  # with smaller weights its latents are still unused after 300 steps
        sizes: Any = {"dense": width, **INITIALIZERS["he_normal"]}
        return Model(ConvEncoder(codes, **sizes), ConvDecoder(shape, **sizes), shape)
    layers = partial(MLP, **INITIALIZERS["torch_linear"])
    return Model(layers((width, codes)), layers((width, int(np.prod(shape)))), shape)


def fixed_keys(numbers: Array) -> Array:
    """Keys [B] of evaluation: the same noise for an image in every run, at every step."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(numbers)


def build(config: Config, example: dict[str, Any]) -> Experiment:
    """The experiment for batches of `example`'s shapes."""
    model, tx = make_model(config, example["x"].shape[1:]), config.make_optimizer()

    def init(key: Array) -> VAE:
        keys = jax.random.split(key)
        encoder = model.encoder.init(keys[0], jnp.zeros((1, *model.shape)))
        decoder = model.decoder.init(keys[1], jnp.zeros((1, config.latents)))
        params = {"encoder": encoder["params"], "decoder": decoder["params"]}
        return VAE.create(key, learner=Learner.create(params, tx))

    def scores(params: Any, x: Array, keys: Array) -> dict[str, Array]:
        reconstruction, terms, _ = model.bound(params, x, keys)
        kl = terms.sum(-1)
        return {"loss": reconstruction + config.beta * kl, "reconstruction": reconstruction, "kl": kl}

    def objective(params: Any, x: Array, keys: Array) -> tuple[Array, dict[str, Array]]:
        means = {name: mean(values) for name, values in scores(params, x, keys).items()}
        return means["loss"], means

    update = descend(objective, tx)

    def step(state: VAE, batch: dict[str, Array]) -> tuple[VAE, dict[str, Array]]:
        learner, means = update(state.learner, batch["x"], state.rngs(len(batch["x"])))
        return state.advance(learner=learner), means

    def evaluate(state: VAE, batch: dict[str, Array]) -> dict[str, Any]:
        found = scores(state.learner.params, batch["x"], fixed_keys(batch["id"]))
        return {name: total(values, batch["mask"]) for name, values in found.items()}

    return Experiment(init, step, evaluate)


def importance_bounds(model: Model, state: VAE, test: Batches, draws: int) -> np.ndarray:
    """L(k) = -log (1/k sum of k ratios) in nats, the mean over the test images, for k = 1 ... `draws`: [draws]."""
    take: Any = lambda arrays, rows: {"x": arrays["x"][rows // draws], "id": rows}
    repeated = Batches({"x": test.arrays["x"]}, test.batch_size, take=take, length=draws * test.length)
    ratios: Any = lambda state, batch: model.bound(state.learner.params, batch["x"], fixed_keys(batch["id"]))[2]
    log_w = run.apply(ratios, state, repeated).reshape(test.length, draws).astype(np.float64)
    return np.log(np.arange(1, draws + 1)) - np.logaddexp.accumulate(log_w, axis=1).mean(0)


def decoder_of(model: Model, state: VAE) -> Callable[[np.ndarray], np.ndarray]:
    """Codes [..., D] -> means of the pixels [..., H, W, C] in 0..1."""
    means: Any = lambda state, batch: nn.sigmoid(model.decode(state.learner.params, batch["z"]))
    rows = lambda z: Batches({"z": z.reshape(-1, z.shape[-1]).astype(np.float32)}, 256)
    return lambda z: run.apply(means, state, rows(z)).reshape(*z.shape[:-1], *model.shape)


def posteriors(model: Model, state: VAE, test: Batches) -> list[np.ndarray]:
    """Mean and log variance of q(z|x) of all test images, [n, D] each."""
    return run.apply(lambda state, batch: model.encode(state.learner.params, batch["x"]), state, test)


def use(config: Config, about: dict[str, Any]) -> run.Use:
    """The networks, and the bound on another set of images of the same size."""
    shape = about["example"]["x"].shape[1:]

    def test(source: str) -> Batches:
        if source not in EPOCHS:
            raise run.FlagError(f"--evaluate={source}: must be {'|'.join(EPOCHS)}")
        found = data(replace(config, dataset=source, valid_fraction=0.0))[2]
        if found.example["x"].shape[1:] != shape:
            raise run.FlagError(
                f"--evaluate={source}: its images are {found.example['x'].shape[1:]}, this run's {shape}"
            )
        return found

    experiment, params = build(config, about["example"]), lambda state: state.learner.params
    return run.Use(experiment, make_model(config, shape), test=test, variables=params)


def main(config: Config) -> list[Claim]:
    """Trains, draws, compares with densities that are known exactly, has samples judged and reports."""
    images = load(config)
    train, valid, test = data(config, images)
    run.say(f"{images.note}; pixels drawn once, 1 with the probability that is their grey value")
    if config.steps is None and config.epochs is None:
        config = replace(config, epochs=EPOCHS[config.dataset])
    config = config.resolve(train)
    model = make_model(config, train.example["x"].shape[1:])
    run.remember(config, train.example)
    result = run.fit(build(config, train.example), train, valid, config, test=test)
    decode, (means, log_variance) = decoder_of(model, result.state), posteriors(model, result.state, test)
    pictures.draw(config, images, test.arrays["x"], means, log_variance, decode)
    samples = decode(np.random.default_rng(config.seed).normal(size=(DRAWN, config.latents)))
    title = "decoded from the prior: means of pixels"
    run.save_figure(config, "samples", lambda: plots.image_grid(samples[:64], title=title))

    flat = replace(config, latents=2, seeds=1)
    model2 = make_model(flat, model.shape)
    plane = run.fit(build(flat, train.example), train, valid, flat, test=test, name="plane").state
    pictures.draw_plane(config, images, posteriors(model2, plane, test)[0], decoder_of(model2, plane))

    parts = result.values("reconstruction"), result.values("kl")
    elbo = [a + b for a, b in zip(*parts, strict=True)]
    active = f"{(means.var(0) > 0.01).sum()} of {config.latents} latents active"  # Burda et al. 2015, section 5.2
    found = f"{run.plus_minus(elbo)} = {parts[0][0]:.4g} + KL {parts[1][0]:.4g}, {active}, {result.seconds:.0f} s"
    goal = Claim("M12", "-ELBO of MNIST's test images at most 104 nats", "not measured", *PUBLISHED, command=COMMAND)
    if config.dataset == "mnist" and (config.steps or 0) * config.batch_size >= 10 * train.length:
        least = Bound(elbo[0], "<=", 104.0, "-ELBO")
        goal = goal._replace(measured=f"{config.model}: {found}", holds=least.holds, command="", bounds=(least,))
    bounds = importance_bounds(model, result.state, test, config.importance_samples)
    densities = beside_mixtures(f"{config.model} on {config.dataset}", found, bounds, train, test)
    return [goal, densities, judge_samples(config, images, samples)]


if __name__ == "__main__":
    run.main(Config, main)
