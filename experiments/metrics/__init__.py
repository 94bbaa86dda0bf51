"""Metrics: what each number about a model measures, on classifiers of digits and on random cases.

Accuracy hides a rare class, precision and recall pull in opposite directions, RMSE is in the units of the target and
MSE is not. The experiment trains a linear classifier and a network with a hidden layer on digits, asks for one digit
("is this an 8?", one image in ten) at every threshold, and compares the two classifiers image by image.

It also checks every metric against scikit-learn on random cases with ties, single classes and absent classes.

    precision = TP / (TP + FP)    recall = TP / (TP + FN)    F1 = 2 TP / (2 TP + FP + FN)
    micro F1: of the summed counts, with one class per example the accuracy; macro F1: the mean over the classes
    MSE = mean e^2    RMSE = sqrt(MSE)    MAE = mean |e|    R^2 = 1 - sum e^2 / sum (y - mean y)^2, at most 1
    GSB: (examples on which A is better - examples on which B is better) / n, with a sign test

    python -m experiments.metrics                    # digits, no files needed
    python -m experiments.metrics --positive=1 --cases=100

Van Rijsbergen 1979 (F score); Hanley and McNeil 1982 (area under the ROC curve); Dixon and Mood 1946 (sign test).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import linen as nn

from experiments.metrics import checks
from jaxdl import losses, metrics, run
from jaxdl.core import Experiment
from jaxdl.data import Data, load_images, pixels01
from jaxdl.nn import MLP
from jaxdl.run import Claim, Quantity, flag, plots
from jaxdl.run.store.runs import format_table
from jaxdl.supervision import supervised

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAMILY = "foundations"
FIGURE = "thresholds"  # shown on the page of results
CLAIMS = {
    "spaces": Claim("As numbers, a wrong answer costs its distance from the truth; as classes, all cost the same",
                    "A03"),
    "record": Claim("The check of a batch against its typed record names the field that is wrong", "B01"),
    "accuracy": Claim("The accuracy equals scikit-learn's", "C01"),
    "confusion": Claim("The confusion matrix equals scikit-learn's; rows are true classes, columns predictions", "C02"),
    "precision": Claim("Precision equals scikit-learn's, and is zero for a class that is never predicted", "C03"),
    "recall": Claim("Recall equals scikit-learn's, and is zero for a class without examples", "C04"),
    "tradeoff": Claim("While the threshold rises, recall never rises, and precision ends higher than it began", "C05",
                      headline=True),
    "f1": Claim("F1 equals scikit-learn's", "C06"),
    "micro": Claim("With one class per example, micro F1 equals the accuracy", "C07"),
    "imbalance": Claim("A predictor of the most frequent class has a high micro F1 and a low macro F1", "C08",
                       headline=True),
    "units": Claim("If targets are scaled by k, MSE is scaled by its square, RMSE and MAE by k", "C09 C10"),
    "largest": Claim("RMSE is at least MAE, and equal only if all errors are equally large", "C11"),
    "r2": Claim("MSE, RMSE, MAE and R^2 equal scikit-learn's, also merged from pieces; R^2 can be negative",
                "C09 C10 C11 C12"),
    "ranking": Claim("ROC area, average precision and rank correlation equal scikit-learn's and SciPy's, with ties"),
    "gsb": Claim("Two classifiers compared image by image: counts add up, exchanging them flips the sign", "C13",
                 headline=True),
    "losses": Claim("Training losses are never negative", "D01"),
    "without_loss": Claim("The test metrics follow from predictions and labels alone, without any loss", "D01"),
    "binary": Claim("The notes' example of binary cross-entropy, with both logarithms", "D05"),
    "classes": Claim("The notes' table of three samples: mean cross-entropy, and the worst sample costs most", "D06"),
    "distributions": Claim("Cross-entropy is entropy plus divergence, and smallest where the distributions are equal",
                           "D07"),
}  # fmt: skip
SMALL = {"cases": 100, "steps": 200}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    dataset: str = flag("digits", "images", choices=("digits", "glyphs"))
    positive: str = flag("8", "the class whose images are to be found")
    hidden: int = flag(16, "hidden units of the second classifier", minimum=1)
    cases: int = flag(1000, "random cases that are compared with scikit-learn", minimum=10)
    steps: int | None = 300
    learning_rate: float = 3e-3
    devices: int = 1


def data(config: Config) -> Data:
    """Loads the images.

    Raises:
      FlagError: --positive is not the name of a class.
    """
    images = load_images(config.dataset, valid=config.valid_fraction)
    if config.positive not in images.names:
        raise run.FlagError(f"--positive={config.positive}: must be one of {' '.join(images.names)}")
    return images.data(config.batch_size)


def build(config: Config, data: Data, hidden: int | None = None) -> Experiment:
    """Builds a classifier whose evaluation counts for each class; `hidden` units, 0 for a linear one."""
    units, classes = config.hidden if hidden is None else hidden, len(data.facts["names"])
    base = supervised(
        MLP((units, classes) if units else (classes,)),
        config.make_optimizer(data),
        example=data.example,
        inputs=lambda batch: (pixels01(batch["x"]),),
        loss=lambda logits, batch: losses.softmax_cross_entropy(logits, batch["y"]),
        predict=nn.softmax,
    )
    assert base.evaluate is not None
    assert base.predict is not None
    scores, predict = base.evaluate, base.predict

    def evaluate(state: Any, batch: Any) -> Any:
        found = predict(state, batch).argmax(-1)
        counts = metrics.class_counts(found, batch["y"], classes, batch["mask"])
        return scores(state, batch) | {"counts": counts}

    def summarize(sums: Any) -> dict[str, float]:
        loss, counts = sums["loss"], sums["counts"]
        f1 = {f"{average}_f1": metrics.f1(counts, average) for average in ("micro", "macro")}
        found = {"loss": loss.sum / loss.weight, "accuracy": counts.correct.sum() / loss.weight, **f1}
        return {name: float(value) for name, value in found.items()}

    return base._replace(evaluate=evaluate, summarize=summarize)


inference = run.of_images


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Checks the metrics on random cases and the notes' examples, then trains the two classifiers."""
    yield from checks.examples()
    yield from checks.random_cases(config.cases, config.seed)
    linear = run.fit(build(config, data, 0), data, config, name="linear")
    mlp = run.fit(build(config, data), data, config, name="mlp")
    yield from of_one(config, data, linear)
    yield compared(data, mlp, linear)


def of_one(config: Config, data: Data, result: run.Result) -> Iterator[run.Finding]:
    """Measures one classifier on the test images: at every threshold, beside a predictor that always says no."""
    names, y = data.facts["names"], data.test.arrays["y"]
    p = np.asarray(result.predict(data.test), np.float64)
    guess = p.argmax(-1)
    counts = metrics.counts_of(metrics.confusion_matrix(y, guess, len(names)))
    again = {"accuracy": (guess == y).mean(), "macro_f1": metrics.f1(counts, "macro")}
    differences = [abs(result.runs[0].metrics[name] - value) for name, value in again.items()]
    yield run.measured("without_loss", Quantity("largest difference from the evaluation", max(differences), "<", 1e-6))

    positive = names.index(config.positive)
    truth = y == positive
    curve = metrics.threshold_curve(p[:, positive], truth)
    yield tradeoff(config, curve)
    always = metrics.counts_of(metrics.confusion_matrix(truth, np.zeros(len(truth), int), 2))
    micro, macro = (float(metrics.f1(always, average)) for average in ("micro", "macro"))
    trained = metrics.counts_of(metrics.confusion_matrix(truth, guess == positive, 2))
    ours = {average: float(metrics.f1(trained, average)) for average in ("micro", "macro")}
    yield run.measured(
        "imbalance",
        Quantity("micro F1, always no", micro, ">", 0.85),
        Quantity("macro F1, always no", macro, "<", 0.5),
        Quantity("gain of the classifier in micro F1", ours["micro"] - micro),
        Quantity("gain of the classifier in macro F1", ours["macro"] - macro, ">", ours["micro"] - micro),
    )
    always_no = {"always no": (micro, macro), "classifier": (ours["micro"], ours["macro"])}
    run.save_figure(config, "thresholds", lambda: picture(config.positive, curve, always_no))


def tradeoff(config: Config, curve: metrics.Curve) -> run.Finding:
    """Prints precision and recall at some thresholds; measures whether recall ever rises with the threshold."""
    f1 = metrics.f1(metrics.Counts(curve.correct, curve.predicted, curve.positives))
    last = lambda t: int(np.sum(curve.thresholds >= t)) - 1  # of the examples with a score of at least t
    rows = [["threshold", "found", "precision", "recall", "F1", ""]]
    for t in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
        if (i := last(t)) >= 0:
            cells = (t, curve.predicted[i], curve.precision[i], curve.recall[i], f1[i])
            rows.append([*(f"{value:.3g}" for value in cells), ""])
    text = f"Is this image {config.positive!r}? {curve.positives} of {curve.predicted[-1]} are.\n{format_table(rows)}"
    run.log(text)
    run.save_text(config, "thresholds", text + "\n")
    strict = max(last(0.9), 0)
    return run.measured(
        "tradeoff",
        Quantity("largest rise of recall while the threshold rises", np.max(-np.diff(curve.recall)), "<=", 0.0),
        Quantity("precision at threshold 0.9 - at 0", curve.precision[strict] - curve.precision[-1], ">", 0.0),
        Quantity("recall at threshold 0 - at 0.9", curve.recall[-1] - curve.recall[strict], ">", 0.0),
        Quantity("thresholds", len(curve.thresholds)),
    )


def compared(data: Data, a: run.Result, b: run.Result) -> run.Finding:
    """Compares two classifiers image by image, in both orders."""
    y = data.test.arrays["y"]
    right = [np.asarray(result.predict(data.test)).argmax(-1) == y for result in (a, b)]
    one, other = metrics.gsb(*right), metrics.gsb(*right[::-1])
    return run.measured(
        "gsb",
        Quantity("images on which the network is better", one.good),
        Quantity("images on which both are as good", one.same),
        Quantity("images on which the linear classifier is better", one.bad),
        Quantity("good + same + bad - images", one.n - len(y), "==", 0),
        Quantity("(G - B) / n", one.balance),
        Quantity(
            "difference from the gain in accuracy", abs(one.balance - right[0].mean() + right[1].mean()), "<", 1e-12
        ),
        Quantity("p value of the sign test", one.p),
        Quantity("sum of both orders", abs(one.balance + other.balance), "==", 0),
    )


def picture(positive: str, curve: metrics.Curve, f1: Mapping[str, tuple[float, float]]) -> "Figure":
    """Draws precision and recall over the threshold, one over the other, and micro and macro F1 of two predictors."""
    figure, (left, middle, right) = plots.new_figure(12, 3.8, 1, 3)
    left.step(curve.thresholds, curve.precision, where="post", label="precision")
    left.step(curve.thresholds, curve.recall, where="post", label="recall")
    left.set(xlabel="threshold", title=f"Is this image {plots.literal(positive)!r}?", ylim=(0, 1.02), xlim=(0, 1))
    left.legend(fontsize=8, loc="lower center")
    share = curve.positives / curve.predicted[-1]
    middle.plot(curve.recall, curve.precision, "C2", label="classifier")
    middle.axhline(share, color="0.5", linestyle="--", linewidth=1, label=f"guessing: {share:.2f}")
    middle.set(xlabel="recall", ylabel="precision", title="Each gains what the other loses", ylim=(0, 1.02))
    middle.legend(fontsize=8, loc="lower left")
    places = np.arange(len(f1))
    for i, (name, colour) in enumerate((("micro F1 = accuracy", "C0"), ("macro F1", "C3"))):
        bars = right.bar(
            places + 0.38 * (i - 0.5), [values[i] for values in f1.values()], 0.36, label=name, color=colour
        )
        right.bar_label(bars, fmt="%.2f", fontsize=8)
    right.set(xticks=places, title="A rare class needs macro F1", ylim=(0, 1.25))
    right.set_xticklabels(list(f1))
    right.legend(fontsize=8, loc="upper left", ncols=2)
    for axis in (left, middle):
        axis.grid(alpha=0.25)
    return figure
