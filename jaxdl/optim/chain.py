"""Optimisers: an optax chain built from its hyperparameters.

Notation: w parameters, g gradient, η learning rate, γ momentum, ε epsilon, t = 1, 2, ... number of the update.
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
    """Hyperparameters of a rule: γ, β₂, ρ and ε."""

    momentum: float = 0.9
    beta2: float = 0.999
    rms_decay: float = 0.9
    epsilon: float = 1e-8


Rule = Callable[[Numbers], optax.GradientTransformation]
"""Makes a transformation of gradients into directions, which are then multiplied by -η."""


def _scale_by_adagrad(epsilon: float) -> optax.GradientTransformation:
    """Returns g / (√G + ε). optax.scale_by_rss computes g / √(G + ε): for |g| = ε = 1e-8 1e-4 instead of 1 / 2."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByRssState]:
        total = jax.tree.map(lambda s, g: s + g**2, state.sum_of_squares, grads)
        return jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + epsilon), grads, total), optax.ScaleByRssState(total)

    return optax.GradientTransformation(lambda params: optax.ScaleByRssState(optax.tree.zeros_like(params)), update)


def _muon(n: Numbers) -> optax.GradientTransformation:
    own = optax.contrib.muon(1.0, beta=n.momentum, adam_b1=n.momentum, adam_b2=n.beta2, eps=n.epsilon)
    return optax.chain(own, optax.scale(-1.0))  # muon includes a learning rate, 1 here


def _adam(n: Numbers) -> optax.GradientTransformation:
    return optax.scale_by_adam(n.momentum, n.beta2, n.epsilon)


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
"""Rules by name. To add one, set RULES["mine"] = lambda numbers: transformation before flags are parsed."""
DECOUPLED = ("adamw", "lion", "muon", "schedule_free")  # rules whose weight decay is not part of the gradient


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
    """Returns an optimiser by name, with clipping, weight decay, a schedule and other options.

    An update clips g by value, then by global norm, adds weight_decay w (L2, for the first six rules), and applies the
    rule elementwise:

        sgd       w <- w - η g
        momentum  v <- γ v + g;  w <- w - η v
        nesterov  v <- γ v + g;  w <- w - η (g + γ v)
        adagrad   G <- G + g²;  w <- w - η g / (√G + ε)
        rmsprop   s <- ρ s + (1 - ρ) g²;  w <- w - η g / (√s + ε)
        adam      m <- γ m + (1 - γ) g;  s <- β₂ s + (1 - β₂) g²;  w <- w - η m/(1 - γᵗ) / (√(s/(1 - β₂ᵗ)) + ε)
        adamw     adam's step - η weight_decay w, with w before the step
        lion      w <- w - η (sign(γ m + (1 - γ) g) + weight_decay w);  m <- β₂ m + (1 - β₂) g
        muon      as nesterov, with a matrix v = U S Vᵗ [M, N] replaced by about U Vᵗ √max(1, N / M); others: NAdam
        schedule_free  z <- z - η adam's step without momentum;  x is the mean of z over updates;  w = (1 - γ) z + γ x

    v, G, s and m start at 0. The momentum of some textbooks, v <- γ v + η g and w <- w - v, is equivalent while η is
    constant. If η is divided by ten, so is the whole step of the form above, which is also PyTorch's; in the other form
    the old velocity keeps its rate for some 1 / (1 - γ) updates.

    Differences from optax's defaults: there `adagrad` starts G at 0.1 and, like `rmsprop`, has ε inside the root, and
    `adamw` decays every leaf, by 1e-4. optax rounds 1 - β₂ᵗ to float32, so Adam's first steps have a relative error of
    some 1e-5.

    Args:
      name: a key of RULES.
      learning_rate: η >= 0, or a schedule, update count -> η; pass a traced η as `lambda count: η`.
      peak: factor of η, >= 0. It is stored in the state and not compiled as a constant, so one program serves all
        rates. A restored state keeps its own peak; `with_peak_of` replaces it.
      momentum: γ in [0, 1), of momentum, nesterov, muon, lion and schedule_free; β₁ of adam and adamw.
      beta2: β₂ in [0, 1), of adam, adamw, lion, muon and schedule_free.
      rms_decay: ρ in [0, 1), of rmsprop.
      epsilon: ε > 0.
      weight_decay: >= 0. Parameters whose name ends in "bias" or "scale" do not decay, whatever their rank; this
        includes the "recurrent_bias" of a GRU.
      clip_norm: largest global norm of the gradient, > 0: g <- g min(1, clip_norm / ||g||). None: no clipping.
      clip_value: largest magnitude of each element of the gradient, > 0. None: no clipping.
      freeze: regular expression searched in the path of each parameter ("Conv_0/kernel"). Parameters that match are
        fixed, have no optimiser state and do not count in the global norm. "" or None: none.
      rates: factors of η by regular expressions, "Embed:0.1,Dense_0/bias:0". The first expression found in the path of
        a parameter applies; other parameters have factor 1.
      accumulate: k >= 1. For k > 1, k calls `update(grads, state, params, count=n)`, with mean gradients g over n
        examples, make one step with sum(n g) / sum(n); the other k - 1 updates are 0. Gradients 1, 2, 6 of 4, 3, 1
        examples give 16 / 8 = 2, where `optax.MultiSteps` gives 9 / 3 = 3, which is wrong for masked or unequal
        batches. A common factor of all n cancels; inside pmap n must be equal on all devices (a sum or mean). Batches
        with count 0 are ignored, even if NaN; k of them in a row change no parameter, moment or schedule.
      ema: d in [0, 1). Keeps the moving average e <- d e + (1 - d) w, with which the network is evaluated. None: none.
      norms: n >= 1. Records the norms of parameters, gradients and updates of each module in every n-th call.
      transforms: additional optax transformations, applied between clipping and the rule.

    Returns:
      (init, update). `update` ignores unknown keyword arguments; `learning_rate`, `averaged` and `norms` read its
      state.

    Raises:
      ValueError: if an argument is out of range or the name unknown; from `init`, if `freeze` matches no parameter or
        all, or an expression of `rates` matches none.

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
    require(accumulate >= 1 and accumulate % 1 == 0, "accumulate", accumulate, "an integer >= 1")
    require(norms is None or norms >= 1, "norms", norms, "an integer >= 1, or None")

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
