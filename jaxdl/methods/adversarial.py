"""Two networks against each other: in a step the critic makes n updates and the generator one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array, lax

from jaxdl import metrics
from jaxdl.core import (
    Batch,
    Learner,
    Metrics,
    Params,
    State,
    divide,
    make_update,
    mean_over_devices,
    weighted_mean,
    weighted_sum,
)
from jaxdl.data import pixels01

LAMBDA = 10.0  # Gulrajani et al. 2017


class Objective(NamedTuple):
    """What the two minimise, on the critic's outputs [B], example by example; f(real, fake) and f(fake)."""

    critic: Callable[[Array, Array], Array]
    generator: Callable[[Array], Array]
    penalty: float  # weight of the gradient penalty
    critic_steps: int
    norm: str  # of a convolutional critic; batch norm would mix the examples that the penalty takes one by one


OBJECTIVES = {
    "original": Objective(
        lambda real, fake: nn.softplus(-real) + nn.softplus(fake), lambda fake: nn.softplus(-fake), 0.0, 1, "batch"
    ),
    "wgan_gp": Objective(lambda real, fake: fake - real, lambda fake: -fake, LAMBDA, 5, "none"),
}


class Players(State):
    """Two learners, and `stats`, what batch norm averages, of "generator" and "critic"."""

    generator: Learner
    critic: Learner
    stats: dict[str, Any]


def gradient_penalty(critic: Callable[[Array], Array], real: Array, fake: Array, mix: Array) -> Array:
    """(|grad D(u)| - 1)^2 [B] at u = real + mix (fake - real), mix [B] in 0..1; D: [B, ...] -> [B], row by row."""
    u = real + mix.reshape(-1, *(1,) * (real.ndim - 1)) * (fake - real)
    slope = jax.grad(lambda x: jnp.sum(critic(x)))(u).reshape(len(u), -1)
    # where all units are dead the slope is 0, and the root has no derivative
    return (jnp.sqrt(jnp.sum(slope**2, axis=1) + 1e-12) - 1) ** 2


def play(model: nn.Module, params: Params, stats: Any, x: Array, train: bool = True) -> tuple[Array, Any]:
    """(output [B, ...], new stats) of either player; the critic's output [B, 1] is made [B]."""
    output, new = model.apply({"params": params, **stats}, x, train=train, mutable=list(stats))
    return (output[:, 0] if output.shape[1:] == (1,) else output), new


def game(
    generator: nn.Module,
    critic: nn.Module,
    objective: Objective,
    optimizers: tuple[optax.GradientTransformation, optax.GradientTransformation],
    noise: Callable[[Array], Array],
    scaled: Callable[[Array], Array],
    example: Array,
) -> tuple[Callable[[Array], Players], Callable[[Players, Batch], tuple[Players, Metrics]]]:
    """(init, step) of an experiment whose batch has critic_steps * B rows "x".

    Args:
      generator: z [B, D], train -> [B, ...], the shape of real examples.
      critic: [B, ...], train -> [B, 1].
      objective: what they minimise.
      optimizers: the generator's and the critic's, which makes critic_steps updates a step.
      noise: key -> z [D].
      scaled: "x" as it stands in a batch -> as the critic sees it.
      example: "x" of a batch, for its shape.
    """
    tx, critic_tx = optimizers
    n = objective.critic_steps

    def init(key: Array) -> Players:
        keys = jax.random.split(key)
        players = {
            "generator": generator.init(keys[0], noise(keys[0])[None]),
            "critic": critic.init(keys[1], scaled(example[:1])),
        }
        params = {name: variables["params"] for name, variables in players.items()}
        return Players.create(
            key,
            generator=Learner.create(params["generator"], tx),
            critic=Learner.create(params["critic"], critic_tx),
            stats={name: {k: v for k, v in one.items() if k != "params"} for name, one in players.items()},
        )

    def fake(params: Params, stats: Any, keys: Array) -> tuple[Array, Any]:
        return play(generator, params, stats, jax.vmap(noise)(keys))

    def critic_loss(params: Params, stats: Any, other: Params, real: Array, keys: Array) -> tuple[Array, Any]:
        made, _ = fake(other, stats["generator"], keys)
        on_real, new = play(critic, params, stats["critic"], real)
        on_fake, new = play(critic, params, new, made)
        value, penalty = weighted_mean(objective.critic(on_real, on_fake)), jnp.zeros(())
        if objective.penalty:
            mix = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(keys)
            judge = lambda x: play(critic, params, stats["critic"], x)[0]
            penalty = objective.penalty * weighted_mean(gradient_penalty(judge, real, made, mix))
        scores = {"loss": value + penalty, "critic_loss": value, "penalty": penalty}
        return value + penalty, (stats | {"critic": new}, scores)

    def generator_loss(params: Params, stats: Any, other: Params, keys: Array) -> tuple[Array, Any]:
        made, new = fake(params, stats["generator"], keys)
        value = weighted_mean(objective.generator(play(critic, other, stats["critic"], made)[0]))
        return value, (stats | {"generator": new}, {"generator_loss": value})

    update_critic, update_generator = make_update(critic_loss, critic_tx), make_update(generator_loss, tx)

    def step(state: Players, batch: Batch) -> tuple[Players, Metrics]:
        rows = len(batch["x"]) // n
        # row by row, not n blocks: the same rows meet in a critic step however they are split over devices
        real = jnp.swapaxes(scaled(batch["x"]).reshape(rows, n, *example.shape[1:]), 0, 1)
        keys = jax.vmap(lambda key: jax.random.split(key, n + 1), out_axes=1)(state.example_keys(rows))

        def one(carry: tuple[Learner, Any], row: tuple[Array, Array]) -> tuple[tuple[Learner, Any], Metrics]:
            learner, (stats, scores) = update_critic(*carry, state.generator.params, *row)
            return (learner, stats), scores

        carry = (state.critic, state.stats)
        if example.ndim > 2:  # in a loop convolutions are slow on the CPU, even in one of a single turn: 1.5 s a step
            turns = []
            for i in range(n):
                carry, scores = one(carry, (real[i], keys[i]))
                turns.append(scores)
            scores = turns[0]
        else:  # compiles in half the time
            carry, scores = lax.scan(one, carry, (real, keys[:n]))
            scores = jax.tree.map(lambda x: x[0], scores)
        learner, stats = carry
        new, (stats, more) = update_generator(state.generator, stats, learner.params, keys[n])
        # scores are those of the critic as the step found it, like every loss that is logged
        return state.advance(generator=new, critic=learner, stats=mean_over_devices(stats)), scores | more

    return init, step


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
