"""A policy with or without a memory, trained by REINFORCE with a learned baseline."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from jaxdl import losses
from jaxdl.core import Experiment, Learner, State, make_update, split_over_devices, weighted_mean, weighted_sum
from jaxdl.envs import Environment, play, rewards_to_go, rollout
from jaxdl.nn import Recurrent

CELLS = ("gru", "lstm", "rnn")
EPISODES = 1024  # played at an evaluation


class Agent(State):
    """The policy's learner, and state and observation of the environment of each row."""

    learner: Learner
    world: Any = split_over_devices()


class PolicyNet(nn.Module):
    """Logits of the actions and the value of what was seen; `cell` is None for a net without memory.

    The net without memory has a hidden layer of the same width, which sees the current observation alone.
    """

    cell: str | None
    hidden: int
    observations: int
    actions: int

    @nn.nowrap
    def memory(self, rows: int) -> Any:
        """Returns the memory at the start of an episode."""
        return () if self.cell is None else Recurrent(self.cell, self.hidden).initial_carry(rows)

    @nn.compact
    def __call__(self, observations: Array, memory: Any) -> tuple[Array, Array, Any]:
        """Maps observations int32 [B, T] to logits [B, T, A], values [B, T] and the new memory."""
        x = jax.nn.one_hot(observations, self.observations)
        if self.cell is None:
            x = nn.tanh(nn.Dense(self.hidden)(x))
        else:
            x, memory = Recurrent(self.cell, self.hidden)(x, memory)
        out = nn.Dense(self.actions + 1)(x)
        return out[..., :-1], out[..., -1], memory


def reinforce(
    environment: Environment, net: PolicyNet, tx: optax.GradientTransformation, rows: int, length: int
) -> Experiment[Agent]:
    """Returns the experiment of REINFORCE on episodes of a fixed length; each step plays one in every row.

        L = -mean log p(a_t | o_1 .. o_t) (G_t - V_t) + 1/2 mean (G_t - V_t)^2,  G_t = r_t + ... + r_T

    The baseline V_t depends on what was seen before the action, so it leaves the gradient unbiased; it is constant in
    the first term.

    Williams 1992, Simple statistical gradient-following algorithms for connectionist reinforcement learning.
    """

    def policy(params: Any, memory: Any, observation: Array, key: Array) -> tuple[Any, Array]:
        outputs: Any = net.apply({"params": params}, observation[None, None], memory)
        logits, _, memory = outputs
        return memory, jax.random.categorical(key, logits[0, 0]).astype(jnp.int32)

    def init(key: Array) -> Agent:
        params = net.init(key, jnp.zeros((1, length), jnp.int32), net.memory(1))["params"]
        world = jax.vmap(environment.reset)(jax.random.split(jax.random.fold_in(key, 1), rows))
        agent: Agent = Agent.create(key, learner=Learner.create(params, tx), world=world)
        return agent

    def loss(params: Any, observations: Array, actions: Array, returns: Array) -> tuple[Array, dict[str, Array]]:
        outputs: Any = net.apply({"params": params}, observations, net.memory(len(observations)))
        logits, values, _ = outputs
        advantage = jax.lax.stop_gradient(returns - values)
        actor = weighted_mean(losses.softmax_cross_entropy(logits, actions) * advantage)
        value = actor + 0.5 * weighted_mean((returns - values) ** 2)
        return value, {"loss": value, "return": weighted_mean(returns[:, 0])}

    update = make_update(loss, tx)

    def step(state: Agent, batch: Any) -> tuple[Agent, dict[str, Array]]:
        one: Callable[..., Any] = lambda world, key: rollout(
            environment, partial(policy, state.learner.averaged), world, key, length, net.memory(1)
        )
        seen, world = jax.vmap(one)(state.world, state.example_keys(len(state.world[1])))
        returns = jax.vmap(rewards_to_go)(seen.reward, seen.over)
        learner, metrics = update(state.learner, seen.observation, seen.action, returns)
        return state.advance(learner=learner, world=world), metrics

    def evaluate(state: Agent, batch: Any) -> dict[str, Any]:
        one = lambda key: play(environment, partial(policy, state.learner.averaged), key, length, net.memory(1))[0]
        seen = jax.vmap(one)(jax.random.split(jax.random.fold_in(state.key, 0xE7A1), EPISODES))
        return {"return": weighted_sum((seen.reward * seen.first_episode).sum(1))}

    return Experiment(init, step, evaluate, model=net)
