"""The interface of environments: two pure functions, which run under jit, vmap and scan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl.core import select

State = Any  # a pytree of arrays
Observation = Any  # an int32 scalar, or a float32 array


class Step(NamedTuple):
    """What follows an action.

    state: of the environment.
    observation: of that state; what the agent sees next.
    reward: float32 scalar.
    terminated: bool scalar; the episode is over, and nothing follows: the value of the future is 0.
    truncated: bool scalar; the episode was cut by a limit of time: a value function estimates the future from `last`.
    last: the observation to which the action led. It differs from `observation` only where `autoreset` has begun
      another episode.
    """

    state: State
    observation: Observation
    reward: Array
    terminated: Array
    truncated: Array
    last: Observation

    @property
    def over(self) -> Array:
        """Whether the episode ended, for either reason."""
        return self.terminated | self.truncated


class Environment(NamedTuple):
    """One environment as pure functions; `jax.vmap` makes many of it.

    reset: key -> (state, observation), the start of an episode.
    step: (state, action, key) -> Step. After the end of an episode, call `reset`; `autoreset` does.
    observations: N where an observation is a number 0 .. N - 1, an int32 scalar; else the shape of a float32 array.
    actions: N where an action is a number 0 .. N - 1, an int32 scalar; else the shape of a float32 array.
    """

    reset: Callable[[Array], tuple[State, Observation]]
    step: Callable[[State, Any, Array], Step]
    observations: int | tuple[int, ...]
    actions: int | tuple[int, ...]


def endless_step(environment: Environment, state: State, action: Any, key: Array, key_of_reset: Array) -> Step:
    """Takes a step, and begins a new episode if the old one is over.

    State and observation are then the start of the new episode; reward, terminated, truncated and last belong to the
    old one. No step is spent on the reset.
    """
    taken = environment.step(state, action, key)
    start = environment.reset(key_of_reset)
    new_state, observation = select(~taken.over, (taken.state, taken.observation), start)
    return taken._replace(state=new_state, observation=observation)


def autoreset(environment: Environment) -> Environment:
    """Returns the environment whose step begins a new episode as soon as one is over, see `endless_step`."""

    def step(state: State, action: Any, key: Array) -> Step:
        return endless_step(environment, state, action, *jax.random.split(key))

    return environment._replace(step=step)


def time_limit(environment: Environment, steps: int) -> Environment:
    """Returns the environment whose episodes are truncated after a number of steps; its state is (state, steps done).

    An episode that terminates at the last step is not truncated.

    Raises:
      ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"time_limit: needs at least 1 step, got {steps}")

    def reset(key: Array) -> tuple[State, Observation]:
        state, observation = environment.reset(key)
        return (state, jnp.zeros((), jnp.int32)), observation

    def step(state: State, action: Any, key: Array) -> Step:
        inner, done = state
        taken = environment.step(inner, action, key)
        late = (done + 1 >= steps) & ~taken.terminated
        return taken._replace(state=(taken.state, done + 1), truncated=taken.truncated | late)

    return environment._replace(reset=reset, step=step)
