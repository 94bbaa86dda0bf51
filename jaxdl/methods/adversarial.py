"""Adversarial training of a generator and a critic: a step makes n updates of the critic and one of the generator."""

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
    """Losses of critic and generator, as functions of the critic's outputs [B] on real and fake examples.

    Attributes:
      critic: (real [B], fake [B]) -> loss per example [B].
      generator: fake [B] -> loss per example [B].
      penalty: weight of the gradient penalty; 0: no penalty.
      critic_steps: updates of the critic per step, at least 1.
      norm: norm of a convolutional critic, as in `jaxdl.nn.DCGANCritic`; a gradient penalty excludes batch norm, which
        mixes the examples of a batch.
    """

    critic: Callable[[Array, Array], Array]
    generator: Callable[[Array], Array]
    penalty: float
    critic_steps: int
    norm: str


OBJECTIVES = {
    "original": Objective(
        lambda real, fake: nn.softplus(-real) + nn.softplus(fake), lambda fake: nn.softplus(-fake), 0.0, 1, "batch"
    ),
    "wgan_gp": Objective(lambda real, fake: fake - real, lambda fake: -fake, LAMBDA, 5, "none"),
}
"""Objectives by name; D is the critic, x real, G(z) generated.

    original  critic softplus(-D(x)) + softplus(D(G(z))), generator softplus(-D(G(z))) (non-saturating)
    wgan_gp   critic D(G(z)) - D(x) + 10 (|grad D(u)| - 1)^2, generator -D(G(z)); five updates of the critic per step

References: Goodfellow et al. 2014, arXiv:1406.2661; Gulrajani et al. 2017, arXiv:1704.00028.
"""


class Players(State):
    """State of a game: two learners and their batch norm statistics.

    Attributes:
      generator: parameters and optimiser state of the generator.
      critic: parameters and optimiser state of the critic.
      stats: {"generator": ..., "critic": ...}, the collections of each network other than "params".
    """

    generator: Learner
    critic: Learner
    stats: dict[str, Any]


def gradient_penalty(critic: Callable[[Array], Array], real: Array, fake: Array, mix: Array) -> Array:
    """Returns (|grad D(u)| - 1)^2 at u = real + mix (fake - real).

    Args:
      critic: D, [B, ...] -> [B]; each output depends only on its own row.
      real: [B, ...], float.
      fake: [B, ...], float.
      mix: [B] in [0, 1].

    Returns:
      [B], >= 0.

    Reference: Gulrajani et al. 2017, arXiv:1704.00028, equation 3.
    """
    u = real + mix.reshape(-1, *(1,) * (real.ndim - 1)) * (fake - real)
    slope = jax.grad(lambda x: jnp.sum(critic(x)))(u).reshape(len(u), -1)
    # 1e-12, because the square root has no derivative at slope 0, where all units are dead
    return (jnp.sqrt(jnp.sum(slope**2, axis=1) + 1e-12) - 1) ** 2


def play(model: nn.Module, params: Params, stats: Any, x: Array, train: bool = True) -> tuple[Array, Any]:
    """Applies either network; returns (output [B, ...], new stats), with outputs [B, 1] reshaped to [B]."""
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
    """Returns (init, step) of an experiment that trains a generator against a critic.

    A batch has critic_steps * B rows "x". The metrics of a step are loss, critic_loss, penalty and generator_loss.

    Args:
      generator: module, z [B, D], train -> examples [B, ...], in the range of `scaled`'s outputs.
      critic: module, examples [B, ...], train -> [B, 1] or [B].
      objective: losses of both networks, for example OBJECTIVES["wgan_gp"].
      optimizers: (generator's, critic's); the critic's makes critic_steps updates per step.
      noise: key -> z [D].
      scaled: "x" of a batch -> the critic's input.
      example: "x" of a batch, used for its shape.
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
        # interleaved, not n blocks, so that a critic step has the same rows on any number of devices
        real = jnp.swapaxes(scaled(batch["x"]).reshape(rows, n, *example.shape[1:]), 0, 1)
        keys = jax.vmap(lambda key: jax.random.split(key, n + 1), out_axes=1)(state.example_keys(rows))

        def one(carry: tuple[Learner, Any], row: tuple[Array, Array]) -> tuple[tuple[Learner, Any], Metrics]:
            learner, (stats, scores) = update_critic(*carry, state.generator.params, *row)
            return (learner, stats), scores

        carry = (state.critic, state.stats)
        if example.ndim > 2:  # convolutions in a scan are slow on the CPU, even of length 1 (1.5 s per step)
            turns = []
            for i in range(n):
                carry, scores = one(carry, (real[i], keys[i]))
                turns.append(scores)
            scores = turns[0]
        else:  # a scan compiles in half the time
            carry, scores = lax.scan(one, carry, (real, keys[:n]))
            scores = jax.tree.map(lambda x: x[0], scores)
        learner, stats = carry
        new, (stats, more) = update_generator(state.generator, stats, learner.params, keys[n])
        # scores are those of the critic before its first update, as with every logged loss
        return state.advance(generator=new, critic=learner, stats=mean_over_devices(stats)), scores | more

    return init, step


def comparison(
    sample: Callable[[Players, Batch], Array],
    critic: nn.Module,
    objective: Objective,
    scaled: Callable[[Array], Array],
    look: Callable[[Array], tuple[Array, Array]],
) -> tuple[Callable[[Players, Batch], Any], Callable[[Any], dict[str, float]]]:
    """Returns (evaluate, summarize) of an experiment that compares samples with real examples.

    A batch has real examples "x", noise "z" for one sample per real example, and "mask". The metrics are

        modes        number of modes found (see `jaxdl.metrics.modes_found`); absent if N is 0
        on_modes     fraction of samples on any mode, in [0, 1]; absent if N is 0
        frechet      Frechet distance of the features, >= 0
        pairs        fraction of pairs in which the critic scores the real example higher, in [0, 1]; 0.5 is chance
        critic_loss  mean loss of the critic, without penalty

    Args:
      sample: (state, batch) -> samples [B, ...], in the range of `pixels01(x)`.
      critic: as in `game`.
      objective: as in `game`.
      scaled: as in `game`.
      look: examples [B, ...] -> (features [B, D], hits [B, N], 1 where an example is on a mode, else 0).
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
