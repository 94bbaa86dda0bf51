"""Naive Bayes: prior, likelihood and posterior, from rain and clouds to handwritten digits.

Bayes' rule turns how often it rains (the prior) and how often rainy days are cloudy (the likelihood) into the
probability of rain on a cloudy day (the posterior). The experiment checks the rule against counting the days of a year,
whose numbers are our own, and applies it to images: naive Bayes takes pixels as independent within a class, so its fit
is counting.

    p(k | x) = p(k) prod_d p(x_d | k) / sum_j p(j) prod_d p(x_d | j)
    Bernoulli: x_d = 1 where a pixel exceeds one half,  p(x_d = 1 | k) = (n_kd + 1) / (n_k + 2)
    Gaussian: mean and variance of each pixel in each class

A step adds the counts of one batch to the state, and after one pass the fit is complete: there is nothing to optimise,
and optimiser flags have no effect.

    python -m experiments.naive_bayes                                  # digits, no files needed
    python -m experiments.naive_bayes --dataset=mnist --data_dir=DATA  # the accuracy of "Dive into Deep Learning"

Zhang, Lipton, Li and Smola 2023, Dive into Deep Learning, appendix "Naive Bayes".
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl import metrics, run
from jaxdl.core import Experiment, State, axis_name, weighted_mean, weighted_sum
from jaxdl.data import IMAGE_SETS, Batches, Data, load_images, pixels01
from jaxdl.methods import naive_bayes
from jaxdl.run import Claim, Quantity, flag, pictures, plots

FAMILY = "foundations"
FIGURE = "posterior"  # shown on the page of results
DAYS = np.array([[55, 18], [73, 219]])  # of a year: rows rain, dry; columns clouds, clear sky
CORRECT = 8427  # of MNIST's 10,000 test images
MODELS: dict[str, Any] = {
    "bernoulli": (naive_bayes.counts, naive_bayes.merge_counts, naive_bayes.bernoulli),
    "gaussian": (naive_bayes.moments, naive_bayes.merge_moments, naive_bayes.gaussian),
}
CLAIMS = {
    "rain": Claim("Bayes' rule gives the share of rainy days among the cloudy days", "A14", headline=True),
    "evidence": Claim("Clouds raise the probability of rain, a clear sky lowers it, and on average it is the prior",
                      "A14"),
    "images": Claim("Naive Bayes classifies test images far better than chance", "A14", headline=True),
    "peer": Claim("Log probabilities and decisions equal those of scikit-learn", "A14"),
    "published": Claim("On MNIST exactly as many test images are correct as published", "A14", headline=True,
                       needs="files:mnist", flags="--dataset=mnist --data_dir=DATA"),
}  # fmt: skip
SMALL: dict[str, Any] = {}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment; flags of the optimiser have no effect."""

    dataset: str = flag("digits", "images; all but digits and glyphs are read from --data_dir", choices=IMAGE_SETS)
    model: str | None = flag(None, "fit only this model", choices=MODELS, shown="both")
    valid_fraction: float = run.no_validation("nothing is chosen, so all training images are counted")
    epochs: float | None = 1
    batch_size: int = 200
    log_every: int = 1
    tensorboard: bool = False


def data(config: Config) -> Data:
    """Loads the images; every training image is in one batch, and after the last there are only rows of weight 0."""
    loaded = load_images(config.dataset, config.data_dir, valid=0).data(config.batch_size)
    arrays, length = loaded.train.arrays, loaded.train.length

    def take(arrays: Any, rows: Any) -> dict[str, Any]:
        kept = rows % length
        return {"x": arrays["x"][kept], "y": arrays["y"][kept], "mask": (rows < length).astype(np.float32)}

    def order(seed: int, t: int) -> np.ndarray:
        return np.minimum(t * config.batch_size + np.arange(config.batch_size), length).astype(np.int32)

    train = Batches(arrays, config.batch_size, order, take=take, length=length)
    return Data(train, None, loaded.test, loaded.note, loaded.facts)


class Fitted(State):
    """The statistics of the rows seen so far."""

    statistics: Any


def features(model: str, x: Any) -> Any:
    """Returns pixels [B, D]: 0 or 1 for the Bernoulli model (1 from 128 of 255 on), in 0..1 for the Gaussian."""
    pixels = pixels01(x).reshape(len(x), -1)
    return (pixels > 0.5).astype(pixels.dtype) if model == "bernoulli" else pixels


def build(config: Config, data: Data) -> Experiment:
    """Builds the model of `--model`, by default Bernoulli: a step merges the statistics of its batch."""
    model, classes = config.model or "bernoulli", len(data.facts["names"])
    gather, merge, log_joint = MODELS[model]
    total = lambda tree: lax.psum(tree, name) if (name := axis_name()) else tree
    joint = lambda state, batch: log_joint(state.statistics, features(model, batch["x"]))
    chosen = lambda scores, y: jnp.take_along_axis(scores, y[:, None], 1)[:, 0]

    def init(key: jax.Array) -> Fitted:
        x = features(model, jnp.asarray(data.example["x"][:1]))
        return Fitted.create(key, statistics=gather(x, jnp.zeros(1, jnp.int32), classes, jnp.zeros(1)))

    def step(state: Fitted, batch: Any) -> tuple[Fitted, dict[str, jax.Array]]:
        new = gather(features(model, batch["x"]), batch["y"], classes, batch["mask"], total)
        state = state.advance(statistics=merge(state.statistics, new))
        return state, {"loss": weighted_mean(-chosen(joint(state, batch), batch["y"]), batch["mask"])}

    def evaluate(state: Fitted, batch: Any) -> Any:
        scores, y = joint(state, batch), batch["y"]
        found = {
            "loss": -chosen(scores, y),  # -log p(x, y), which counting minimises
            "cross_entropy": -chosen(naive_bayes.log_posterior(scores), y),
            "accuracy": metrics.accuracy(scores, y),
        }
        return {name: weighted_sum(values, batch["mask"]) for name, values in found.items()}

    predict = lambda state, batch: jnp.exp(naive_bayes.log_posterior(joint(state, batch)))
    return Experiment(init, step, evaluate, predict=predict)


inference = run.of_images


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Applies Bayes' rule to the days of a year, then fits both models to images."""
    names = [config.model] if config.model else list(MODELS)
    fits = {
        name: run.fit(build(config.replace(model=name), data), data, config, model=name, name=name) for name in names
    }
    if "bernoulli" in fits:
        run.save_figure(config, "posterior", lambda: drawn(fits["bernoulli"].state.statistics, data))
    yield from rain()
    y, least = data.test.arrays["y"], 0.5 if config.dataset in ("digits", "mnist") else 2 / len(data.facts["names"])
    scores = [Quantity(f"test accuracy, {name}", fit.values("accuracy"), ">=", least) for name, fit in fits.items()]
    yield run.measured("images", *scores, reference={"largest class": np.bincount(y).max() / len(y)})
    compared = [beside_scikit_learn(name, fit, data) for name, fit in fits.items()]
    yield run.measured("peer", *(quantity for one in compared for quantity in one))
    if config.dataset == "mnist" and "bernoulli" in fits:
        right = np.sum(fits["bernoulli"].predict(data.test).argmax(-1) == y)
        yield run.measured("published", Quantity("correct test images", right, "==", CORRECT),
                           reference={"Dive into Deep Learning": CORRECT})  # fmt: skip


def rain() -> Iterator[run.Finding]:
    """Compares Bayes' rule, in fractions, with counting days, and with naive Bayes of one feature."""
    rainy, cloudy = (np.repeat(np.indices((2, 2))[i].ravel(), DAYS.ravel()) == 0 for i in (0, 1))  # of each day
    exact = np.vectorize(Fraction, otypes=[object])
    prior = exact(DAYS.sum(1), DAYS.sum())
    likelihoods = exact(DAYS, DAYS.sum(1, keepdims=True))  # of clouds and of a clear sky, if it rains and if not
    clouds, clear = (naive_bayes.bayes(prior, likelihoods[:, i])[0] for i in (0, 1))
    counted = Fraction(int(np.sum(rainy & cloudy)), int(np.sum(cloudy)))
    with jax.enable_x64(True):
        x, y = jnp.asarray(cloudy[:, None], float), jnp.asarray(~rainy, int)
        joint = naive_bayes.bernoulli(naive_bayes.counts(x, y, 2), jnp.ones((1, 1)), smoothing=0)
        classified = float(jnp.exp(naive_bayes.log_posterior(joint))[0, 0])
    yield run.measured(
        "rain",
        Quantity("prior, rain", float(prior[0])),
        Quantity("likelihood, clouds if it rains", float(likelihoods[0, 0])),
        Quantity("posterior, rain if there are clouds", float(clouds)),
        Quantity("difference from counting, in fractions", float(clouds - counted), "==", 0),
        Quantity("difference of naive Bayes with one feature", abs(classified - float(counted)), "<", 1e-12),
    )
    seen = exact(DAYS.sum(0), DAYS.sum())  # the probabilities of clouds and of a clear sky
    yield run.measured(
        "evidence",
        Quantity("posterior - prior, clouds", float(clouds - prior[0]), ">", 0.0),
        Quantity("posterior - prior, clear sky", float(clear - prior[0]), "<", 0.0),
        Quantity("mean posterior - prior, in fractions", float(seen @ [clouds, clear] - prior[0]), "==", 0),
    )


def beside_scikit_learn(model: str, fit: run.Result, data: Data) -> list[Quantity]:
    """Compares log p(x, k) of the first 500 test images in float64, and the decisions of the fit for all of them."""
    from sklearn.naive_bayes import BernoulliNB, GaussianNB

    train, test = data.train.arrays, data.test.arrays
    gather, merge, log_joint = MODELS[model]
    peer = {"bernoulli": BernoulliNB(binarize=None), "gaussian": GaussianNB()}[model]
    x, tested = (features(model, part["x"]).astype(np.float64) for part in (train, test))
    peer.fit(x, train["y"])
    with jax.enable_x64(True):
        halves = [gather(*map(jnp.asarray, (x[i::2], train["y"][i::2])), len(data.facts["names"])) for i in (0, 1)]
        ours = np.asarray(log_joint(merge(*halves), jnp.asarray(tested[:500])))
    known = peer.predict_joint_log_proba(tested[:500])
    apart = np.abs(ours - known) / np.abs(known)
    differ = np.sum(fit.predict(data.test).argmax(-1) != peer.predict(tested))
    return [
        Quantity(f"{model}: largest relative difference, float64", apart.max(), "<", 1e-9),
        Quantity(f"{model}: share of other decisions, float32", differ / len(tested), "<=", 0.01),
    ]


def drawn(statistics: naive_bayes.Counts, data: Data) -> Any:
    """Draws the days of the year as areas, and the probability of ink in each pixel and class."""
    figure, (left, right) = plots.new_figure(9.5, 3.7, 1, 2, width_ratios=(1, 1.7))
    prior, kinds = DAYS.sum(1) / DAYS.sum(), ("rain", "dry")
    for i, (start, width) in enumerate(zip((0, prior[0]), prior, strict=True)):
        cloudy = DAYS[i, 0] / DAYS[i].sum()
        for j, (bottom, height) in enumerate([(0, cloudy), (cloudy, 1 - cloudy)]):
            colour = (("#2166ac", "0.55"), ("#a6cbe6", "#fdf3c8"))[j][i]
            left.bar(start, height, width, bottom, align="edge", color=colour, edgecolor="white", linewidth=2)
            said = f"{kinds[i]},\n{('clouds', 'clear')[j]}:\n{DAYS[i, j]} days"
            left.text(start + width / 2, bottom + height / 2, said, ha="center", va="center", fontsize=8,
                      color="white" if j == 0 else "black")  # fmt: skip
    rain, dry = DAYS[:, 0]
    left.set(
        xlabel=f"prior: P(rain) = {prior[0]:.2f}", ylabel=f"likelihood: P(clouds | rain) = {rain / DAYS[0].sum():.2f}",
        title=f"posterior: P(rain | clouds)\n= {rain} / ({rain} + {dry}) = {rain / (rain + dry):.2f}", xlim=(0, 1),
        ylim=(0, 1),
    )  # fmt: skip
    on = (np.asarray(statistics.ones) + 1) / (np.asarray(statistics.rows)[:, None] + 2)
    images = on.reshape(-1, *data.example["x"].shape[1:]).mean(-1, keepdims=True)  # [K, H, W, 1]
    columns = -(-len(images) // 2)
    images = np.concatenate([images, np.zeros((2 * columns - len(images), *images.shape[1:]))])
    pictures.tiles(right, images.reshape(2, columns, *images.shape[1:]), title="P(ink in the pixel | class)")
    right.set_axis_off()
    colours = figure.colorbar(right.images[0], ax=right, shrink=0.75)
    colours.ax.tick_params(labelsize=8)
    return figure


if __name__ == "__main__":
    run.main()
