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
    python -m experiments.vae --workdir=RUN --predict=images/          # codes of images, and what they decode to
    python -m experiments.vae --workdir=RUN --predict=64               # as many images from the prior

Kingma and Welling 2013 (arXiv:1312.6114); Burda, Grosse and Salakhutdinov 2015 (arXiv:1509.00519);
Higgins et al. 2017, beta-VAE.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from experiments import image_classifier
from experiments.vae import pictures
from jaxdl import losses, run
from jaxdl.core import Experiment, Learner, State, make_update, weighted_mean, weighted_sum
from jaxdl.data import Batches, Data, load_images, pixels01
from jaxdl.methods import frechet_of, judge, mixture_of_bernoullis
from jaxdl.nn import INITIALIZERS, MLP, ConvDecoder, ConvEncoder, Layers
from jaxdl.run import Claim, Quantity, flag

FAMILY = "generative models"
FIGURE = "samples"  # the one that the results page shows
DRAWN = 1000  # samples from the prior that the judge sees
CLAIMS = {
    "mnist": Claim("-ELBO of MNIST's test images is as low as published", "M12", headline=True,
                   needs="files:mnist hours", flags="--dataset=mnist --data_dir=DATA"),
    "bounds": Claim("-log p(x) <= L(k) <= L(one): with more draws the bound falls, below every mixture of Bernoullis, "
                    "whose likelihood is exact", "M12"),
    "samples": Claim("a classifier is sure of images from the prior, whose features are nearer to those of training "
                     "images than noise's", "M12", headline=True),
}  # fmt: skip
SMALL = {"dataset": "digits", "epochs": 100}  # where the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    recipes = {"dataset": {"digits": {"epochs": 200}, "mnist": {"epochs": 10}, "fashion_mnist": {"epochs": 10}}}
    dataset: str = flag("digits", "images; all but digits are files in --data_dir", choices=recipes["dataset"])
    model: str = flag("mlp", "encoder and decoder", choices=("mlp", "conv"))
    latents: int = flag(20, "dimensions of the code z", minimum=1)
    width: int = flag(500, "hidden units, in encoder and decoder", minimum=1)
    beta: float = flag(1.0, "weight of KL in training; 1: the bound itself", minimum=0)
    draw_seed: int = flag(0, "seed of what --predict draws", group="use", minimum=0, affects_result=False)
    importance_samples: int = flag(20, "draws of z per image in the tighter bound at the end", minimum=1)
    optimizer: str = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 0.3
    schedule: str = "cosine"


class VAE(State):
    """One learner whose params are {"encoder", "decoder"}."""

    learner: Learner

    @property
    def variables(self) -> Any:
        """What `Model` is applied with."""
        return self.learner.averaged


def data(config: Config) -> Data:
    """Pixels that are 0 or 1; an image that is not trained on has a number, by which evaluation draws its noise."""
    images, draw = (
        load_images(config.dataset, config.data_dir, valid=config.valid_fraction),
        np.random.default_rng(1312_6114),
    )

    def drawn(part: dict[str, np.ndarray], number: bool = True) -> Batches:
        x = {"x": draw.random(part["x"].shape) < pixels01(part["x"])}
        return Batches(x | {"id": np.arange(len(part["x"]))}, 512) if number else Batches(x, config.batch_size)

    # in this order a test image is drawn alike, however large the validation part is
    parts = drawn(images.train, False), drawn(images.valid) if images.valid else None, drawn(images.test)
    note = f"{images.note}; pixels drawn once, 1 with the probability that is their grey value"
    return Data(*parts, note, {"names": list(images.names)})


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
        sizes: Any = {"dense": width, "layers": Layers(**INITIALIZERS["he_normal"])}
        return Model(ConvEncoder(codes, **sizes), ConvDecoder(shape, **sizes), shape)
    layers = partial(MLP, **INITIALIZERS["torch_linear"])
    return Model(layers((width, codes)), layers((width, int(np.prod(shape)))), shape)


def fixed_keys(numbers: Array) -> Array:
    """Keys [B] of evaluation: the same noise for an image in every run, at every step."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(numbers)


def build(config: Config, data: Data) -> Experiment:
    """Encoder and decoder; of each image it predicts mean and log variance of q(z|x), [B, D] each."""
    model, tx = make_model(config, data.example["x"].shape[1:]), config.make_optimizer(data)

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
        means = {name: weighted_mean(values) for name, values in scores(params, x, keys).items()}
        return means["loss"], means

    update = make_update(objective, tx)

    def step(state: VAE, batch: dict[str, Array]) -> tuple[VAE, dict[str, Array]]:
        learner, means = update(state.learner, batch["x"], state.example_keys(len(batch["x"])))
        return state.advance(learner=learner), means

    def evaluate(state: VAE, batch: dict[str, Array]) -> dict[str, Any]:
        found = scores(state.variables, batch["x"], fixed_keys(batch["id"]))
        return {name: weighted_sum(values, batch["mask"]) for name, values in found.items()}

    predict = lambda state, batch: model.encode(state.variables, batch["x"])
    return Experiment(init, step, evaluate, predict=predict, model=model)


def importance_bounds(model: Model, state: VAE, test: Batches, draws: int) -> np.ndarray:
    """L(k) = -log (1/k sum of k ratios) in nats, the mean over the test images, for k = 1 ... `draws`: [draws]."""
    take: Any = lambda arrays, rows: {"x": arrays["x"][rows // draws], "id": rows}
    repeated = Batches({"x": test.arrays["x"]}, test.batch_size, take=take, length=draws * test.length)
    ratios: Any = lambda state, batch: model.bound(state.variables, batch["x"], fixed_keys(batch["id"]))[2]
    log_w = run.map_batches(ratios, state, repeated).reshape(test.length, draws).astype(np.float64)
    return np.log(np.arange(1, draws + 1)) - np.logaddexp.accumulate(log_w, axis=1).mean(0)


def decoder_of(model: Model, state: VAE) -> Callable[[np.ndarray], np.ndarray]:
    """Codes [..., D] -> means of the pixels [..., H, W, C] in 0..1."""
    means: Any = lambda state, batch: nn.sigmoid(model.decode(state.variables, batch["z"]))
    rows = lambda z: Batches({"z": z.reshape(-1, z.shape[-1]).astype(np.float32)}, 256)
    return lambda z: run.map_batches(means, state, rows(z)).reshape(*z.shape[:-1], *model.shape)


def inference(config: Config, known: Data) -> run.Inference:
    """Codes of images and images of codes, or of so many draws from the prior; the bound on another set of images."""
    shape, model = known.example["x"].shape[1:], make_model(config, known.example["x"].shape[1:])
    images = run.of_images(config, Data(example={"x": np.zeros((1, *shape), np.uint8)}, facts=known.facts))
    read_images, encode_images = images.read, images.encode
    assert read_images is not None
    assert encode_images is not None
    drawn = lambda x: Batches({"x": np.random.default_rng(config.draw_seed).random(x.shape) < pixels01(x)}, 256)

    def codes(z: Any) -> Batches:
        if np.ndim(z) != 2 or np.shape(z)[1] != config.latents or not np.isfinite(z).all():
            raise run.FlagError(f"predict: codes [n, {config.latents}] are needed, not an array {list(np.shape(z))}")
        return Batches({"z": np.asarray(z, np.float32)}, min(256, len(z)))

    def prior(count: int) -> Batches:
        return codes(np.random.default_rng(config.draw_seed).normal(size=(count, config.latents)))

    def encode(inputs: Any) -> Batches:
        if isinstance(inputs, int):
            return prior(run.count_of(inputs))
        return codes(inputs) if np.ndim(inputs) == 2 else drawn(encode_images(inputs).arrays["x"])

    def read(words: list[str]) -> tuple[list[str], Batches]:
        if words[0].isdecimal():
            rows = prior(run.count_of(words[0]))
            return [f"draw {i + 1}" for i in range(rows.length)], rows
        names, rows = read_images(words)
        return names, drawn(rows.arrays["x"])

    def predict(state: VAE, batch: Any) -> dict[str, Array]:
        if "z" in batch:
            return {"images": nn.sigmoid(model.decode(state.variables, batch["z"]))}
        mean, log_variance = model.encode(state.variables, batch["x"])
        images = nn.sigmoid(model.decode(state.variables, mean))
        return {"mean": mean, "deviation": jnp.exp(log_variance / 2), "images": images}

    def table(outputs: dict[str, np.ndarray]) -> dict[str, Any]:
        columns = enumerate(outputs["mean"].T, 1) if "mean" in outputs else ()
        return {f"z{i}": [f"{value:.4f}" for value in column] for i, column in columns}

    def test(source: str) -> Batches:
        if source not in Config.recipes["dataset"]:
            raise run.FlagError(f"--evaluate={source}: must be {'|'.join(Config.recipes['dataset'])}")
        found = data(config.replace(dataset=source, valid_fraction=0.0)).test
        if found.example["x"].shape[1:] != shape:
            raise run.FlagError(
                f"--evaluate={source}: its images are {found.example['x'].shape[1:]}, this run's {shape}"
            )
        return found

    return run.Inference(
        read, encode, predict, table=table, images=lambda outputs: outputs["images"], words=True, test=test
    )


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Trains, draws, compares with densities that are known exactly, has samples judged."""
    images = load_images(config.dataset, config.data_dir, valid=config.valid_fraction)  # the greys behind the pixels
    result = run.fit(build(config, data), data, config)
    model, state, test = result.experiment.model, result.state, data.test
    decode, (means, log_variance) = decoder_of(model, state), result.predict(test)
    pictures.draw(config, images, test.arrays["x"], means, log_variance, decode)
    samples = decode(np.random.default_rng(config.seed).normal(size=(DRAWN, config.latents)))
    run.save_figure(config, "samples", lambda: run.pictures.image_grid(samples[:64], title="decoded from the prior"))
    flat = config.replace(latents=2, seeds=1, init=None, init_skip=None)
    plane = run.fit(build(flat, data), data, flat, name="plane")
    codes, decode2 = plane.predict(test)[0], decoder_of(plane.experiment.model, plane.state)
    pictures.draw_plane(config, images, codes, decode2)

    elbo = np.add(result.values("reconstruction"), result.values("kl"))
    if config.dataset == "mnist" and (config.steps or 0) * config.batch_size >= 10 * data.train.length:
        goal = Quantity("-ELBO", elbo, "<=", 104.0, "nats")
        yield run.measured("mnist", goal, reference={"flax's VAE example, 10 epochs, about": 104})
    L, x = importance_bounds(model, state, test, config.importance_samples), data.train.arrays["x"]
    mixtures = {n: mixture_of_bernoullis(x, test.arrays["x"], n) for n in (1, 10, 50)}
    yield run.measured(
        "bounds",
        Quantity("-ELBO", elbo, unit="nats"),
        Quantity("of which KL", result.values("kl"), unit="nats"),
        Quantity("active latents", (means.var(0) > 0.01).sum()),  # Burda et al. 2015, section 5.2
        Quantity(f"L({len(L)})", L[-1], "<", min(mixtures.values()), "nats"),
        Quantity(f"L({len(L)}) - L(1)", L[-1] - L[0], "<=", 0, "nats"),
        reference={f"exact, mixture of {n}": value for n, value in mixtures.items()},
    )
    yield judged(config, images, samples)


def judged(config: Config, images: Any, samples: np.ndarray) -> run.Finding:
    """What a classifier of the same data sees in samples, beside test images and noise.

    Its certainty says little, it may be as sure of noise: the Frechet distance of its features to those of training
    images tells the two apart.
    """
    fit = image_classifier.fitted(config, config.dataset)
    eyes = judge(fit.experiment, fit.state, fit.metrics["accuracy"])
    x = pixels01(images.test["x"])
    noise = np.random.default_rng(0).permuted(x, axis=0)  # the pixels of the test images, each by itself
    look: Any = lambda state, batch: (eyes.probabilities(pixels01(batch["x"])), eyes.features(pixels01(batch["x"])))
    groups = (images.train["x"][:10_000], samples, x, noise)
    (_, real), *seen = (run.map_batches(look, (), Batches({"x": group}, 256)) for group in groups)
    sure, far = [float(p.max(-1).mean()) for p, _ in seen], [frechet_of(f, real) for _, f in seen]
    shares = np.bincount(seen[0][0].argmax(-1), minlength=len(images.names)) / len(samples)
    return run.measured(
        "samples",
        Quantity("mean of the top probability", sure[0], ">=", 0.7),
        Quantity("Frechet distance", far[0], "<", far[2]),
        Quantity("least share of a class", shares.min()),
        Quantity("accuracy of the classifier", eyes.accuracy),
        reference={"top probability, test images": sure[1], "noise": sure[2], "distance, test images": far[1],
                "noise: test pixels shuffled over images": far[2]},
    )  # fmt: skip
