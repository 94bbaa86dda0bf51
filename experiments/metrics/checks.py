"""The notes' worked examples, and random cases compared with scikit-learn and SciPy."""

import warnings
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdl import losses, metrics
from jaxdl.data import Field, check_fields
from jaxdl.run import Finding, Quantity, measured

EXACT = 1e-12  # of float64, in which the metrics compute NumPy arrays


def examples() -> Iterator[Finding]:
    """Measures the worked examples of the notes."""
    truth, near, far = jnp.full(1, 10.0), jnp.full(1, 8.0), jnp.full(1, 5.0)
    distance = lambda x: float(losses.absolute_error(x, truth)[0])
    wrong = lambda x: float(metrics.zero_one_error(10 * jnp.eye(11)[x.astype(int)], truth.astype(int))[0])
    yield measured(
        "spaces",
        Quantity("error of 5 for 10, as numbers", distance(far), "==", 5),
        Quantity("error of 8 for 10, as numbers", distance(near), "==", 2),
        Quantity("error of 5 for 10, as classes", wrong(far), "==", 1),
        Quantity("error of 8 for 10, as classes", wrong(near), "==", 1),
    )
    yield record()

    logit = lambda p: jnp.log(p / (1 - p))
    p = jnp.array([0.8, 0.5])
    nats = np.asarray(losses.sigmoid_cross_entropy(logit(p), jnp.ones(2)))
    tens = [float(metrics.cross_entropy(np.array([1.0, 0]), np.array([q, 1 - q]), 10)) for q in (0.8, 0.5)]
    known = {"p = 0.8, nats": 0.2231, "p = 0.5, nats": 0.6931, "p = 0.8, log10": 0.0969, "p = 0.5, log10": 0.3010}
    values = [*nats, *tens]
    names = [f"loss at {name}" for name in known]
    off = np.abs(np.subtract(values, [*known.values()])).max()
    shown = [Quantity(name, value) for name, value in zip(names, values, strict=True)]
    notes = {f"{name}, {'the notes' if 'log10' in name else 'by hand'}": value for name, value in known.items()}
    yield measured("binary", *shown, Quantity("largest difference", off, "<", 5.1e-5), reference=notes)

    table = np.array([[0.3, 0.3, 0.4], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])  # of samples 1 to 3; the truth is C, B, A
    each = np.asarray(losses.softmax_cross_entropy(jnp.log(table), jnp.array([2, 1, 0])))
    yield measured(
        "classes",
        Quantity("mean cross-entropy", each.mean(), unit="nats"),
        Quantity("difference from 1.3784 nats", abs(each.mean() - 1.3784), "<", 5.1e-5),
        Quantity("difference from 0.5986, log10", abs(each.mean() / np.log(10) - 0.5986), "<", 5.1e-5),
        Quantity("loss of the worst sample - of the others", each[2] - each[:2].max(), ">", 0.0),
    )


def record() -> Finding:
    """Damages one field of a good batch at a time and counts the messages that begin with its name."""
    fields = {"x": Field(("B", 4), np.floating, "feature vector"), "y": Field(("B",), np.integer, "label", 0, 2)}
    good = {"x": np.zeros((7, 4)), "y": np.arange(7) % 3}
    bad: list[tuple[str, dict[str, Any]]] = [
        ("x", {"x": np.zeros((7, 5))}), ("x", {"x": np.zeros(7)}), ("x", {"x": np.zeros((7, 4), int)}),
        ("x", {"x": np.full((7, 4), np.nan)}), ("y", {"y": np.zeros(5, int)}), ("y", {"y": np.zeros((7, 1), int)}),
        ("y", {"y": np.zeros(7)}), ("y", {"y": np.full(7, 3)}), ("z", {"z": np.zeros(7)}),
    ]  # fmt: skip
    named = 0
    for name, change in bad:
        try:
            check_fields(good | change, fields)
        except ValueError as error:
            named += str(error).startswith(f"{name}: ")
    check_fields(good, fields)
    return measured("record", Quantity(f"messages that name the field, of {len(bad)}", named, "==", len(bad)))


def random_cases(cases: int, seed: int) -> Iterator[Finding]:
    """Compares all metrics on random cases; the same cases for the same seed."""
    yield from of_classes(cases, np.random.default_rng((seed, 0)))
    yield from of_numbers(cases, np.random.default_rng((seed, 1)))
    yield of_ranks(cases, np.random.default_rng((seed, 2)))
    yield from of_losses(cases, np.random.default_rng((seed, 3)))


def of_classes(cases: int, random: np.random.Generator) -> Iterator[Finding]:
    """Compares accuracy, confusion matrix, precision, recall and F1; some classes never occur, some are alone."""
    from sklearn import metrics as peer

    off = dict.fromkeys(("accuracy", "confusion", "precision", "recall", "f1", "micro"), 0.0)
    averages, single, absent = (None, "micro", "macro", "weighted"), 0, 0
    for i in range(cases):
        n, classes = int(random.integers(1, 60)), int(random.integers(2, 7))
        used = random.permutation(classes)[: random.integers(1, classes + 1)]
        y = random.choice(used, n)
        guess = np.where(random.random(n) < 0.5, y, random.choice(used, n))
        single, absent = single + (len(used) == 1), absent + (len(np.unique(y)) < classes)
        matrix, every = metrics.confusion_matrix(y, guess, classes), range(classes)
        counts, average = metrics.counts_of(matrix), averages[i % 4]
        known = peer.precision_recall_fscore_support(y, guess, labels=every, average=average, zero_division=0)
        accuracy = counts.correct.sum() / n
        ours = (metrics.precision(counts, average), metrics.recall(counts, average), metrics.f1(counts, average))
        gaps = {name: a - b for name, a, b in zip(("precision", "recall", "f1"), ours, known[:3], strict=True)}
        gaps |= {"accuracy": accuracy - peer.accuracy_score(y, guess), "micro": metrics.f1(counts, "micro") - accuracy}
        gaps["confusion"] = matrix - peer.confusion_matrix(y, guess, labels=every)
        off = {name: max(value, float(np.abs(gaps[name]).max())) for name, value in off.items()}
    empty = metrics.confusion_matrix(np.zeros(0, int), np.zeros(0, int), 2)
    never = metrics.counts_of(metrics.confusion_matrix(np.array([0, 0, 1]), np.zeros(3, int), 3))
    largest = lambda name: Quantity(f"largest difference, {cases:,} cases", off[name], "<", EXACT)
    alone = Quantity("cases with one class", single, ">", 0)
    yield measured("accuracy", largest("accuracy"), alone)
    two = metrics.confusion_matrix(np.array([0]), np.array([1]), 2)
    yield measured(
        "confusion",
        largest("confusion"),
        Quantity("entry of true class 0, predicted 1", two[0, 1], "==", 1),
        Quantity("sum of the matrix of no example", empty.sum(), "==", 0),
    )
    zero = "that is never predicted", "without examples"
    for name, value, why in (("precision", metrics.precision(never)[1], zero[0]),
                             ("recall", metrics.recall(never)[2], zero[1])):  # fmt: skip
        missing = Quantity("cases in which a class does not occur", absent, ">", 0)
        yield measured(name, largest(name), missing, Quantity(f"{name} of a class {why}", value, "==", 0))
    yield measured(
        "f1", largest("f1"), Quantity("F1 without any example", metrics.f1(metrics.counts_of(empty))[0], "==", 0)
    )
    yield measured("micro", Quantity(f"largest |micro F1 - accuracy|, {cases:,} cases", off["micro"], "<", EXACT))


def of_numbers(cases: int, random: np.random.Generator) -> Iterator[Finding]:
    """Compares the errors of regressions, each merged from two pieces, and scales them."""
    from sklearn import metrics as peer

    off, scaled, gap, even = 0.0, np.zeros(3), np.inf, 0.0
    score = lambda p, y: metrics.regression_scores(metrics.error_sums(p, y))
    negative = 0
    for _ in range(cases):
        n, k = int(random.integers(2, 60)), float(np.exp(random.normal()))
        y = random.normal(size=n) + random.normal() * 10
        p = y + random.normal(size=n) * np.exp(random.normal())
        cut = int(random.integers(0, n + 1))
        parts = [metrics.error_sums(p[rows], y[rows]) for rows in (slice(cut), slice(cut, n))]
        merged, whole = metrics.regression_scores(metrics.merge_errors(*parts)), score(p, y)
        known = {"mse": peer.mean_squared_error(y, p), "mae": peer.mean_absolute_error(y, p), "r2": peer.r2_score(y, p)}
        known["rmse"] = known["mse"] ** 0.5
        off = max(off, *(abs(found[key] - value) / max(1, abs(value))
                         for found in (merged, whole) for key, value in known.items()))  # fmt: skip
        larger = score(k * p, k * y)
        ratios = [
            larger["mse"] / whole["mse"] / k**2,
            larger["rmse"] / whole["rmse"] / k,
            larger["mae"] / whole["mae"] / k,
        ]
        scaled = np.maximum(scaled, np.abs(np.subtract(ratios, 1)))
        gap = min(gap, float(whole["rmse"] - whole["mae"]))
        signs = score(y + k * random.choice([-1, 1], n), y)
        even = max(even, float(abs(signs["rmse"] - signs["mae"])) / k)
        negative += bool(whole["r2"] < 0)
    names = "MSE by k^2", "RMSE by k", "MAE by k"
    yield measured(
        "units", *(Quantity(f"largest error of scaling {a}", b, "<", 1e-9) for a, b in zip(names, scaled, strict=True))
    )
    yield measured(
        "largest",
        Quantity(f"smallest RMSE - MAE, {cases:,} vectors of unequal errors", gap, ">", 0.0),
        Quantity("largest |RMSE - MAE| for errors of equal size", even, "<", EXACT),
    )
    y = np.arange(5.0)
    yield measured(
        "r2",
        Quantity(f"largest relative difference, {cases:,} cases", off, "<", 1e-9),
        Quantity("R^2 of the mean", score(np.full(5, 2.0), y)["r2"], "==", 0),
        Quantity("R^2 of twice the mean", score(np.full(5, 4.0), y)["r2"], "<", 0.0),
        Quantity("cases with a negative R^2", negative, ">", 0),
    )


def of_ranks(cases: int, random: np.random.Generator) -> Finding:
    """Compares metrics that depend on the order of the scores; half of the cases have ties."""
    from scipy import stats
    from sklearn import metrics as peer

    off, one_class = np.zeros(3), 0
    for i in range(cases):
        n = int(random.integers(5, 60))
        s = random.integers(0, 9, n) / 8 if i % 2 else random.normal(size=n)
        y, other = random.random(n) < 0.3 * (i % 20 > 0), s + np.round(random.normal(size=n), 1)
        if y.all() or not y.any():
            one_class += bool(np.isnan(metrics.roc_auc(s, y)))
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy's, if all scores are equal
            known = peer.roc_auc_score(y, s), peer.average_precision_score(y, s), stats.spearmanr(s, other).statistic
        ours = metrics.roc_auc(s, y), metrics.average_precision(s, y), metrics.spearman(s, other)
        off = np.maximum(off, np.nan_to_num(np.abs(np.subtract(ours, known))))
    names = "ROC area", "average precision", "Spearman's correlation"
    found = [Quantity(f"{name}, largest difference", value, "<", EXACT) for name, value in zip(names, off, strict=True)]
    return measured("ranking", *found, Quantity("cases with one class, all NaN", one_class, ">", 0))


def of_losses(cases: int, random: np.random.Generator) -> Iterator[Finding]:
    """Looks for a negative loss, and compares cross-entropy with entropy and divergence."""
    from scipy import stats

    z, t = (jnp.asarray(5 * random.normal(size=(cases, 7))) for _ in range(2))
    labels = jnp.asarray(random.integers(0, 7, cases))
    values = {
        "squared error": losses.squared_error(z, t), "absolute error": losses.absolute_error(z, t),
        "Huber": losses.huber(z, t), "softmax cross-entropy": losses.softmax_cross_entropy(z, labels),
        "sigmoid cross-entropy": losses.sigmoid_cross_entropy(z, t > 0),
        "Gaussian KL": losses.gaussian_kl(z, t),
    }  # fmt: skip
    yield measured("losses", *(Quantity(f"smallest {name}", float(v.min()), ">=", 0.0) for name, v in values.items()))
    p, q = random.dirichlet(np.ones(5), (2, cases))
    divergence = metrics.kl_divergence(p, q)
    sums = metrics.entropy(p) + divergence
    off = np.abs(divergence - stats.entropy(p, q, axis=-1)).max()
    yield measured(
        "distributions",
        Quantity("largest |H(p, q) - H(p) - KL|", np.abs(metrics.cross_entropy(p, q) - sums).max(), "<", EXACT),
        Quantity("smallest H(p, q) - H(p)", (metrics.cross_entropy(p, q) - metrics.entropy(p)).min(), ">", 0.0),
        Quantity("largest |H(p, p) - H(p)|", np.abs(metrics.cross_entropy(p, p) - metrics.entropy(p)).max(), "==", 0),
        Quantity("largest difference from SciPy's KL", off, "<", EXACT),
    )
