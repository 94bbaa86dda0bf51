"""Measurements of a training run from its initial and its last state, and a few hundred rows of each part.

All functions are pure. Those that run a network take `compiled`, which makes a function faster without changing its
values: `jaxdl.run.compiled`, or the identity.

    scores        loss, accuracy, R^2 of a state on some rows          Look
    structure     equal and dead units, gradients by layer             Structure
    trials        the loss after a few more steps at other rates
    labels        how well simple models predict the labels            Labels
    input_scale   root mean squares of the inputs
    domain_auc    how well a classifier tells two sets of rows apart
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.core import Experiment
from jaxdl.data import Batches
from jaxdl.optim.paths import path_of

Rows = Mapping[str, np.ndarray]
Compiled = Callable[[Callable[..., Any]], Callable[..., Any]]
FEWEST, MOST = 10, 512  # rows
TRIAL = 60  # steps of a trial


class Look(NamedTuple):
    """metrics: as `summarize` reports them. gradient: of the loss with respect to the parameters, on the host."""

    metrics: dict[str, float]
    gradient: Any


class Structure(NamedTuple):
    """Faults of single layers; shares in 0..1, NaN if unknown.

    equal: share of kernels whose units are all equal at the start and at the end. dead: at the start, the largest share
    of a layer's units whose weights get gradient 0 from every row. missing: share of the parameters that affect the
    loss but never change. vanishing: smallest / largest root mean square of a layer's gradient at the start. names: of
    the layers concerned, by field.
    """

    equal: float
    dead: float
    missing: float
    vanishing: float
    names: Mapping[str, Sequence[str]]


class Labels(NamedTuple):
    """Labels of rows and how well simple models predict them, held out.

    kind: "classes", "numbers" or "" if there are no labels of one kind per row. chance: score of the best constant.
    score: accuracy or R^2 of the better model. beyond: Cohen's kappa of it for classes, R^2 for numbers. noise: three
    standard errors of `beyond` for meaningless labels. constant: loss of the best constant prediction: entropy for
    classes, variance for numbers.
    """

    kind: str
    chance: float = np.nan
    score: float = np.nan
    beyond: float = np.nan
    noise: float = np.nan
    constant: float = np.nan


def first_rows(part: Any, most: int = MOST, seed: int = 0) -> dict[str, np.ndarray] | None:
    """Returns at most `most` rows of a part as a batch, drawn without replacement; None if it is not in memory."""
    if isinstance(part, Mapping) and part and all(isinstance(one, Batches) for one in part.values()):
        part = next(iter(part.values()))
    if not isinstance(part, Batches):
        return None
    rows = np.sort(np.random.default_rng(seed).permutation(part.length)[:most])
    return {name: np.asarray(x) for name, x in part.take(part.arrays, rows).items()}


def padded(rows: Rows, size: int = MOST) -> dict[str, np.ndarray]:
    """Returns a batch of `size` rows with a mask that is 0 on repeated rows: parts of any size share one program."""
    count = len(next(iter(rows.values())))
    size = max(size, count)
    full = {"mask": np.ones(count, np.float32), **rows}
    repeated = {name: x[np.arange(size) % count] for name, x in full.items()}
    valid = (np.arange(size) < count).reshape(size, *[1] * (repeated["mask"].ndim - 1))
    return repeated | {"mask": np.where(valid, repeated["mask"], 0).astype(np.float32)}


def looker(experiment: Experiment, compiled: Compiled = lambda f: f) -> Callable[[Any, Rows], Look]:
    """Returns (state, rows) -> Look; one program computes the sums of `evaluate` and the gradient of its mean loss."""
    assert experiment.evaluate is not None
    evaluate = experiment.evaluate

    def loss(params: Any, state: Any, batch: Any) -> tuple[jax.Array, Any]:
        sums = evaluate(state.replace(learner=state.learner.replace(params=params)), batch)
        return sums["loss"].sum / sums["loss"].weight, sums

    def gradient(state: Any, batch: Any) -> tuple[Any, Any]:
        (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(state.learner.params, state, batch)
        return sums, grads

    call = compiled(gradient)

    def look(state: Any, rows: Rows) -> Look:
        sums, grads = jax.device_get(call(state, padded(rows)))
        return Look({name: float(x) for name, x in experiment.summarize(sums).items()}, grads)

    return look


def structure(look: Callable[[Any, Rows], Look], start: Any, end: Any, rows: Rows) -> Structure:
    """Examines the layers of a network at its initial and its last state.

    A unit is dead if the gradient of its weights is exactly 0 on all rows; this needs no knowledge of the activation.
    Where a whole layer has gradient 0, its weights are changed by noise of a tenth of their size: if the loss stays the
    same the layer is dead, if it changes the gradient is missing.
    """
    first = look(start, rows)
    before, after, grads = flat(start.learner.params), flat(end.learner.params), flat(first.gradient)
    kernels = [name for name, x in after.items() if name.endswith("kernel") and x.ndim > 1]
    units = lambda x: x.reshape(-1, x.shape[-1])
    several = [name for name in kernels if after[name].shape[-1] > 1]
    alike = lambda x: bool(np.allclose(units(x), units(x)[:, :1], rtol=1e-5, atol=1e-8))
    equal = [name for name in several if alike(before[name]) and alike(after[name])]
    still = [name for name in after if np.array_equal(before[name], after[name])]
    matters = lambda name: grads[name].any() or _matters(look, start, rows, name, first.metrics["loss"])
    fixed = [name for name in still if matters(name)] if len(still) < len(after) else []
    dead = {name: float(np.mean(~units(grads[name]).any(0))) for name in kernels if name not in fixed}
    sizes = {name: float(np.sqrt(np.mean(np.square(grads[name])))) for name in kernels if grads[name].any()}
    share = sum(after[name].size for name in fixed) / sum(x.size for x in after.values())
    names = {
        "equal": equal,
        "dead": [name for name, value in dead.items() if value >= 0.5],
        "missing": fixed,
        "vanishing": sorted(sizes, key=lambda name: sizes[name])[:1],
    }
    return Structure(
        equal=len(equal) / max(1, len(several)),
        dead=max(dead.values(), default=np.nan),
        missing=share if len(still) < len(after) else np.nan,
        vanishing=min(sizes.values()) / max(sizes.values()) if len(sizes) > 1 else np.nan,
        names=names,
    )


def flat(tree: Any) -> dict[str, np.ndarray]:
    """Returns the leaves of a pytree on the host, by path: {"Dense_0/kernel": array}."""
    return {path_of(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _matters(look: Callable[[Any, Rows], Look], state: Any, rows: Rows, name: str, loss: float) -> bool:
    def changed(path: Any, x: Any) -> Any:
        if path_of(path) != name:
            return x
        noise = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
        return x + noise * (0.1 * jnp.sqrt(jnp.mean(x**2)) + 1e-3)

    params = jax.tree.map_with_path(changed, state.learner.params)
    other = look(state.replace(learner=state.learner.replace(params=params)), rows).metrics["loss"]
    return other != loss  # exactly equal where no unit passes the change on


def trials(
    step: Callable[[Any, Any], tuple[Any, Any]],
    loss: Callable[[Any], float],
    state: Any,
    rows: Rows,
    peaks: Sequence[float],
    *,
    steps: int = TRIAL,
    checks: int = 1,
    batch_size: int = 64,
) -> list[float]:
    """Returns the loss on `rows` after `steps` more steps from `state` at each learning rate; inf if it diverges.

    checks: the median of so many losses in the second half of the trial, the last one after its last step; at a
    constant rate a single one may be a peak.
    """
    count, size = len(next(iter(rows.values()))), batch_size
    order = np.concatenate([np.random.default_rng(i).permutation(count) for i in range(-(-steps * size // count))])
    batches = [{name: x[order[t * size : (t + 1) * size]] for name, x in rows.items()} for t in range(steps)]
    looks = {steps - i * steps // (2 * checks) for i in range(checks)}
    found = []
    for peak in peaks:
        now, values = at_rate(state, peak), []
        for t, batch in enumerate(batches, 1):
            now, _ = step(now, batch)
            if t in looks:
                values.append(loss(now))
        fine = np.isfinite(values).all() and not int(now.learner.fault)
        found.append(float(np.median(values)) if fine else np.inf)
    return found


def at_rate(state: Any, peak: float) -> Any:
    """Returns a state whose optimisers have this learning rate, before their schedules' factors."""
    number = jnp.asarray(peak, jnp.float32)
    has = lambda node: isinstance(node, optax.InjectStatefulHyperparamsState) and "peak" in node.hyperparams
    put = lambda node: node._replace(hyperparams=node.hyperparams | {"peak": number}) if has(node) else node
    return jax.tree.map(put, state, is_leaf=has)


def labels(x: np.ndarray | None, y: np.ndarray | None) -> Labels:
    """Predicts the labels of rows from their inputs by 5 nearest neighbours and by ridge regression, in 5 folds.

    Args:
      x: [n, ...] inputs, standardised here.
      y: integers [n] or one-hot [n, K]: classes; floats [n] or [n, 1]: numbers; anything else, and
        integers that differ in most rows, are no such labels.
    """
    from sklearn.linear_model import Ridge, RidgeClassifier
    from sklearn.metrics import cohen_kappa_score
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    kind, target = label_kind(y)
    if not kind or x is None or target is None or len(target) < FEWEST:
        return Labels(kind)
    z, n = standardised(x), len(target)
    folds = KFold(5, shuffle=True, random_state=0)
    if kind == "numbers":
        target = target.astype(np.float64)
        guesses = [cross_val_predict(m, z, target, cv=folds) for m in (KNeighborsRegressor(5), Ridge(10.0))]
        variance = float(np.var(target))
        score = max(1 - float(np.mean((guess - target) ** 2)) / max(variance, 1e-30) for guess in guesses)
        return Labels(kind, 0.0, score, score, 3 / np.sqrt(n), variance)
    shares = np.unique(target, return_counts=True)[1] / n
    if len(shares) > n / 2:  # names of rows
        return Labels("")
    guesses = [cross_val_predict(m, z, target, cv=folds) for m in (KNeighborsClassifier(5), RidgeClassifier(10.0))]
    kappa = 0.0 if len(shares) < 2 else max(float(cohen_kappa_score(target, guess)) for guess in guesses)
    expected = float(np.sum(shares**2))
    noise = 3 * np.sqrt(expected / max(1 - expected, 1e-9) / n)
    score = max(float(np.mean(guess == target)) for guess in guesses)
    return Labels(kind, float(shares.max()), score, kappa, noise, float(-np.sum(shares * np.log(shares))))


def label_kind(y: np.ndarray | None) -> tuple[str, np.ndarray | None]:
    """Returns ("classes", integers [n]), ("numbers", floats [n]) or ("", None) for the labels of a batch."""
    if y is None:
        return "", None
    if y.ndim == 2 and y.shape[1] > 1:
        hot = bool(np.isin(y, (0, 1)).all()) and bool((y.sum(1) == 1).all())
        return ("classes", y.argmax(1)) if hot else ("", None)
    if y.ndim > 2 or (y.ndim == 2 and y.dtype.kind in "iub"):
        return "", None
    if y.dtype.kind in "iub":
        return "classes", y
    return ("numbers", y.reshape(-1)) if np.isfinite(y).all() else ("", None)


def standardised(x: np.ndarray) -> np.ndarray:
    """Returns rows [n, D] float64 with mean 0 and standard deviation 1 in each column; constant columns become 0."""
    z = np.asarray(x, np.float64).reshape(len(x), -1)
    deviation = z.std(0)
    return (z - z.mean(0)) / np.where(deviation > 1e-12 * np.abs(z).max(initial=1e-300), deviation, np.inf)


def input_scale(x: np.ndarray) -> tuple[float, float]:
    """Returns the largest root mean square of a column, and the largest / median standard deviation of a column."""
    z = np.asarray(x, np.float64).reshape(len(x), -1)
    deviations = z.std(0)
    moving = deviations[deviations > 0]
    ratio = float(moving.max() / np.median(moving)) if len(moving) else 1.0
    return float(np.sqrt(np.mean(z**2, 0)).max()), ratio


def domain_auc(x: np.ndarray, other: np.ndarray) -> float:
    """Returns the area under the ROC curve of a classifier that tells two sets of rows apart, in 5 folds.

    Ridge classification on the standardised columns and their squares; 0.5 for two samples of one distribution, NaN for
    fewer than FEWEST rows in a set.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if min(len(x), len(other)) < FEWEST:
        return np.nan
    z = standardised(np.concatenate([x.reshape(len(x), -1), other.reshape(len(other), -1)]))
    z = np.concatenate([z, standardised(z**2)], 1)
    side = np.repeat([0, 1], [len(x), len(other)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    found = cross_val_predict(RidgeClassifier(10.0), z, side, cv=folds, method="decision_function")
    return float(roc_auc_score(side, found))
