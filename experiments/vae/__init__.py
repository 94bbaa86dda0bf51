"""Variational autoencoder: encoder and decoder trained together; the decoder generates images from noise.

A VAE learns a density of images through a latent code and can reconstruct, interpolate and generate. The experiment
compares its likelihood bounds with mixtures of Bernoullis, whose likelihood is exact, shows what the latents encode,
and lets a classifier of the same images judge the samples.

A binary image x has a code z ~ N(0, I); the encoder's q(z|x) = N(m(x), diag s(x)^2) approximates its posterior. The
loss is the negative evidence lower bound in nats per image, with one sample z = m + s e,
    -ELBO = E_q[-log p(x|z)] + KL(q(z|x) || N(0, I)) >= -log p(x)
With k samples L(k) = -E log(1/k sum p(x, z) / q(z|x)) is a tighter bound. Each pixel is sampled once from Bernoulli(g),
g its grey value, with one seed for all runs; thresholding g would make the task easier and the bound lower.

    python -m experiments.vae                                          # digits, no files needed
    python -m experiments.vae --dataset=mnist --data_dir=DATA
    python -m experiments.vae --dataset=mnist --data_dir=DATA --model=conv
    python -m experiments.vae --beta=4                                 # KL has weight 4: fewer latents are used
    python -m experiments.vae --workdir=RUN --predict=images/          # codes and reconstructions of images
    python -m experiments.vae --workdir=RUN --predict=64               # 64 samples from the prior

Kingma and Welling 2013 (arXiv:1312.6114); Burda, Grosse and Salakhutdinov 2015 (arXiv:1509.00519);
Higgins et al. 2017, beta-VAE.
"""

from collections.abc import Callable, Iterator
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
FIGURE = "samples"  # shown on the page of results
DRAWN = 1000  # samples from the prior for the judge
RECIPES = {"digits": {"epochs": 200, "seeds": 3}, "mnist": {"epochs": 10}, "fashion_mnist": {"epochs": 10}}
CLAIMS = {
    "mnist": Claim("The ELBO of MNIST's test images reaches the published value", "M12", headline=True,
                   needs="files:mnist hours", flags="--dataset=mnist --data_dir=DATA"),
    "bounds": Claim("The importance-weighted bound is tighter than the ELBO and beats mixtures of Bernoullis", "M12"),
    "samples": Claim("A classifier is confident about samples; their features are closer to real images than noise",
                     "M12", headline=True),
}  # fmt: skip
SMALL = {"dataset": "digits", "epochs": 80, "seeds": 1}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    recipes = {"dataset": RECIPES}
    dataset: str = flag("digits", "images; all but digits are read from --data_dir", choices=RECIPES)
    model: str = flag("mlp", "architecture of encoder and decoder", choices=("mlp", "conv"))
    latents: int = flag(20, "dimensions of the code z", minimum=1)
    width: int = flag(500, "hidden units of encoder and decoder", minimum=1)
    seeds: int = flag(None)
    beta: float = flag(1.0, "weight of the KL term in training; 1: the ELBO", minimum=0)
    draw_seed: int = flag(0, "seed of the samples of --predict", group="use", minimum=0, affects_result=False)
    importance_samples: int = flag(20, "samples of z per image in the bound L(k)", minimum=1)
    optimizer: str = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 0.3
    schedule: str = "cosine"


class VAE(State):
    """One learner whose params are {"encoder", "decoder"}."""

    learner: Learner

    @property
    def variables(self) -> Any:
        """The parameters to apply `Model` with."""
        return self.learner.averaged


def data(config: Config) -> Data:
    """Samples binary pixels; each validation and test image has an id, from which evaluation derives its noise."""
    images = load_images(config.dataset, config.data_dir, valid=config.valid_fraction)
    draw = np.random.default_rng(1312_6114)

    def drawn(part: dict[str, np.ndarray], number: bool = True) -> Batches:
        x = {"x": draw.random(part["x"].shape) < pixels01(part["x"])}
        return Batches(x | {"id": np.arange(len(part["x"]))}, 512) if number else Batches(x, config.batch_size)

    # in this order the test pixels do not depend on the size of the validation part
    parts = drawn(images.train, False), drawn(images.valid) if images.valid else None, drawn(images.test)
    note = f"{images.note}; pixels sampled once, 1 with a probability equal to the grey value"
    return Data(*parts, note, {"names": list(images.names)})


class Model(NamedTuple):
    """Two networks as pure functions of params = {"encoder", "decoder"}."""

    encoder: Any
    decoder: Any
    shape: tuple[int, ...]  # (H, W, C)

    def encode(self, params: Any, x: Array) -> list[Array]:
        """Returns mean and log variance of q(z|x), each [B, D], for images [B, H, W, C]."""
        return jnp.split(self.encoder.apply({"params": params["encoder"]}, x.astype(jnp.float32)), 2, -1)

    def decode(self, params: Any, z: Array) -> Array:
        """Returns the logits of the pixels [B, H, W, C] for codes [B, D]."""
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
    """Builds the networks for images of `shape`, (H, W, C)."""
    codes, width = 2 * config.latents, config.width
    if config.model == "conv":  # with smaller initial weights the latents remain unused for 300 steps
        sizes: Any = {"dense": width, "layers": Layers(**INITIALIZERS["he_normal"])}
        return Model(ConvEncoder(codes, **sizes), ConvDecoder(shape, **sizes), shape)
    mlp = lambda outputs: MLP((width, outputs), **INITIALIZERS["torch_linear"])
    return Model(mlp(codes), mlp(int(np.prod(shape))), shape)


def fixed_keys(numbers: Array) -> Array:
    """Returns the keys [B] of evaluation: equal noise for an image in every run, at every step."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(numbers)


def build(config: Config, data: Data) -> Experiment:
    """Builds the VAE; it predicts mean and log variance of q(z|x), [B, D] each."""
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
    """Returns L(k) = -log(1/k sum of k ratios) in nats, averaged over the test images, for k = 1 ... draws [draws]."""
    take: Any = lambda arrays, rows: {"x": arrays["x"][rows // draws], "id": rows}
    repeated = Batches({"x": test.arrays["x"]}, test.batch_size, take=take, length=draws * test.length)
    ratios: Any = lambda state, batch: model.bound(state.variables, batch["x"], fixed_keys(batch["id"]))[2]
    log_w = run.map_batches(ratios, state, repeated).reshape(test.length, draws).astype(np.float64)
    return np.log(np.arange(1, draws + 1)) - np.logaddexp.accumulate(log_w, axis=1).mean(0)


def decoder_of(model: Model, state: VAE) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from codes [..., D] to means of the pixels [..., H, W, C] in 0..1."""
    means: Any = lambda state, batch: nn.sigmoid(model.decode(state.variables, batch["z"]))
    rows = lambda z: Batches({"z": z.reshape(-1, z.shape[-1]).astype(np.float32)}, 256)
    return lambda z: run.map_batches(means, state, rows(z)).reshape(*z.shape[:-1], *model.shape)


def inference(config: Config, known: Data) -> run.Inference:
    """Encodes images, decodes codes or samples of the prior, and evaluates the bound on another data set."""
    shape, model = known.example["x"].shape[1:], make_model(config, known.example["x"].shape[1:])
    images = run.of_images(config, Data(example={"x": np.zeros((1, *shape), np.uint8)}, facts=known.facts))
    read_images, encode_images = images.read, images.encode
    assert read_images is not None
    assert encode_images is not None
    drawn = lambda x: Batches({"x": np.random.default_rng(config.draw_seed).random(x.shape) < pixels01(x)}, 256)

    def codes(z: Any) -> Batches:
        if np.ndim(z) != 2 or np.shape(z)[1] != config.latents or not np.isfinite(z).all():
            raise run.FlagError(f"predict: codes must have shape [n, {config.latents}], got {list(np.shape(z))}")
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
            return [f"sample {i + 1}" for i in range(rows.length)], rows
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
        if source not in RECIPES:
            raise run.FlagError(f"--evaluate={source}: must be {'|'.join(RECIPES)}")
        found = data(config.replace(dataset=source, valid_fraction=0.0)).test
        if (got := found.example["x"].shape[1:]) != shape:
            raise run.FlagError(f"--evaluate={source}: images must have shape {shape}, got {got}")
        return found

    drawn_images = lambda outputs: outputs["images"]
    return run.Inference(read, encode, predict, table=table, images=drawn_images, words=True, test=test)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Trains, plots, compares with densities of exact likelihood, and judges the samples."""
    images = load_images(config.dataset, config.data_dir, valid=config.valid_fraction)  # the grey originals
    result = run.fit(build(config, data), data, config)
    model, test = result.experiment.model, data.test
    decoders = [decoder_of(model, one.state) for one in result.runs]
    codes: list[Any] = [one.predict(test) for one in result.runs]
    means, log_variance = codes[0]
    pictures.draw(config, images, test.arrays["x"], means, log_variance, decoders[0])
    z = [np.random.default_rng(config.seed + i).normal(size=(DRAWN, config.latents)) for i in range(config.seeds)]
    samples = [decode(codes) for decode, codes in zip(decoders, z, strict=True)]
    run.save_figure(config, "samples", lambda: run.pictures.image_grid(samples[0][:64], title="Samples from the prior"))
    flat = config.replace(latents=2, seeds=1, init=None, init_skip=None)
    plane = run.fit(build(flat, data), data, flat, name="plane")
    decode = decoder_of(plane.experiment.model, plane.state)
    pictures.draw_plane(config, images, plane.predict(test)[0], decode)

    elbo = np.add(result.values("reconstruction"), result.values("kl"))
    if config.dataset == "mnist" and (config.steps or 0) * config.batch_size >= 10 * data.train.length:
        goal = Quantity("-ELBO", elbo, "<=", 104.0, "nats")
        yield run.measured("mnist", goal, reference={"flax's VAE example, 10 epochs, about": 104})
    k, x = config.importance_samples, data.train.arrays["x"]
    L = np.array([importance_bounds(model, one.state, test, k) for one in result.runs])  # [seeds, k]
    mixtures = {n: mixture_of_bernoullis(x, test.arrays["x"], n) for n in (1, 10, 50)}
    yield run.measured(
        "bounds",
        Quantity("-ELBO", elbo, unit="nats"),
        Quantity("KL", result.values("kl"), unit="nats"),
        Quantity("active latents", [(mean.var(0) > 0.01).sum() for mean, _ in codes]),  # Burda et al. 2015, 5.2
        Quantity(f"L({k})", L[:, -1], "<", min(mixtures.values()), "nats"),
        Quantity(f"L({k}) - L(1)", L[:, -1] - L[:, 0], "<=", 0, "nats"),
        reference={f"exact -log p(x), mixture of {n}": value for n, value in mixtures.items()},
    )
    yield judged(config, images, samples)


def judged(config: Config, images: Any, samples: list[np.ndarray]) -> run.Finding:
    """Classifies the samples of each seed, test images and noise.

    Confidence alone shows little, since a classifier may be as confident about noise; the Frechet distance of its
    features from those of training images separates the two.
    """
    fit = image_classifier.fitted(config, config.dataset)
    eyes = judge(fit.experiment, fit.state, fit.metrics["accuracy"])
    x = pixels01(images.test["x"])
    noise = np.random.default_rng(0).permuted(x, axis=0)  # shuffles each pixel over the test images
    look: Any = lambda state, batch: (eyes.probabilities(pixels01(batch["x"])), eyes.features(pixels01(batch["x"])))
    groups = (images.train["x"][:10_000], x, noise, *samples)
    (_, real), *seen = (run.map_batches(look, (), Batches({"x": group}, 256)) for group in groups)
    sure, far = [float(p.max(-1).mean()) for p, _ in seen], [frechet_of(f, real) for _, f in seen]
    shares = [np.bincount(p.argmax(-1), minlength=len(images.names)) / len(p) for p, _ in seen[2:]]
    return run.measured(
        "samples",
        Quantity("mean top probability", sure[2:], ">=", 0.7),
        Quantity("Frechet distance from training images", far[2:], "<", far[1]),
        Quantity("smallest share of a class", [share.min() for share in shares]),
        Quantity("accuracy of the classifier", eyes.accuracy),
        reference={"mean top probability, test images": sure[0], "mean top probability, shuffled pixels": sure[1],
                   "Frechet distance, test images": far[0], "Frechet distance, shuffled pixels": far[1]},
    )  # fmt: skip
