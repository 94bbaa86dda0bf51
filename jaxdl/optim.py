"""Optimisers and learning-rate schedules: one optax chain from a few numbers.

Notation: w parameters, g gradient, η learning rate, γ momentum, ε epsilon, t = 1, 2, ... the number of this update.
"""

import difflib
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")
SCHEDULES = ("constant", "step", "exponential", "cosine")


def schedule(
    name: str,
    learning_rate: float,
    *,
    steps: int | None = None,
    warmup: int = 0,
    decay_rate: float = 0.1,
    decay_every: int = 0,
    final_fraction: float = 0.0,
) -> optax.Schedule:
    """The learning rate η of update i = 0, 1, ...: linear warm-up, then with u = i - warmup

        constant     η
        step         η decay_rate^floor(u / decay_every)
        exponential  η decay_rate^(u / decay_every)
        cosine       η (f + (1 - f) (1 + cos(π u / U)) / 2),  f = final_fraction,  U = steps - warmup,  u <= U

    Warm-up: η (i + 1) / warmup for i < warmup. No update is wasted on rate 0 (optax's `warmup_*` start there), update
    warmup - 1 has the full rate and so has the first one of the decay. `steps` counts updates, not accumulated calls.

    Args:
      name: one of SCHEDULES.
      learning_rate: the peak η, >= 0.
      steps: updates in all, >= 1. Cosine needs it; step and exponential need it or `decay_every`.
      warmup: updates of warm-up, in [0, steps].
      decay_rate: factor per `decay_every` updates, > 0; above 1 the rate grows, as in a range test.
      decay_every: in updates; 0: a third of those after the warm-up, rounded up, so that `step` has three levels.
      final_fraction: where the cosine ends, as a fraction of the peak, in [0, 1]. Update steps - 1 is one short of it.

    Returns:
      int count of updates done -> learning rate.

    Raises:
      ValueError: names the argument that is out of range or missing, or the nearest schedule.

    References:
      Goyal et al. 2017, arXiv:1706.02677 (warm-up); Loshchilov and Hutter 2017, arXiv:1608.03983 (cosine).
    """
    _known("schedule", name, SCHEDULES)
    _require(0 <= learning_rate < math.inf, "learning_rate", learning_rate, "finite and >= 0")
    _require(steps is None or steps >= 1, "steps", steps, "at least 1")
    _require(0 <= warmup <= (math.inf if steps is None else steps), "warmup", warmup, f"in [0, steps={steps}]")
    _require(0 < decay_rate < math.inf, "decay_rate", decay_rate, "finite and > 0")
    _require(0 <= decay_every < math.inf, "decay_every", decay_every, "finite and >= 0")
    _require(0 <= final_fraction <= 1, "final_fraction", final_fraction, "in [0, 1]")
    needs_steps = name == "cosine" or (name in ("step", "exponential") and not decay_every)
    _require(steps is not None or not needs_steps, "steps", steps, f"known for the {name} schedule")

    after = max(1, (steps or 1) - warmup)
    every = decay_every or math.ceil(after / 3)
    main = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        # Whole division: optax's staircase floors u * (1 / every), so that for every=41 the first drop is one late.
        "step": lambda: lambda u: learning_rate * jnp.power(decay_rate, u // every),
        "exponential": lambda: optax.exponential_decay(learning_rate, every, decay_rate),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, after, alpha=final_fraction),
    }[name]()
    if not warmup:
        return main
    first = learning_rate / warmup
    return optax.join_schedules([optax.linear_schedule(first, first + learning_rate, warmup), main], [warmup])


def optimizer(
    name: str,
    learning_rate: float | optax.Schedule,
    *,
    peak: float = 1.0,
    momentum: float = 0.9,
    beta2: float = 0.999,
    rms_decay: float = 0.9,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    freeze: str | None = None,
    accumulate: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """Clip g by value, then by global norm; add weight_decay w (L2; not adamw); then, all products by element,

        sgd       w <- w - η g
        momentum  v <- γ v + g;  w <- w - η v
        nesterov  v <- γ v + g;  w <- w - η (g + γ v)
        adagrad   G <- G + g²;  w <- w - η g / (√G + ε)
        rmsprop   s <- ρ s + (1 - ρ) g²;  w <- w - η g / (√s + ε)
        adam      m <- γ m + (1 - γ) g;  s <- β₂ s + (1 - β₂) g²;  w <- w - η m/(1 - γᵗ) / (√(s/(1 - β₂ᵗ)) + ε)
        adamw     adam's step - η weight_decay w, with the w before the step

    v, G, s, m start at 0. The momentum of lecture notes, v <- γ v + η g and w <- w - v, walks the same path while η is
    constant. When η falls tenfold, this form's whole step falls with it; the other's old velocity keeps its old rate
    for some 1 / (1 - γ) updates. (PyTorch has this form, also of Nesterov.)

    Where optax's own defaults differ: `adagrad` starts G at 0.1 and, like `rmsprop`, has ε inside the root; `adamw`
    decays every leaf, by 1e-4. In float32 optax rounds 1 - β₂ᵗ: Adam's first steps are off by some 1e-5 of their size.

    Args:
      name: one of OPTIMIZERS.
      learning_rate: η >= 0, or a schedule over updates applied; a traced η is given as `lambda count: η`.
      peak: a factor of η, >= 0, that is a number in the state and not a constant of the compiled program, so that one
        program serves all rates. A state that is used under another peak keeps its own, until `with_peak_of`.
      momentum: γ in [0, 1): of momentum and nesterov; β₁ of adam and adamw.
      beta2: β₂ in [0, 1), of adam and adamw.
      rms_decay: ρ in [0, 1), of rmsprop.
      epsilon: ε > 0.
      weight_decay: >= 0. Parameters whose name ends in "bias" or "scale" (of norms) never decay, whatever their rank:
        a GRU's "recurrent_bias" does not either.
      clip_norm: largest global norm of the gradient, > 0: g <- g min(1, clip_norm / ||g||).
      clip_value: largest magnitude of each element of the gradient, > 0.
      freeze: a regular expression searched in each parameter's path ("Conv_0/kernel"). Those that match stay as they
        are, have no optimiser state and do not count in the global norm. "" or None: none.
      accumulate: k > 1 gathers k calls `update(grads, state, params, count=n)`, n examples behind a mean gradient, into
        one step on sum(n g) / sum(n); the other k - 1 updates are 0. Gradients 1, 2, 6 of 4, 3, 1 examples make
        16 / 8 = 2, where `optax.MultiSteps` makes 9 / 3 = 3: wrong for masked or unequal batches. A common factor in
        all n cancels; inside pmap n is the same on all devices (sum or mean). Batches of count 0 are ignored, NaN
        or not; k of them in a row leave parameters, moments and schedule as they were.

    Returns:
      (init, update). `update` takes and ignores further keywords; `learning_rate` below reads its state.

    Raises:
      ValueError: names the argument out of range, or the nearest optimiser; from `init`, if `freeze` matches no
        parameter, or all.

    References:
      Pascanu et al. 2013, arXiv:1211.5063 (clipping); Sutskever et al. 2013 (momentum, nesterov); Duchi et al. 2011
      (adagrad); Tieleman and Hinton 2012 (rmsprop); Kingma and Ba 2015, arXiv:1412.6980 (adam); Loshchilov and Hutter
      2019, arXiv:1711.05101 (adamw).
    """
    _known("optimizer", name, OPTIMIZERS)
    if not callable(learning_rate):
        _require(0 <= learning_rate < math.inf, "learning_rate", learning_rate, "finite and >= 0")
    _require(0 <= peak < math.inf, "peak", peak, "finite and >= 0")
    for key, value in {"momentum": momentum, "beta2": beta2, "rms_decay": rms_decay}.items():
        _require(0 <= value < 1, key, value, "in [0, 1)")
    _require(0 < epsilon < math.inf, "epsilon", epsilon, "finite and > 0")
    _require(0 <= weight_decay < math.inf, "weight_decay", weight_decay, "finite and >= 0")
    for key, limit in {"clip_norm": clip_norm, "clip_value": clip_value}.items():
        _require(limit is None or 0 < limit < math.inf, key, limit, "finite and > 0, or None")
    _require(accumulate >= 1 and accumulate % 1 == 0, "accumulate", accumulate, "a whole number >= 1")

    rule = {
        "sgd": optax.identity,
        "momentum": lambda: optax.trace(momentum),
        "nesterov": lambda: optax.trace(momentum, nesterov=True),
        "adagrad": lambda: _scale_by_adagrad(epsilon),
        "rmsprop": lambda: optax.scale_by_rms(rms_decay, epsilon, eps_in_sqrt=False),
        "adam": lambda: optax.scale_by_adam(momentum, beta2, epsilon),
        "adamw": lambda: optax.scale_by_adam(momentum, beta2, epsilon),
    }[name]()
    decay = [optax.add_decayed_weights(weight_decay, mask=_decays)] if weight_decay else []
    rate = learning_rate if callable(learning_rate) else optax.constant_schedule(learning_rate)
    tx = optax.chain(
        *([optax.clip(clip_value)] if clip_value else []),
        *([optax.clip_by_global_norm(clip_norm)] if clip_norm else []),
        *([rule, *decay] if name == "adamw" else [*decay, rule]),
        _scale_by_rate(rate, peak),
    )
    if accumulate > 1:
        tx = _accumulate(tx, int(accumulate))
    return optax.partition({"train": tx, "frozen": optax.set_to_zero()}, _labels(freeze)) if freeze else tx


def learning_rate(opt_state: optax.OptState) -> Array | None:
    """The rate that the last update used; before the first, the one that it will use.

    Args:
      opt_state: a state of `optimizer`, or of anything around it; with several rates inside, the first counts.

    Returns:
      float32 [], with the leading axes of a vmapped state; None if no rate is kept in this state.
    """
    rates = [node.hyperparams for node in jax.tree.leaves(opt_state, is_leaf=_has_rate) if _has_rate(node)]
    return rates[0]["learning_rate"] * rates[0].get("peak", 1.0) if rates else None


def with_peak_of(new: Any, state: Any) -> Any:
    """`state`, a pytree with states of `optimizer` in it, with the peaks of `new`, which has the same structure.

    A state without any peak, of an optimiser of one's own, is returned as it is.

    Raises:
      ValueError: the two have different numbers of peaks.
    """
    nodes = lambda tree: [node for node in jax.tree.leaves(tree, is_leaf=_has_peak) if _has_peak(node)]
    peaks, count = iter([node.hyperparams["peak"] for node in nodes(new)]), len(nodes(state))
    if count not in (0, len(nodes(new))):
        raise ValueError(
            f"the state has {count} learning rates, this experiment's optimisers {len(nodes(new))}; "
            "start from a state of the same experiment"
        )

    def put(node: Any) -> Any:
        return node._replace(hyperparams=node.hyperparams | {"peak": next(peaks)}) if _has_peak(node) else node

    return jax.tree.map(put, state, is_leaf=_has_peak)


def _has_rate(node: Any) -> bool:
    return isinstance(node, optax.InjectStatefulHyperparamsState) and "learning_rate" in node.hyperparams


def _has_peak(node: Any) -> bool:
    return _has_rate(node) and "peak" in node.hyperparams


def _scale_by_rate(rate: optax.Schedule, peak: float) -> optax.GradientTransformationExtraArgs:
    tx = optax.inject_hyperparams(lambda learning_rate, peak: optax.scale_by_learning_rate(peak * learning_rate))(
        # Always a schedule: as a number in the state, a restored run's old rate would silently win over a new one.
        learning_rate=lambda count: jnp.asarray(rate(count), jnp.float32),
        peak=1.0,
    )

    def init(params: optax.Params) -> optax.OptState:
        with jax.ensure_compile_time_eval():  # an array, which can be told apart from init's program; no literal in it
            value = jnp.asarray(peak, jnp.float32)
        state = tx.init(params)
        return state._replace(hyperparams=state.hyperparams | {"peak": value})

    return optax.GradientTransformationExtraArgs(init, tx.update)


class AccumulateState(NamedTuple):
    """What has been gathered since the last update."""

    calls: Array  # int32 []
    weight: Array  # float32 []: sum of n
    total: optax.Updates  # sum of n g, at least float32
    inner: optax.OptState


def _accumulate(tx: optax.GradientTransformationExtraArgs, every: int) -> optax.GradientTransformationExtraArgs:
    def init(params: optax.Params) -> AccumulateState:
        total = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.promote_types(p.dtype, jnp.float32)), params)
        return AccumulateState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32), total, tx.init(params))

    def update(
        grads: optax.Updates, state: AccumulateState, params: optax.Params | None = None, *, count: Any = 1.0, **_: Any
    ) -> tuple[optax.Updates, AccumulateState]:
        n = jnp.asarray(count, jnp.float32)
        chex.assert_shape(n, ())
        weight, calls = state.weight + n, state.calls + 1
        total = jax.tree.map(lambda t, g: t + jnp.where(n > 0, n * g, 0), state.total, grads)

        def apply() -> tuple[Any, Any, Any]:
            mean = jax.tree.map(lambda t, g: (t / weight).astype(g.dtype), total, grads)
            updates, inner = tx.update(mean, state.inner, params)
            return optax.tree.cast_like(updates, grads), optax.tree.zeros_like(total), inner

        def wait() -> tuple[Any, Any, Any]:
            return optax.tree.zeros_like(grads), total, state.inner

        full = calls == every
        updates, total, inner = lax.cond(full & (weight > 0), apply, wait)
        return updates, AccumulateState(calls % every, jnp.where(full, 0, weight), total, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _scale_by_adagrad(epsilon: float) -> optax.GradientTransformation:
    """optax.scale_by_rss has g / √(G + ε): a first step of 1e-4, not of 1 / 2, where |g| = ε = 1e-8."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByRssState]:
        total = jax.tree.map(lambda s, g: s + g**2, state.sum_of_squares, grads)
        return jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + epsilon), grads, total), optax.ScaleByRssState(total)

    return optax.GradientTransformation(lambda params: optax.ScaleByRssState(optax.tree.zeros_like(params)), update)


def _path(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _decays(params: optax.Params) -> Any:
    return jax.tree.map_with_path(lambda path, _: not _path(path).endswith(("bias", "scale")), params)


def _labels(freeze: str) -> Callable[[optax.Params], Any]:
    try:
        pattern = re.compile(freeze)
    except re.error as error:
        raise ValueError(f"freeze={freeze!r} is no regular expression: {error}") from None

    def labels(params: optax.Params) -> Any:
        tree = jax.tree.map_with_path(lambda path, _: "frozen" if pattern.search(_path(path)) else "train", params)
        kinds = jax.tree.leaves(tree)
        if len(set(kinds)) < 2:
            paths = [_path(path) for path, _ in jax.tree.leaves_with_path(params)]
            listed = ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
            matched = "every parameter, nothing is left to train" if "frozen" in kinds else "no parameter"
            raise ValueError(f"freeze={freeze!r} matches {matched}: {listed}")
        return tree

    return labels


def _known(kind: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)[0]
        raise ValueError(f"no {kind} {name!r}; did you mean {nearest!r}? There are {', '.join(names)}")


def _require(ok: bool, name: str, value: Any, wanted: str) -> None:
    if not ok:
        raise ValueError(f"{name}={value} must be {wanted}")
