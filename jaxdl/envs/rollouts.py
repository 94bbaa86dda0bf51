"""Roll-outs: a policy acts in an environment, as one scan over time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxdl.core import select
from jaxdl.envs.environments import Environment, Observation, endless_step

Policy = Callable[[Any, Observation, Array], tuple[Any, Any]]
"""(memory, observation, key) -> (memory, action); a policy without a memory passes on ()."""


class Trajectory(NamedTuple):
    """T steps of one environment; every leaf has T as its leading axis.

    observation: what the agent saw before it acted. action: what it did. The others follow from the action, as in
    `Step`: reward float32 [T], terminated and truncated bool [T], and last, the observation to which the action led.
    """

    observation: Any
    action: Any
    reward: Array
    terminated: Array
    truncated: Array
    last: Any

    @property
    def over(self) -> Array:
        """Whether an episode ended with this step, bool [T]."""
        return self.terminated | self.truncated

    @property
    def first_episode(self) -> Array:
        """Whether a step belongs to the first episode, bool [T]; [B, T] after `jax.vmap`."""
        return jnp.cumsum(self.over, axis=-1) - self.over == 0


def rollout(
    environment: Environment, policy: Policy, start: tuple[Any, Observation], key: Array, steps: int, memory: Any = ()
) -> tuple[Trajectory, tuple[Any, Observation]]:
    """Plays T steps in one environment, which begins a new episode whenever one is over.

    Args:
      environment: without `autoreset`, which is applied here.
      policy: (memory, observation, key) -> (memory, action).
      start: state and observation from `environment.reset`, or the end of an earlier roll-out.
      key: consumed.
      steps: T.
      memory: of the policy at the start of every episode, and of this roll-out.

    Returns:
      The trajectory, and state and observation after it. `jax.vmap` plays many at once.
    """

    def one(carry: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], Trajectory]:
        before, state, observation, key = carry
        key, key_of_action, key_of_step, key_of_reset = jax.random.split(key, 4)
        after, action = policy(before, observation, key_of_action)
        taken = endless_step(environment, state, action, key_of_step, key_of_reset)
        seen = Trajectory(observation, action, taken.reward, taken.terminated, taken.truncated, taken.last)
        return (select(~taken.over, after, memory), taken.state, taken.observation, key), seen

    (_, *end, _), trajectory = lax.scan(one, (memory, *start, key), length=steps)
    return trajectory, (end[0], end[1])


def play(
    environment: Environment, policy: Policy, key: Array, steps: int, memory: Any = ()
) -> tuple[Trajectory, tuple[Any, Observation]]:
    """Resets an environment and plays T steps: `rollout` from the start of an episode."""
    key_of_reset, key_of_steps = jax.random.split(key)
    return rollout(environment, policy, environment.reset(key_of_reset), key_of_steps, steps, memory)


def rewards_to_go(reward: Array, over: Array, discount: float = 1.0) -> Array:
    """Returns the discounted sum of the rewards from each step to the end of its episode.

        G_t = r_t + discount (1 - over_t) G_{t+1}

    Args:
      reward: float [T].
      over: bool [T], whether an episode ended with step t. An episode that the trajectory cuts counts no reward after
        the cut.
      discount: in [0, 1].

    Returns:
      float32 [T].
    """

    def back(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        now = step[0] + discount * jnp.where(step[1], 0.0, later)
        return now, now

    return lax.scan(back, jnp.zeros(()), (reward, over), reverse=True)[1]


def table_policy(probabilities: Any) -> Policy:
    """Returns the policy that draws its action from row o of a table [N, A] when it observes o; rows sum to 1."""
    logits = jnp.log(jnp.asarray(probabilities, jnp.float32))
    return lambda memory, observation, key: (memory, jax.random.categorical(key, logits[observation]))
