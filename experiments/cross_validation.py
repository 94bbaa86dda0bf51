"""Cross-validation: how accurate a classifier is, estimated from few rows, and how to choose its hyper-parameters.

An estimate from one held-out part of few rows is mostly luck: on 60 rows its standard error is four points. K-fold
cross-validation tests every row once, each with a model that was not trained on it, and averages K such estimates. The
experiment draws small samples from the digits and compares both estimates with the accuracy on all other digits, for
several sample sizes, which shows where one split is enough.

    split:   a = accuracy on fold 1 of the model trained on the other folds        K-fold:  (a_1 + ... + a_K) / K
    error:   estimate - accuracy of the same models on the rest of the data;       split:   about sqrt(a (1 - a) K / n)
    nested:  outer fold k is scored with the trial that is best on inner folds of the other rows

A score by which something was chosen is too good: on labels of noise the best of many trials seems to have learnt
something. Nested cross-validation reports on rows that no choice has seen. The trials of the search are drawn as those
of --sweep with --trials. All models of a plot are softmax regressions that are trained at once, each on its own rows.

    python -m experiments.cross_validation
    python -m experiments.cross_validation --sample=200 --folds=10 --workdir=RUN
    python -m experiments.cross_validation --splits=50                              # closer estimates of the errors

Kohavi 1995, A study of cross-validation and bootstrap; Cawley and Talbot 2010, On over-fitting in model selection.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdl import run
from jaxdl.core import Experiment
from jaxdl.data import Batches, Data, hold_out, k_folds, load_images, load_table, split
from jaxdl.methods import family
from jaxdl.run import Claim, Quantity, flag, plots
from jaxdl.run.command import search
from jaxdl.run.command.flags import flags_of
from jaxdl.run.store.files import read_json
from jaxdl.run.store.identity import APART, identity

FAMILY = "foundations"
FIGURE = "estimates"  # shown on the page of results
CLAIMS = {
    "parts": Claim("Training, validation and test part share no row and depend on the seed alone", "B02"),
    "untouched": Claim("The test part is read after the last step only, and one of noise changes no choice", "B02"),
    "folds": Claim("Each row is in one test fold, class counts differ by at most one, and the folds are scikit-learn's",
                   "B03", headline=True),
    "variance": Claim("From few rows K-fold cross-validation estimates the accuracy with a smaller error than one "
                      "held-out part", "B04", headline=True),
    "large": Claim("The more rows there are, the smaller is the error of one held-out part", "B04"),
    "peer": Claim("The accuracies on the folds are those of scikit-learn's logistic regression", "B03 B04"),
    "search": Claim("A search chooses a trial that beats the median trial on rows that no choice has seen", "B06"),
    "repeat": Claim("A trial is repeated bit for bit from its seed and number alone", "B06"),
    "nested": Claim("On labels of noise the best score of a search is too good, and that of nested folds is not",
                    "B06", headline=True),
    "flags": Claim("Every hyper-parameter is a flag that is stored with the fit and identifies it", "B13"),
    "parameters": Claim("Parameters change in training and are stored in no flag", "B13"),
}  # fmt: skip
NOTES = 5, 4590  # the notes' folds and random state
SIZES = 0.5, 1, 3  # of the samples, in units of --sample
INNER = 3  # folds of the rows outside of an outer fold
NOISY_ROWS, COINS = 100, 60  # images, and draws of labels for them
SMALL: dict[str, object] = {
    "steps": 60,
    "splits": 12,
    "candidates": 12,
}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment; the optimiser is one whose steps are proportional to the gradient."""

    sample: int = flag(300, "rows of a small sample; others have half and three times as many", minimum=100,
                     maximum=500)  # fmt: skip
    folds: int = flag(5, "K, the folds of cross-validation", minimum=2, maximum=10)
    splits: int = flag(20, "samples that are drawn, each with its own folds", minimum=3, maximum=100)
    candidates: int = flag(20, "trials of the search", minimum=3, maximum=100)
    penalty: float = flag(0.01, "weight of |W|^2 / 2 in the loss", minimum=0)
    optimizer: str = flag("nesterov", "update rule", group="optimiser", choices=("sgd", "momentum", "nesterov"))
    learning_rate: float = flag(0.5, "peak learning rate", group="optimiser", more_than=0)
    schedule: str = "cosine"
    steps: int | None = 100
    batch_size: int = flag(1797, "rows of a step; by default all digits", group="training", minimum=1)
    devices: int = 1


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns all digits: x float32 [1797, 64] in 0..1, y int32 [1797]."""
    images = load_images("digits", valid=0.0)
    x, y = (np.concatenate([images.train[name], images.test[name]]) for name in ("x", "y"))
    return x.reshape(len(x), -1), y


class Samples(NamedTuple):
    """Rows of small samples, bool [N, sizes, splits, folds]: to train on, to test on, and outside of the sample."""

    train: np.ndarray
    test: np.ndarray
    rest: np.ndarray


def samples(config: Config, y: np.ndarray) -> Samples:
    """Draws samples of several sizes and splits each into folds; a larger sample contains the smaller ones."""
    shape = len(y), len(SIZES), config.splits, config.folds
    found = Samples(*(np.zeros(shape, bool) for _ in range(3)))
    for r in range(config.splits):
        order = np.random.default_rng((config.seed, r)).permutation(len(y))
        for i, size in enumerate(SIZES):
            rows = order[: int(size * config.sample)]
            found.rest[order[len(rows) :], i, r] = True
            for k, (train, test) in enumerate(k_folds({"row": rows, "y": y[rows]}, config.folds, r)):
                found.train[train["row"], i, r, k] = True
                found.test[test["row"], i, r, k] = True
    return found


def members(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, size: int, rates: Sequence[float] = (1.0,),
    penalties: Sequence[float] = (0.0,),
) -> Data:  # fmt: skip
    """Returns the data of a family whose member f is trained on the rows x[train[:, f]] with labels y [N, G]."""
    mask = train.reshape(len(x), -1).astype(np.float32)
    facts = {"classes": int(y.max()) + 1, "rates": list(rates), "penalties": list(penalties)}
    return Data(Batches({"x": x, "y": y.astype(np.int32), "mask": mask}, size), facts=facts)


def data(config: Config) -> Data:
    """Returns the digits, with the rows that each member of the family is trained on."""
    x, y = digits()
    return members(x, y[:, None], samples(config, y).train, config.batch_size, penalties=(config.penalty,))


def build(config: Config, data: Data) -> Experiment:
    """Builds softmax regressions that are trained at once, each on its own rows."""
    facts = data.facts
    tx = config.make_optimizer(data)
    return family(tx, data.example, facts["classes"], facts["rates"], facts["penalties"])


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Measures the claims, with each seed drawing its own samples."""
    one = lambda s: config.replace(seed=s, seeds=1)
    each = [one(s) for s in range(config.seed, config.seed + config.seeds)]
    place = lambda name, c: f"{name}/seed{c.seed}" if config.seeds > 1 else name
    x, y = digits()
    yield parts(each, y)
    yield untouched(each, x, y)
    yield folds(y)
    found, fits = [], []
    for c in each:
        own = data if c.seed == config.seed else globals()["data"](c)
        fits.append((c, own, run.fit(build(c, own), own, c, name=place("estimates", c))))
        found.append(estimates(c, x, y, fits[-1][2]))
    yield variance(config, found, data)
    yield large(config, found)
    yield peer(each[0], x, y, found[0])
    searches = [searched(c, x, y, place("search", c)) for c in each]
    yield of_search(searches)
    yield repeated(each[0], x, y, searches[0], place("again", each[0]))
    noise = [noisy(c, x, place("noise", c)) for c in each]
    yield of_noise(noise)
    yield from flags_and_parameters(config, *fits[0], place("estimates", each[0]))
    run.save_figure(config, "estimates", lambda: picture(each[0], found[0], searches[0], noise[0]))


def parts(each: Sequence[Config], y: np.ndarray) -> run.Finding:
    """Draws the three parts of every row number, twice with one seed and once with another."""

    def drawn(seed: int) -> list[np.ndarray]:
        rest, test = split({"row": np.arange(len(y)), "y": y}, 0.2, seed, stratify="y")
        train, valid = hold_out(rest, max(each[0].valid_fraction, 0.05), seed, "digits", stratify="y")
        assert valid is not None
        return [train["row"], valid["row"], test["row"]]

    first, again, other = ([drawn(c.seed + i) for c in each] for i in (0, 0, 1))
    counts = [np.bincount(np.concatenate(rows), minlength=len(y)) for rows in first]
    differ = [sum(np.sum(a != b) for a, b in zip(*pair, strict=True)) for pair in zip(first, again, strict=True)]
    common = [len(np.intersect1d(a[2], b[2])) / len(a[2]) for a, b in zip(first, other, strict=True)]
    return run.measured(
        "parts",
        Quantity("rows in two parts", [np.sum(c > 1) for c in counts], "==", 0),
        Quantity("rows in none", [np.sum(c == 0) for c in counts], "==", 0),
        Quantity("rows that differ when drawn again", differ, "==", 0),
        Quantity("share of the test part that another seed draws too", common, "<", 0.5),
    )


def untouched(each: Sequence[Config], x: np.ndarray, y: np.ndarray) -> run.Finding:
    """Trains with early stopping and records when the test part is read; then with a test part of noise, and none.

    These fits are never stored, so that the test part is read in every run.
    """
    early, late, changed = [], [], []
    for c in each:
        config = c.replace(workdir=None, steps=60, patience=2, monitor="loss", eval_every=2, monitor_mode="min",
                           init=None, init_skip=None, learning_rate=0.5, schedule="constant")  # fmt: skip
        rest, test = split({"x": x, "y": y[:, None]}, 0.2, c.seed)
        train, valid = hold_out(rest, 0.1, c.seed, "digits")
        assert valid is not None
        events = list[str]()

        def take(arrays: Any, rows: Any, events: list[str] = events) -> Any:
            events.append("test")
            return {name: values[rows] for name, values in arrays.items()}

        counted = lambda part: part | {"mask": np.ones((len(part["y"]), 1), np.float32)}
        noise = counted({"x": np.random.default_rng(c.seed).random(test["x"].shape), "y": np.flip(test["y"], 0)})
        watched = Batches(counted(test), 256, take=take, length=len(test["y"]))
        facts = {"classes": 10, "rates": [1.0], "penalties": [0.0]}
        fits = []
        for tested in (watched, Batches(noise, 256), None):
            d = Data(Batches(counted(train), 256), Batches(counted(valid), 256), tested, facts=facts)
            note = lambda row, events=events: events.append("row" if "valid/loss" in row else "")
            fits.append(run.fit(build(config, d), d, config, on_row=note if tested is watched else None))
        at = events.index("test")
        early.append(events[at:].count("row"))
        late.append(events.count("test"))
        weights = [fit.state.learner.params["kernel"] for fit in fits]
        changed.append(sum(np.sum(w != weights[0]) for w in weights) + sum(f.valid != fits[0].valid for f in fits))
    return run.measured(
        "untouched",
        Quantity("evaluations after the test part was first read", early, "==", 0),
        Quantity("test batches read after the last step", late, ">", 0),
        Quantity("weights and scores that a test part of noise, or none, changes", changed, "==", 0),
    )


def dealt(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the test fold of each row, int [N]: scikit-learn's stratified folds, written again.

    The rows, ordered by class, are dealt to the folds in turn, so that the counts of a class differ by at most one.
    Each class then shuffles the folds that it was dealt among its rows; classes come in the order of their first rows.
    """
    random, found, start = np.random.RandomState(seed), np.empty(len(y), int), 0
    for label in dict.fromkeys(y.tolist()):
        rows = np.flatnonzero(y == label)
        own = np.sort(np.arange(start, start + len(rows)) % count)
        random.shuffle(own)
        found[rows], start = own, start + len(rows)
    return found


def folds(y: np.ndarray) -> run.Finding:
    """Splits three data sets as the notes do and compares the folds with scikit-learn's and with `dealt`."""
    from sklearn.model_selection import StratifiedKFold

    count, seed = NOTES
    often, uneven, differ, unlike = [], [], [], []
    for labels in (y, load_table("wine").y, load_table("breast_cancer").y):
        ours = k_folds({"row": np.arange(len(labels)), "y": labels}, count, seed)
        peers = StratifiedKFold(n_splits=count, shuffle=True, random_state=seed).split(labels, labels)
        tests = [test["row"] for _, test in ours]
        often.append(np.sum(np.bincount(np.concatenate(tests), minlength=len(labels)) != 1))
        counts = np.array([np.bincount(labels[rows]) for rows in tests])
        uneven.append(np.ptp(counts, axis=0).max())
        pairs = [(a["row"], b) for pair, peer in zip(ours, peers, strict=True) for a, b in zip(pair, peer, strict=True)]
        differ.append(sum(not np.array_equal(a, b) for a, b in pairs))
        own = dealt(labels, count, seed)
        unlike.append(sum(np.sum(own[rows] != k) for k, rows in enumerate(tests)))
    return run.measured(
        "folds",
        Quantity("rows that are not in exactly one test fold", sum(often), "==", 0),
        Quantity("largest difference of a class's rows between folds", max(uneven), "<=", 1),
        Quantity("index arrays that differ from StratifiedKFold", sum(differ), "==", 0, "of 30"),
        Quantity("rows in another fold than by the assignment in NumPy", sum(unlike), "==", 0, "of 2,544"),
    )


class Estimates(NamedTuple):
    """Accuracies by sample size and split: in each fold [sizes, splits, folds], and of the same models on the rest."""

    folds: np.ndarray
    rest: np.ndarray

    def errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns estimates minus the truth of each split: of single folds, and of the mean over folds."""
        return self.folds - self.rest, (self.folds - self.rest).mean(-1)


def estimates(config: Config, x: np.ndarray, y: np.ndarray, fit: run.Result) -> Estimates:
    """Scores each member on its fold and on the rows outside of its sample."""
    rows = samples(config, y)
    part = {"x": x, "y": y[:, None], "mask": np.ones((len(x), rows.train[0].size), np.float32)}
    right = (fit.predict(Batches(part, 1797)) == y[:, None]).reshape(rows.test.shape)
    share = lambda where: (right & where).sum(0) / where.sum(0)
    return Estimates(share(rows.test), share(rows.rest[..., :1].repeat(config.folds, -1)))


def root_mean_square(x: np.ndarray, axis: Any = None) -> Any:
    """Returns sqrt(mean x^2)."""
    return np.sqrt(np.mean(np.square(x), axis))


def variance(config: Config, found: Sequence[Estimates], data: Data) -> run.Finding:
    """Compares the spread and the error of both estimates at --sample rows, and times the family."""
    i = SIZES.index(1)
    single, both = [e.folds[i].std(0, ddof=1) for e in found], [e.folds[i].mean(-1).std(ddof=1) for e in found]
    errors = [[root_mean_square(one[i]) for one in e.errors()] for e in found]
    truth, held_out = np.mean([e.rest[i].mean() for e in found]), config.sample // config.folds
    alone, together = step_times(config, data)
    return run.measured(
        "variance",
        Quantity("spread of the K-fold estimate / of one part", [b / root_mean_square(s) for s, b in
                 zip(single, both, strict=True)], "<", 0.8, "times"),
        Quantity("error of the K-fold estimate / of one part", [k / s for s, k in errors], "<", 0.8, "times"),
        Quantity("error of one part", [100 * s for s, _ in errors], unit="points"),
        Quantity("error of the K-fold estimate", [100 * k for _, k in errors], unit="points"),
        Quantity("time of a step of all models one after another / at once", alone / together, unit="times"),
        reference={f"points, standard error of {held_out} rows": 100 * np.sqrt(truth * (1 - truth) / held_out)},
    )  # fmt: skip


def step_times(config: Config, data: Data) -> tuple[float, float]:
    """Returns the seconds of one step of all models, one after another on their own rows alone, and at once."""
    batch = data.example

    def seconds(rows: Any) -> float:
        experiment = build(config, Data(example=rows, facts=data.facts))
        return run.benchmark(
            lambda s, b: experiment.step(s, b), experiment.init(jax.random.key(0)), rows, repeats=3
        ).seconds

    def alone(size: float) -> float:
        n = int(size * config.sample * (1 - 1 / config.folds))
        return seconds({"x": batch["x"][:n], "y": batch["y"][:n], "mask": batch["mask"][:n, :1]})

    return config.splits * config.folds * sum(map(alone, SIZES)), seconds(batch)


def large(config: Config, found: Sequence[Estimates]) -> run.Finding:
    """Measures the error of one held-out part for each size, and extends it to the notes' ten thousand rows."""
    errors = np.array([root_mean_square(e.errors()[0], (1, 2)) for e in found])  # [seeds, sizes]
    sizes = np.array([int(size * config.sample) for size in SIZES])
    slopes, starts = np.polynomial.polynomial.polyfit(np.log(sizes), np.log(errors).T, 1)[::-1]
    named = [Quantity(f"error from {n} rows", 100 * e, unit="points") for n, e in zip(sizes, errors.T, strict=True)]
    return run.measured(
        "large",
        *named,
        Quantity(f"error from {sizes[-1]} / from {sizes[0]} rows", errors[:, -1] / errors[:, 0], "<", 0.7, "times"),
        Quantity("exponent of n in the error", slopes),
        Quantity("extended to 10,000 rows", 100 * np.exp(starts + slopes * np.log(1e4)), unit="points"),
        reference={"exponent for independent rows": -0.5},
    )


def peer(config: Config, x: np.ndarray, y: np.ndarray, found: Estimates) -> run.Finding:
    """Fits scikit-learn's models to the first sample of --sample rows, on the same folds and with the same penalty."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    i = SIZES.index(1)
    rows = np.random.default_rng((config.seed, 0)).permutation(len(y))[: config.sample]
    same = StratifiedKFold(config.folds, shuffle=True, random_state=0)
    n = config.sample * (1 - 1 / config.folds)  # its objective is a sum over rows
    linear = LogisticRegression(C=1 / (max(config.penalty, 1e-9) * n), max_iter=500)
    network = MLPClassifier((32,), learning_rate_init=0.01, max_iter=40, tol=0.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = [cross_val_score(model, x[rows], y[rows], cv=same) for model in (linear, network)]
    ours = found.folds[i, 0]
    return run.measured(
        "peer",
        Quantity("mean accuracy on the folds", ours.mean()),
        Quantity("mean difference on a fold", 100 * np.abs(ours - scores[0]).mean(), "<", 2.0, "points"),
        Quantity("standard deviation over the folds", ours.std(ddof=1)),
        reference={"LogisticRegression": scores[0].mean(), "MLPClassifier, 32 units": scores[1].mean()},
    )


class Nested(NamedTuple):
    """Accuracies of M trials on G columns of labels, and those of the trials that inner folds chose.

    outer: [G, K, M] on the outer folds; inner: [G, K, M], the mean over the inner folds of the other rows; chosen:
    [G, K], the trial that is best there; trials: {number: flags}; state: of the family.
    """

    outer: np.ndarray
    inner: np.ndarray
    chosen: np.ndarray
    trials: dict[int, dict[str, Any]]
    state: Any

    def nested(self) -> np.ndarray:
        """Returns the accuracy of the chosen trials on the outer folds [G]."""
        return np.take_along_axis(self.outer, self.chosen[..., None], -1)[..., 0].mean(1)

    def best(self) -> np.ndarray:
        """Returns the best inner score, averaged over the outer folds [G]."""
        return self.inner.max(-1).mean(1)


def space_of(config: Config) -> search.Space:
    """Returns what the search varies, in the words of --sweep."""
    return search.space(type(config), "learning_rate=loguniform(1e-3,1);penalty=loguniform(1e-5,1)")


def nested(
    config: Config, name: str, x: np.ndarray, y: np.ndarray, trials: dict[int, dict[str, Any]] | None = None
) -> Nested:
    """Trains all trials on all outer and inner folds at once.

    Args:
      config: the flags.
      name: of the fit.
      x: [N, D].
      y: [N, G].
      trials: {number: flags}; by default those of --candidates.
    """
    trials = search.trials(space_of(config), config.seed, config.candidates) if trials is None else trials
    train = np.zeros((len(x), y.shape[1], config.folds, 1 + INNER), bool)
    test = train.copy()
    for g, labels in enumerate(y.T):
        for k, (rest, out) in enumerate(k_folds({"row": np.arange(len(x)), "y": labels}, config.folds, g)):
            pairs = [(rest, out), *k_folds(rest, INNER, g)]
            for j, (fitted, scored) in enumerate(pairs):
                train[fitted["row"], g, k, j], test[scored["row"], g, k, j] = True, True
    rates = [flags["learning_rate"] / config.learning_rate for flags in trials.values()]
    penalties = [flags["penalty"] for flags in trials.values()]
    of_all = np.repeat(train[..., None], len(trials), -1)
    parts = members(x, y, of_all, len(x), rates, penalties)
    fit = run.fit(build(config, parts), parts, config.replace(batch_size=len(x)), name=name)
    said = fit.predict(Batches(parts.train.arrays, len(x))).reshape(of_all.shape)
    right = said == y[:, :, None, None, None]
    scores = (right & test[..., None]).sum(0) / test.sum(0)[..., None]  # [G, K, 1 + INNER, M]
    inner = scores[:, :, 1:].mean(2)
    return Nested(scores[:, :, 0], inner, inner.argmax(-1), trials, fit.state)


def searched(config: Config, x: np.ndarray, y: np.ndarray, name: str) -> Nested:
    """Searches on one small sample of the digits."""
    rows = np.random.default_rng((config.seed, 0)).permutation(len(y))[: config.sample]
    return nested(config, name, x[rows], y[rows, None])


def of_search(found: Sequence[Nested]) -> run.Finding:
    """Compares the chosen trials with the median trial on the outer folds."""
    middle = np.array([np.median(one.outer[0].mean(0)) for one in found])
    chosen = np.array([one.nested()[0] for one in found])
    below = [np.mean(one.outer[0].mean(0) < own) for one, own in zip(found, chosen, strict=True)]
    return run.measured(
        "search",
        Quantity("accuracy of the chosen trials, outer folds", chosen),
        Quantity("share of the trials with a lower accuracy there", below, ">", 0.5),
        Quantity("gain over the median trial", 100 * (chosen - middle), unit="points"),
        Quantity("best inner score", [one.best()[0] for one in found]),
        reference={"median of the trials, outer folds": middle},
    )


def repeated(config: Config, x: np.ndarray, y: np.ndarray, found: Nested, name: str) -> run.Finding:
    """Draws the chosen trial again from its seed and number, and trains it without any other trial."""
    at = int(found.chosen[0, 0])
    i = [*found.trials][at]
    again = search.trial(space_of(config), config.seed, i)
    rows = np.random.default_rng((config.seed, 0)).permutation(len(y))[: config.sample]
    alone = nested(config, name, x[rows], y[rows, None], dict.fromkeys(found.trials, again))
    kernels = [np.asarray(one.state.learner.params["kernel"]) for one in (found, alone)]
    first, second = (k.reshape(len(k), -1, len(found.trials), int(y.max()) + 1)[:, :, at] for k in kernels)
    return run.measured(
        "repeat",
        Quantity("number of the trial", i),
        Quantity("flags that differ", sum(found.trials[i][name] != value for name, value in again.items()), "==", 0),
        Quantity("weights that differ", np.sum(first != second), "==", 0, f"of {first.size:,}"),
    )


def noisy(config: Config, x: np.ndarray, name: str) -> Nested:
    """Searches on images of digits whose labels are coins, in several draws: no trial can be better than chance."""
    draws = [np.random.default_rng((config.seed, r)) for r in range(COINS)]
    coins = np.stack([random.permutation(np.arange(NOISY_ROWS) % 2) for random in draws], -1)
    return nested(config.replace(steps=min(40, config.steps or 40), epochs=None), name, x[:NOISY_ROWS], coins)


def of_noise(found: Sequence[Nested]) -> run.Finding:
    """Compares the best inner score and the nested estimate with chance."""
    best, outer = (np.array([getattr(one, kind)() for one in found]) - 0.5 for kind in ("best", "nested"))
    errors = lambda x: x.mean(1) / (x.std(1, ddof=1) / np.sqrt(x.shape[1]))  # in standard errors
    return run.measured(
        "nested",
        Quantity("best inner score - chance", 100 * best.mean(1), unit="points"),
        Quantity("in standard errors", errors(best), ">", 1.0),
        Quantity("nested estimate - chance", 100 * outer.mean(1), unit="points"),
        Quantity("in standard errors, either sign", np.abs(errors(outer)), "<", 4.0),
        Quantity("best inner score - nested estimate", 100 * (best - outer).mean(1), ">", 0.0, "points"),
        reference={"accuracy by chance": 0.5},
    )


def flags_and_parameters(config: Config, one: Config, data: Data, fit: run.Result, name: str) -> Iterator[run.Finding]:
    """Reads what a fit has stored, and changes each flag in turn."""
    known = {f.name: f for f in flags_of(type(one)) if f.rule.affects_result and f.name not in APART}
    values = {key: getattr(one, key) for key in known}
    tried, same = 0, 0
    for key, f in known.items():
        for value in others(f, values[key]):
            try:
                other = one.replace(**{key: value})
            except run.FlagError:  # has no effect with the other flags, or contradicts them
                continue
            tried += 1
            same += identity(other, {}, {}, None)["flags"] == identity(one, {}, {}, None)["flags"]
            break
    if config.workdir:
        stored = (read_json(Path(config.workdir) / name / "fit.json") or {})["flags"]
        missing = sum(key not in stored or stored[key] != value for key, value in values.items() if key != "steps")
        plain = sum(not isinstance(v, (int, float, str, bool, type(None))) for v in stored.values())
        yield run.measured(
            "flags",
            Quantity("flags that can change a result", len(known), ">", 20),
            Quantity("not stored with the fit", missing, "==", 0),
            Quantity("stored values that are no number, word or switch", plain, "==", 0),
            Quantity("flags that were changed", tried, ">", 20),
            Quantity("of these, without a new identity", same, "==", 0),
        )
    start = build(one, data).init(jax.random.key(one.seed)).learner.params
    pairs = list(zip(jax.tree.leaves(start), jax.tree.leaves(fit.state.learner.params), strict=True))
    try:
        one.learning_rate = 1.0  # type: ignore[misc]
        frozen = False
    except FrozenInstanceError:
        frozen = True
    changed = float(np.mean(np.concatenate([np.ravel(a != b) for a, b in pairs])))
    names = {str(path[-1].key) for path, _ in jax.tree_util.tree_leaves_with_path(start)}
    yield run.measured(
        "parameters",
        Quantity("parameters", sum(a.size for a, _ in pairs)),
        Quantity("share of them that training has changed", changed, ">", 0.5),
        Quantity("of them named as a flag", len(names & set(known)), "==", 0),
        Quantity("flags that code can change in place (1: yes)", not frozen, "==", 0),
    )


def others(f: Any, value: Any) -> list[Any]:
    """Returns other values of a flag than its own."""
    if f.rule.choices:
        return [choice for choice in f.rule.choices if choice != value]
    if f.type is bool:
        return [not value]
    if f.type is str:
        return [f"not {value}"]
    return [new for new in (f.type(2 * (value or 0)), f.type(1), f.type(0.5), 200) if new != value]


def picture(config: Config, found: Estimates, one: Nested, noise: Nested) -> Any:
    """Draws the errors of both estimates, their fall with n, the search, and the scores on noise."""
    figure, ((left, right), (low, last)) = plots.new_figure(11, 8, 2, 2)
    i, sizes = SIZES.index(1), [int(size * config.sample) for size in SIZES]
    single, both = (100 * error for error in found.errors())
    ends = np.abs(single[i]).max() * 1.05
    bins = np.linspace(-ends, ends, 22)
    for values, label in ((single[i].ravel(), "one held-out part"), (both[i], f"{config.folds}-fold cross-validation")):
        label = f"{label}: ±{root_mean_square(values):.1f} points"
        left.hist(values, bins, weights=np.full(len(values), 1 / len(values)), alpha=0.6, label=label)
    left.axvline(0, color="k", linestyle="--", linewidth=1)
    title = f"Accuracy estimated from {config.sample} rows, {config.splits} samples"
    left.set(xlabel="estimate - accuracy on all other rows (points)", ylabel="share of the estimates", title=title)

    few = 100 * np.sqrt(np.mean(found.rest * (1 - found.rest), (1, 2)) * config.folds / sizes)
    right.plot(sizes, root_mean_square(single, (1, 2)), "o-", label="one held-out part")
    right.plot(sizes, root_mean_square(both, 1), "s-", label=f"{config.folds}-fold cross-validation")
    far = np.array([sizes[0], 10_000])
    right.plot(far, few[-1] * np.sqrt(sizes[-1] / far), "k:", linewidth=1, label="sqrt(a (1 - a) K / n)")
    right.axvline(10_000, color="0.7", linewidth=1)
    right.annotate("one split is enough", (10_000, 1), (-4, -4), ("data", "axes fraction"), "offset points",
                   rotation=90, ha="right", va="top", fontsize=8, color="0.4")  # fmt: skip
    right.set(xscale="log", yscale="log", xlabel="rows n", ylabel="root mean square error (points)",
              title="The error of an estimate falls with the rows")  # fmt: skip
    for axis in (right.yaxis, right.xaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    right.set_yticks([0.5, 1, 2, 5])

    rates = [flags["learning_rate"] for flags in one.trials.values()]
    shade = low.scatter(rates, one.inner[0].mean(0), c=[flags["penalty"] for flags in one.trials.values()], s=34,
                        norm="log", cmap="viridis", label="inner folds", zorder=3)  # fmt: skip
    low.plot(rates, one.outer[0].mean(0), "kx", markersize=5, label="outer folds")
    low.axhline(one.nested()[0], color="C3", linewidth=1, label=f"chosen, outer folds: {one.nested()[0]:.3f}")
    low.set(xscale="log", xlabel="learning_rate", ylabel="accuracy", title=f"{len(rates)} trials of a search")
    figure.colorbar(shade, ax=low, label="penalty")

    scores = ((noise.best(), "best inner score"), (noise.nested(), "nested estimate"))
    bins = np.linspace(min(v.min() for v, _ in scores) - 0.01, max(v.max() for v, _ in scores) + 0.01, 16)
    for values, label in scores:
        last.hist(values, bins, alpha=0.6, label=f"{label}: {values.mean():.3f}")
    last.axvline(0.5, color="k", linestyle="--", linewidth=1, label="chance")
    last.set(xlabel="accuracy", ylabel="draws of the labels", title=f"Labels are coins: best of {len(rates)} trials")
    for axis in (left, right, low, last):
        axis.legend(fontsize=8)
        axis.grid(alpha=0.25)
    return figure


if __name__ == "__main__":
    run.main()
