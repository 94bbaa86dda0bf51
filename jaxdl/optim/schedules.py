"""Learning-rate schedules."""

import math

import jax.numpy as jnp
import optax

from jaxdl.optim.checks import known, require

SCHEDULES = ("constant", "step", "exponential", "cosine")


def schedule(
    name: str,
    learning_rate: float,
    *,
    steps: int | None = None,
    warmup: int = 0,
    decay_rate: float = 0.1,
    decay_every: int | None = None,
    final_fraction: float = 0.0,
) -> optax.Schedule:
    """Returns a learning-rate schedule: linear warm-up, then, for update i = 0, 1, ... and u = i - warmup,

        constant     η
        step         η decay_rate^floor(u / decay_every)
        exponential  η decay_rate^(u / decay_every)
        cosine       η (f + (1 - f) (1 + cos(π u / U)) / 2),  f = final_fraction,  U = steps - warmup,  u <= U

    The warm-up is η (i + 1) / warmup for i < warmup. It does not start at 0, as optax's `warmup_*` schedules do; update
    warmup - 1 and the first update of the decay have the full rate. `steps` counts updates, not accumulated calls.

    Args:
      name: one of SCHEDULES.
      learning_rate: the peak η, >= 0.
      steps: total number of updates, >= 1. Needed by cosine, and by step and exponential without `decay_every`.
      warmup: updates of warm-up, in [0, steps].
      decay_rate: factor per `decay_every` updates, > 0; above 1 the rate grows, as in a learning-rate range test.
      decay_every: number of updates, >= 1; None: a third of the updates after the warm-up, rounded up, which gives
        `step` three levels.
      final_fraction: final rate of the cosine as a fraction of the peak, in [0, 1], reached one update after the last.

    Returns:
      A function, number of earlier updates (int) -> learning rate.

    Raises:
      ValueError: if an argument is out of range or missing, or the name is unknown.

    References:
      Goyal et al. 2017, arXiv:1706.02677 (warm-up); Loshchilov and Hutter 2017, arXiv:1608.03983 (cosine).
    """
    known("schedule", name, SCHEDULES)
    require(0 <= learning_rate < math.inf, "learning_rate", learning_rate, "finite and >= 0")
    require(steps is None or steps >= 1, "steps", steps, "at least 1")
    require(0 <= warmup <= (math.inf if steps is None else steps), "warmup", warmup, f"in [0, steps={steps}]")
    require(0 < decay_rate < math.inf, "decay_rate", decay_rate, "finite and > 0")
    require(decay_every is None or 1 <= decay_every < math.inf, "decay_every", decay_every, "at least 1")
    require(0 <= final_fraction <= 1, "final_fraction", final_fraction, "in [0, 1]")
    needs_steps = name == "cosine" or (name in ("step", "exponential") and not decay_every)
    require(steps is not None or not needs_steps, "steps", steps, f"given for the {name} schedule")

    after = max(1, (steps or 1) - warmup)
    every = decay_every or math.ceil(after / 3)
    main = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        # Integer division: optax's staircase floors u * (1 / every), so for every=41 the first drop is one update late.
        "step": lambda: lambda u: learning_rate * jnp.power(decay_rate, u // every),
        "exponential": lambda: optax.exponential_decay(learning_rate, every, decay_rate),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, after, alpha=final_fraction),
    }[name]()
    if not warmup:
        return main
    first = learning_rate / warmup
    return optax.join_schedules([optax.linear_schedule(first, first + learning_rate, warmup), main], [warmup])
