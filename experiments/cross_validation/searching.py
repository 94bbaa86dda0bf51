"""Random search on inner folds, scored on outer ones; on digits and on labels of noise."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.cross_validation.samples import build, drawn, members
from jaxdl import run
from jaxdl.data import Batches, k_folds
from jaxdl.run import Quantity
from jaxdl.run.command import search

INNER = 3  # folds of the rows outside of an outer fold
NOISY_ROWS, COINS = 100, 60  # images, and draws of labels for them


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


def space_of(config: Any) -> search.Space:
    """Returns what the search varies, in the words of --sweep."""
    return search.space(type(config), "learning_rate=loguniform(1e-3,1);penalty=loguniform(1e-5,1)")


def nested(
    config: Any, name: str, x: np.ndarray, y: np.ndarray, trials: dict[int, dict[str, Any]] | None = None
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


def searched(config: Any, x: np.ndarray, y: np.ndarray, name: str) -> Nested:
    """Searches on one small sample of the digits."""
    rows = drawn(config, len(y))[: config.sample]
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


def repeated(config: Any, x: np.ndarray, y: np.ndarray, found: Nested, name: str) -> run.Finding:
    """Draws the chosen trial again from its seed and number, and trains it without any other trial."""
    at = int(found.chosen[0, 0])
    i = [*found.trials][at]
    again = search.trial(space_of(config), config.seed, i)
    rows = drawn(config, len(y))[: config.sample]
    alone = nested(config, name, x[rows], y[rows, None], dict.fromkeys(found.trials, again))
    kernels = [np.asarray(one.state.learner.params["kernel"]) for one in (found, alone)]
    first, second = (k.reshape(len(k), -1, len(found.trials), int(y.max()) + 1)[:, :, at] for k in kernels)
    return run.measured(
        "repeat",
        Quantity("number of the trial", i),
        Quantity("flags that differ", sum(found.trials[i][name] != value for name, value in again.items()), "==", 0),
        Quantity("weights that differ", np.sum(first != second), "==", 0, f"of {first.size:,}"),
    )


def noisy(config: Any, x: np.ndarray, name: str) -> Nested:
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
