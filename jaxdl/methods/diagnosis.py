"""Diagnosis of a training run: a pure function from measured numbers to the faults that explain them.

A fault is seen if its score is at least 1. Scores are ratios of a number to its threshold; where several conditions
must hold, the score is the smallest ratio. The rules are ordered: the cause comes before what it causes, so the first
fault that is seen is the diagnosis.

Most rules apply only to a poor fit: a network that predicts its own training rows worse than simple models predict them
when they are held out. A fault that does no harm is not a diagnosis, except for gradients that are missing although
nothing was frozen.

The thresholds were set on an MLP of 64-64 units, on the digits and on spirals, with momentum and with Adam: three runs
for each of twenty planted faults. Each is near the geometric mean of the two values that it has to separate, which its
comment names; the experiment `diagnose` measures how they fare on other networks.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

MODEL_BIAS, OPTIMISATION, OVERFITTING, MISMATCH = "model bias", "optimisation", "over-fitting", "mismatch"
RATE_HIGH, RATE_LOW = "learning rate too large", "learning rate too small"
DEAD, LABELS, SCALES, GRADIENT = "dead units", "meaningless labels", "unscaled inputs", "missing gradients"
EQUAL, INITIAL, VANISHING = "equal units", "large initial weights", "vanishing gradients"

POOR = (
    0.05  # accuracy or R^2 below simple models: healthy runs were above them by 0 or more, poor ones 0.06 or more below
)
GAP = 0.1  # between two parts: healthy runs had 0.04 or less, over-fitted and mismatched ones 0.15 or more
SCALE = 10.0  # root mean square of an input: initialisers assume 1 (He et al. 2015); standardised and 0..1 have < 2
SHARE = 0.5  # of a layer's units, or of the parameters: healthy runs had 0.1 or less, faulty ones 0.67 or more
START = 5.0  # initial loss / loss of the best constant: 1 to 1.2 in healthy runs, 1,000 or more with large weights
VANISH = 1e-3  # smallest / largest gradient of a layer: 0.07 or more in healthy runs, 1e-5 or less in deep sigmoids
SOONER = 1.4  # loss / loss after a short trial at a lower rate: 1.1 or less, or 1.8 or more if the rate was too large
FALLS = 0.25  # share by which the loss falls in a trial: 0.07 or less at a plateau, 0.98 in runs that were too short
LEAST = 0.1  # a larger rate must be three times better than the run's own, or than this: 0.1 at a plateau, else 0.5
RISE = 1.5  # last / best validation loss, where no scores are known
AUC = 0.75  # of telling training from test rows apart, where there is no validation part: 0.5 for rows of one kind
NAN = math.nan


class Evidence(NamedTuple):
    """What was measured of a run; NaN: not measured.

    train, valid, test: accuracy or R^2 on rows of each part. valid_noise, test_noise: three standard errors of them.
    probe: the score of simple models on held-out training rows. chance: the score of the best constant prediction.
    beyond, noise: how far labels are predictable beyond chance, and three standard errors of that.
    loss, start_loss, constant_loss: on training rows, at the end, at the start, of the best constant prediction.
    same, higher: loss after a trial from the last state at the rate of the run, and the best after short ones at higher
    rates. again, lower: loss after a short trial from the initial state at the rate of the run, and the best at lower
    rates. rate, higher_rate, lower_rate: the rates. last_rate: at the last step. diverged: the step at which a number
    was not finite; 0: unknown step. scale: largest root mean square of an input.
    equal, dead, missing, vanishing: see `probes.Structure`. frozen: whether parameters were frozen on purpose.
    auc: of telling training and test rows apart. rise: last / best validation loss. layers: names, for the text.
    """

    train: float = NAN
    valid: float = NAN
    test: float = NAN
    valid_noise: float = 0.0
    test_noise: float = 0.0
    probe: float = NAN
    chance: float = NAN
    beyond: float = NAN
    noise: float = 0.0
    loss: float = NAN
    start_loss: float = NAN
    constant_loss: float = NAN
    same: float = NAN
    higher: float = NAN
    again: float = NAN
    lower: float = NAN
    rate: float = NAN
    higher_rate: float = NAN
    lower_rate: float = NAN
    last_rate: float = NAN
    diverged: float = NAN
    scale: float = NAN
    equal: float = NAN
    dead: float = NAN
    missing: float = NAN
    frozen: float = 0.0
    vanishing: float = NAN
    auc: float = NAN
    rise: float = NAN
    layers: str = ""


class Advice(NamedTuple):
    """What to do next: in words, and alternatives (flag, value), of which the first that an experiment has applies.

    A value None removes the flag, "x4" is four times its value, and {"a": "b"} replaces a by b.
    """

    words: str
    flags: tuple[tuple[str, object], ...] = ()


class Diagnosis(NamedTuple):
    """A fault, its score (seen from 1 on), the numbers behind it and what to try next."""

    fault: str
    score: float
    evidence: str
    advice: Advice


BIGGER = (
    ("width", "x4"), ("hidden", "128,128"), ("model", {"softmax": "mlp", "mlp": "cnn"}), ("net", {"linear": "mlp"}),
)  # fmt: skip
LONGER = (("steps", "x4"), ("epochs", "x4"))


class Rule(NamedTuple):
    """One fault: Evidence -> its score, the numbers in words, and advice."""

    fault: str
    score: Callable[[Evidence], float]
    says: Callable[[Evidence], str]
    advice: Callable[[Evidence], Advice]


def over(value: float, limit: float) -> float:
    """Returns value / limit for a limit > 0, at least 0; 0 if the value was not measured."""
    return 0.0 if math.isnan(value) else max(0.0, value / limit)


def poor(e: Evidence) -> float:
    """Returns how far the fit of the training rows is below simple models; a diverged run counts as poor."""
    return max(over(e.probe - e.train, POOR), float(not math.isnan(e.diverged)))


def fall(e: Evidence, after: float) -> float:
    """Returns the share by which a trial lowers the loss; NaN if unknown, negative if the loss rises."""
    return 1 - after / e.loss if e.loss > 0 else NAN


def labels(e: Evidence) -> float:
    """Neither simple models nor the network on validation rows are better than chance, by three standard errors."""
    unknown = math.isnan(e.beyond) or math.isnan(e.valid)
    least = 0.0 if unknown else max(e.valid - e.chance, 1e-3)
    return 0.0 if unknown else min(max(0.1, e.noise) / max(e.beyond, 1e-3), max(GAP / 2, e.valid_noise) / least)


def rate_high(e: Evidence) -> float:
    """It diverged, or a short trial at a lower rate went further than the run and than trials at the run's own rate."""
    sooner = min(e.loss, e.again, e.same) / e.lower if e.lower > 0 else NAN
    return max(float(not math.isnan(e.diverged)), over(sooner, SOONER))


def rate_low(e: Evidence) -> float:
    """At a higher rate the loss falls at least three times as far in the same number of steps."""
    return over(fall(e, e.higher), 3 * max(LEAST, fall(e, e.same))) if e.loss > 0 else 0.0


def plateau(e: Evidence) -> float:
    """Returns 1 or more if no trial lowers the loss by the share FALLS; 0 if all of them raise it as much."""
    best = max(fall(e, e.same), fall(e, e.higher)) if e.loss > 0 else NAN
    return 0.0 if math.isnan(best) or best < -FALLS else FALLS / max(best, 1e-3)


def overfitting(e: Evidence) -> float:
    """The training score is high and that of validation rows is lower; without scores the validation loss rises."""
    gap = over(e.train - e.valid, max(GAP, e.valid_noise))
    if math.isnan(e.train - e.valid):
        return over(e.rise, RISE)
    return 0.0 if poor(e) >= 1 else gap


def mismatch(e: Evidence) -> float:
    """The test score is below that of validation rows; without a validation part the inputs must differ too."""
    if math.isnan(e.valid):
        return min(over(e.train - e.test, max(GAP, e.test_noise)), over(e.auc, AUC))
    return over(e.valid - e.test, max(GAP, e.test_noise))


def number(value: float) -> str:
    """Formats a number of the evidence; NaN as "not measured"."""
    return "not measured" if math.isnan(value) else f"{value:.3g}"


def _high(e: Evidence) -> str:
    found = list[str]()
    if not math.isnan(e.diverged):
        found.append(f"not finite at step {e.diverged:.0f}" if e.diverged else "not finite")
    if not math.isnan(e.loss):
        found.append(f"loss {number(e.loss)} at the end")
    if not math.isnan(e.again):
        found.append(
            f"from the same start a short trial reaches {number(e.again)} at the rate of the run, {number(e.lower)} at "
            f"{number(e.lower_rate)}"
        )
    return "; ".join(found) or "not measured"


def _ended(e: Evidence) -> str:
    return f", whose schedule has ended at {number(e.last_rate)}" if e.last_rate < e.rate / 10 else ""


def _fit(e: Evidence) -> str:
    return f"training score {number(e.train)}, simple models {number(e.probe)} held out"


def _mismatch(e: Evidence) -> str:
    scores = f"training score {number(e.train)}, validation score {number(e.valid)}, test score {number(e.test)}"
    if math.isnan(e.auc):
        return scores
    differ = "the inputs differ" if e.auc >= AUC else "equal inputs: their labels differ"
    return f"{scores}; a classifier tells training from test inputs with AUC {number(e.auc)} ({differ})"


RULES = (
    Rule(
        LABELS, labels,
        lambda e: f"labels predictable beyond chance: {number(e.beyond)} by simple models (noise up to "
        f"{number(max(0.1, e.noise))}); validation score {number(e.valid)}, chance {number(e.chance)}",
        lambda e: Advice("compare some inputs with their labels: their order or source may differ"),
    ),
    Rule(
        SCALES, lambda e: min(max(poor(e), over(e.start_loss / e.constant_loss, START)), over(e.scale, SCALE)),
        lambda e: f"the largest root mean square of an input is {number(e.scale)} (1 is assumed); {_fit(e)}",
        lambda e: Advice("standardise the inputs by the means and deviations of the training rows"),
    ),
    Rule(
        EQUAL, lambda e: min(poor(e), over(e.equal, SHARE)),
        lambda e: f"in {number(100 * e.equal)}% of the layers all units have equal weights, at the start and at the "
        f"end: {e.layers or 'all'}; {_fit(e)}",
        lambda e: Advice("draw the initial weights at random, so that units can differ"),
    ),
    Rule(
        DEAD, lambda e: min(poor(e), over(e.dead, SHARE)),
        lambda e: f"at the start {number(100 * e.dead)}% of a layer's units get gradient 0 from every row: "
        f"{e.layers or 'a layer'}; {_fit(e)}",
        lambda e: Advice("start with biases of 0, or use an activation with a slope everywhere"),
    ),
    Rule(
        GRADIENT, lambda e: min(poor(e) if e.frozen else 1e3, over(e.missing, SHARE)),
        lambda e: f"{number(100 * e.missing)}% of the parameters affect the loss and never change: "
        f"{e.layers or 'some layers'}; {_fit(e)}",
        lambda e: Advice("look for stop_gradient, integers or a frozen optimiser on the way to these layers",
                         (("freeze", None),)),
    ),
    Rule(
        VANISHING, lambda e: min(poor(e), VANISH / e.vanishing if e.vanishing > 0 else 0.0),
        lambda e: f"at the start the gradient of {e.layers or 'one layer'} is {number(e.vanishing)} of the largest; "
        f"{_fit(e)}",
        lambda e: Advice("use ReLU, normalisation or skip connections, or fewer layers"),
    ),
    Rule(
        INITIAL, lambda e: min(poor(e), over(e.start_loss / e.constant_loss, START)),
        lambda e: f"the initial loss is {number(e.start_loss)}, that of the best constant {number(e.constant_loss)}; "
        f"{_fit(e)}",
        lambda e: Advice("scale the initial weights by 1 / sqrt(number of inputs)"),
    ),
    Rule(
        RATE_HIGH, lambda e: min(poor(e), rate_high(e)),
        _high,
        lambda e: Advice("lower the learning rate", (("learning_rate", first(e.lower_rate, e.rate / 10)),)),
    ),
    Rule(
        RATE_LOW, lambda e: min(poor(e), rate_low(e)),
        lambda e: f"loss {number(e.loss)} at the end; in a short trial it falls to {number(e.same)} at the rate of the "
        f"run, to {number(e.higher)} at {number(e.higher_rate)}",
        lambda e: Advice("raise the learning rate", (("learning_rate", first(e.higher_rate, e.rate * 10)),)),
    ),
    Rule(
        OPTIMISATION, lambda e: min(poor(e), over(fall(e, e.same), FALLS)),
        lambda e: f"loss {number(e.loss)} at the end falls to {number(e.same)} in a trial at the rate of the run"
        f"{_ended(e)}; {_fit(e)}",
        lambda e: Advice("keep the rate up for longer", (("schedule", "constant"), *LONGER)) if _ended(e)
        else Advice("train for more steps", LONGER),
    ),
    Rule(
        MODEL_BIAS, lambda e: min(poor(e), plateau(e)),
        lambda e: f"{_fit(e)}; no trial lowers the loss {number(e.loss)} by {FALLS:.0%} (at best to "
        f"{number(min(e.same, e.higher))})",
        lambda e: Advice("use a larger network: more units or layers, other inputs", BIGGER),
    ),
    Rule(
        OVERFITTING, overfitting,
        lambda e: f"training score {number(e.train)}, validation score {number(e.valid)}"
        if not math.isnan(e.train - e.valid) else f"the validation loss ends at {number(e.rise)} times its minimum",
        lambda e: Advice("use more data, a penalty, dropout, or stop early", (("patience", 3), ("weight_decay", 0.01))),
    ),
    Rule(
        MISMATCH, mismatch,
        _mismatch,
        lambda e: Advice("train on rows like those of the test part, or change the inputs so that the parts agree"),
    ),
)  # fmt: skip
FAULTS = tuple(rule.fault for rule in RULES)
WITHOUT_TRIALS = FAULTS[: FAULTS.index(RATE_HIGH)]
"""Faults that are decided before any trial: they explain a poor fit at every learning rate."""


def first(*values: float) -> float:
    """Returns the first value that is finite, else NaN."""
    return next((value for value in values if math.isfinite(value)), NAN)


def diagnose(evidence: Evidence, rules: Sequence[Rule] = RULES) -> list[Diagnosis]:
    """Returns all faults with their scores: those that are seen first, in the order of the rules, then the others."""
    found = [Diagnosis(r.fault, r.score(evidence), r.says(evidence), r.advice(evidence)) for r in rules]
    return sorted(found, key=lambda one: one.score < 1)


def seen(found: Sequence[Diagnosis]) -> list[Diagnosis]:
    """Returns the faults with a score of at least 1."""
    return [one for one in found if one.score >= 1]


def summary_of(e: Evidence) -> str:
    """Returns the numbers that speak for a healthy run, without those that were not measured."""
    numbers = {
        "training score": e.train,
        "validation score": e.valid,
        "test score": e.test,
        "simple models": e.probe,
        "training loss at the start": e.start_loss,
        "at the end": e.loss,
        "last / best validation loss": e.rise,
        "scale of the inputs": e.scale,
        "dead units": e.dead,
        "gradients missing": e.missing,
        "smallest / largest gradient": e.vanishing,
        "AUC of training and test inputs": e.auc,
    }
    known = [f"{name} {number(value)}" for name, value in numbers.items() if not math.isnan(value)]
    return ", ".join(known) or "nothing was measured"
