"""Optimisers: one optax chain from a few numbers.

Notation: w parameters, g gradient, η learning rate, γ momentum, ε epsilon, t = 1, 2, ... the number of this update.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.optim.accumulation import accumulated
from jaxdl.optim.averages import with_average
from jaxdl.optim.checks import known, require
from jaxdl.optim.module_norms import with_norms
from jaxdl.optim.paths import decays, frozen_by, scaled_by_path
from jaxdl.optim.rates import scale_by_rate


class Numbers(NamedTuple):
    """What a rule may depend on: γ, β₂, ρ and ε."""

    momentum: float = 0.9
    beta2: float = 0.999
    rms_decay: float = 0.9
    epsilon: float = 1e-8


Rule = Callable[[Numbers], optax.GradientTransformation]  # g -> the direction that is then taken times -η


def _scale_by_adagrad(epsilon: float) -> optax.GradientTransformation:
    """optax.scale_by_rss has g / √(G + ε): a first step of 1e-4, not of 1 / 2, where |g| = ε = 1e-8."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByRssState]:
        total = jax.tree.map(lambda s, g: s + g**2, state.sum_of_squares, grads)
        return jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + epsilon), grads, total), optax.ScaleByRssState(total)

    return optax.GradientTransformation(lambda params: optax.ScaleByRssState(optax.tree.zeros_like(params)), update)


def _muon(n: Numbers) -> optax.GradientTransformation:
    own = optax.contrib.muon(1.0, beta=n.momentum, adam_b1=n.momentum, adam_b2=n.beta2, eps=n.epsilon)
    return optax.chain(own, optax.scale(-1.0))  # it has a rate of its own, which is 1 here


def _adam(n: Numbers) -> optax.GradientTransformation:
    return optax.scale_by_adam(n.momentum, n.beta2, n.epsilon)


# one of your own: RULES["mine"] = lambda numbers: transformation, before a command line is read
RULES: dict[str, Rule] = {
    "sgd": lambda n: optax.identity(),
    "momentum": lambda n: optax.trace(n.momentum),
    "nesterov": lambda n: optax.trace(n.momentum, nesterov=True),
    "adagrad": lambda n: _scale_by_adagrad(n.epsilon),
    "rmsprop": lambda n: optax.scale_by_rms(n.rms_decay, n.epsilon, eps_in_sqrt=False),
    "adam": _adam,
    "adamw": _adam,
    "lion": lambda n: optax.scale_by_lion(n.momentum, n.beta2),
    "muon": _muon,
    "schedule_free": lambda n: optax.scale_by_adam(0.0, n.beta2, n.epsilon),
}
DECOUPLED = ("adamw", "lion", "muon", "schedule_free")  # weight decay is no part of the gradient


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
    rates: str | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    norms: int | None = None,
    transforms: Sequence[optax.GradientTransformation] = (),
) -> optax.GradientTransformationExtraArgs:
    """Clip g by value, then by global norm; add weight_decay w (L2, of the first six); then, all products by element,

        sgd       w <- w - η g
        momentum  v <- γ v + g;  w <- w - η v
        nesterov  v <- γ v + g;  w <- w - η (g + γ v)
        adagrad   G <- G + g²;  w <- w - η g / (√G + ε)
        rmsprop   s <- ρ s + (1 - ρ) g²;  w <- w - η g / (√s + ε)
        adam      m <- γ m + (1 - γ) g;  s <- β₂ s + (1 - β₂) g²;  w <- w - η m/(1 - γᵗ) / (√(s/(1 - β₂ᵗ)) + ε)
        adamw     adam's step - η weight_decay w, with the w before the step
        lion      w <- w - η (sign(γ m + (1 - γ) g) + weight_decay w);  m <- β₂ m + (1 - β₂) g
        muon      v as nesterov's, of matrices made nearly orthogonal: U Vᵗ of v = U S Vᵗ; NAdam for what is no matrix
        schedule_free  z <- z - η adam's step without momentum;  x the mean of z over updates;  w = (1 - γ) z + γ x

    v, G, s, m start at 0. The momentum of lecture notes, v <- γ v + η g and w <- w - v, walks the same path while η is
    constant. When η falls tenfold, this form's whole step falls with it; the other's old velocity keeps its old rate
    for some 1 / (1 - γ) updates. (PyTorch has this form, also of Nesterov.)

    Where optax's own defaults differ: `adagrad` starts G at 0.1 and, like `rmsprop`, has ε inside the root; `adamw`
    decays every leaf, by 1e-4. In float32 optax rounds 1 - β₂ᵗ: Adam's first steps are off by some 1e-5 of their size.

    Args:
      name: one of RULES, an open table.
      learning_rate: η >= 0, or a schedule over updates applied; a traced η is given as `lambda count: η`.
      peak: a factor of η, >= 0, that is a number in the state and not a constant of the compiled program, so that one
        program serves all rates. A state that is used under another peak keeps its own, until `with_peak_of`.
      momentum: γ in [0, 1): of momentum, nesterov, muon, lion and schedule_free; β₁ of adam and adamw.
      beta2: β₂ in [0, 1), of adam, adamw, lion, muon and schedule_free.
      rms_decay: ρ in [0, 1), of rmsprop.
      epsilon: ε > 0.
      weight_decay: >= 0. Parameters whose name ends in "bias" or "scale" (of norms) never decay, whatever their rank:
        a GRU's "recurrent_bias" does not either.
      clip_norm: largest global norm of the gradient, > 0: g <- g min(1, clip_norm / ||g||).
      clip_value: largest magnitude of each element of the gradient, > 0.
      freeze: a regular expression searched in each parameter's path ("Conv_0/kernel"). Those that match stay as they
        are, have no optimiser state and do not count in the global norm. "" or None: none.
      rates: "Embed:0.1,Dense_0/bias:0", factors of η by regular expressions; the first that is found in a parameter's
        path counts, and all others have 1.
      ema: d in [0, 1) keeps e <- d e + (1 - d) w beside the parameters; a network is evaluated with e.
      norms: at each so many calls, the norms of parameters, gradients and updates of each module.
      transforms: optax transformations of your own, between clipping and the rule.
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
      2019, arXiv:1711.05101 (adamw); Chen et al. 2023, arXiv:2302.06675 (lion); Jordan et al. 2024 (muon); Defazio et
      al. 2024, arXiv:2405.15682 (schedule_free).
    """
    known("optimizer", name, RULES)
    if not callable(learning_rate):
        require(0 <= learning_rate < math.inf, "learning_rate", learning_rate, "finite and >= 0")
    require(0 <= peak < math.inf, "peak", peak, "finite and >= 0")
    for key, value in {"momentum": momentum, "beta2": beta2, "rms_decay": rms_decay, "ema": ema or 0.0}.items():
        require(0 <= value < 1, key, value, "in [0, 1)")
    require(0 < epsilon < math.inf, "epsilon", epsilon, "finite and > 0")
    require(0 <= weight_decay < math.inf, "weight_decay", weight_decay, "finite and >= 0")
    for key, limit in {"clip_norm": clip_norm, "clip_value": clip_value}.items():
        require(limit is None or 0 < limit < math.inf, key, limit, "finite and > 0, or None")
    require(accumulate >= 1 and accumulate % 1 == 0, "accumulate", accumulate, "a whole number >= 1")
    require(norms is None or norms >= 1, "norms", norms, "a whole number >= 1, or None")

    rule = RULES[name](Numbers(momentum, beta2, rms_decay, epsilon))
    decay = [optax.add_decayed_weights(weight_decay, mask=decays)] if weight_decay else []
    rate = learning_rate if callable(learning_rate) else optax.constant_schedule(learning_rate)
    tx = optax.chain(
        *([optax.clip(clip_value)] if clip_value else []),
        *([optax.clip_by_global_norm(clip_norm)] if clip_norm else []),
        *transforms,
        *([rule, *decay] if name in DECOUPLED else [*decay, rule]),
        scale_by_rate(rate, peak),
        *([scaled_by_path(rates)] if rates else []),
    )
    if name == "schedule_free":
        tx = optax.contrib.schedule_free(tx, rate, b1=momentum)
    if ema is not None:
        tx = with_average(tx, ema)
    if accumulate > 1:
        tx = accumulated(tx, int(accumulate))
    if freeze:
        tx = optax.partition({"train": tx, "frozen": optax.set_to_zero()}, frozen_by(freeze))
    return with_norms(tx, int(norms)) if norms else tx
