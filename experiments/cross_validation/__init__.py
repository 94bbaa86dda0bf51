"""Cross-validation: how accurate a classifier is, estimated from few rows, and how to choose its hyper-parameters.

An estimate from one held-out part of few rows is mostly luck: on 60 rows its standard error is four points. K-fold
cross-validation tests every row once, with a model that was not trained on it, and averages K such estimates. The
experiment draws small samples of several sizes from the digits and compares both estimates with the accuracy on all
other digits.

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

from collections.abc import Iterator

from experiments.cross_validation import estimating, recording, searching, splitting
from experiments.cross_validation.pictures import picture
from experiments.cross_validation.samples import build, data_of, digits
from jaxdl import run
from jaxdl.data import Data
from jaxdl.run import Claim, flag

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


def data(config: Config) -> Data:
    """Returns the digits, with the rows that each member of the family is trained on."""
    return data_of(config)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Measures the claims, with each seed drawing its own samples."""
    one = lambda s: config.replace(seed=s, seeds=1)
    each = [one(s) for s in range(config.seed, config.seed + config.seeds)]
    place = lambda name, c: f"{name}/seed{c.seed}" if config.seeds > 1 else name
    x, y = digits()
    yield splitting.parts(each, y)
    yield splitting.untouched(each, x, y)
    yield splitting.folds(y)
    found, fits = [], []
    for c in each:
        own = data if c.seed == config.seed else data_of(c)
        fits.append((c, own, run.fit(build(c, own), own, c, name=place("estimates", c))))
        found.append(estimating.estimates(c, x, y, fits[-1][2]))
    yield estimating.variance(config, found, data)
    yield estimating.large(config, found)
    yield estimating.peer(each[0], x, y, found[0])
    searches = [searching.searched(c, x, y, place("search", c)) for c in each]
    yield searching.of_search(searches)
    yield searching.repeated(each[0], x, y, searches[0], place("again", each[0]))
    noise = [searching.noisy(c, x, place("noise", c)) for c in each]
    yield searching.of_noise(noise)
    yield from recording.flags_and_parameters(config, *fits[0], place("estimates", each[0]))
    run.save_figure(config, "estimates", lambda: picture(each[0], found[0], searches[0], noise[0]))
