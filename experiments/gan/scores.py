"""How samples compare with real examples: distances, modes found, and what the critic says."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxdl import metrics
from jaxdl.core import Batch, divide, weighted_sum
from jaxdl.data import pixels01
from jaxdl.methods.adversarial import Objective, Players, play


def comparison(
    sample: Callable[[Players, Batch], Array],
    critic: nn.Module,
    objective: Objective,
    scaled: Callable[[Array], Array],
    look: Callable[[Array], tuple[Array, Array]],
) -> tuple[Callable[[Players, Batch], Any], Callable[[Any], dict[str, float]]]:
    """(evaluate, summarize) of an experiment whose batch to evaluate has "x" and "z", one sample for each real example.

    modes, on_modes: how many modes are found, which share of the samples is on any; frechet: distance of the features;
    pairs: how often the critic gives the real one more than the generated one, 0.5 if it cannot tell; critic_loss.

    Args:
      sample: (state, batch with z) -> samples, on the scale that `look` takes and of the same kind as x.
      critic: as in `game`.
      objective: as in `game`.
      scaled: as in `game`.
      look: examples -> features [B, D], and on which of N modes they are, [B, N] of 0 and 1; N may be 0.
    """

    def evaluate(state: Players, batch: Batch) -> Any:
        made, mask = sample(state, batch), batch["mask"]
        examples = {"real": pixels01(batch["x"]), "made": made}
        seen = {name: look(x) for name, x in examples.items()}
        stats = state.stats["critic"]
        on = {name: play(critic, state.critic.params, stats, scaled(x), train=False)[0] for name, x in examples.items()}
        return {
            "features": {name: metrics.moments(features, mask) for name, (features, _) in seen.items()},
            "hits": jnp.sum(seen["made"][1] * mask[:, None], axis=0),
            "pairs": weighted_sum(on["real"] > on["made"], mask),
            "critic_loss": weighted_sum(objective.critic(on["real"], on["made"]), mask),
        }

    def summarize(sums: Any) -> dict[str, float]:
        count, hits = float(sums["pairs"].weight), np.asarray(sums["hits"])
        modes = {"modes": metrics.modes_found(hits, count), "on_modes": hits.sum() / count} if len(hits) else {}
        real, made = (metrics.mean_and_covariance(sums["features"][name]) for name in ("real", "made"))
        scores = divide({name: sums[name] for name in ("pairs", "critic_loss")})
        return modes | {"frechet": metrics.frechet_distance(*real, *made)} | scores

    return evaluate, summarize
