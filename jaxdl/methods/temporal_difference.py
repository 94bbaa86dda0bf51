"""Tabular Q-learning, with random and systematic exploration, as an experiment of many independent learners."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxdl.core import Experiment, State, mean_over_devices, split_over_devices
from jaxdl.envs import Environment, endless_step


class Exploration(NamedTuple):
    """How a learner tries actions that do not look best.

    epsilon: probability of an action at random (random exploration).
    bonus: c in Q(s, a) + c / sqrt(n(s, a) + 1), the value by which the learner acts and judges the next state, where n
      counts visits: what it has seldom tried looks better than it is (systematic exploration; Strehl & Littman 2008,
      An analysis of model-based interval estimation).
    initial: Q at the start; at the largest possible return everything has to be tried before it looks worse (optimism;
      Sutton & Barto 2018, section 2.6).
    """

    epsilon: Any = 0.0
    bonus: Any = 0.0
    initial: Any = 0.0


class Learners(State):
    """Independent learners in environments of their own, one per row.

    q [B, S, A]; visits int32 [B, S, A]; group int32 [B]; epsilon and bonus [B]; world: state and observation of each
    environment.
    """

    q: Array = split_over_devices()
    visits: Array = split_over_devices()
    group: Array = split_over_devices()
    epsilon: Array = split_over_devices()
    bonus: Array = split_over_devices()
    world: Any = split_over_devices()


def choose_action(values: Array, epsilon: Array, key: Array) -> Array:
    """Returns an epsilon-greedy action for values [A], an int32 scalar; equally good ones are drawn at random."""
    draws = jax.random.uniform(key, (len(values) + 1,))
    best = (values == values.max()) | (draws[0] < epsilon)
    return jnp.argmax(jnp.where(best, draws[1:], -1.0)).astype(jnp.int32)


def updated(q: Array, visits: Array, optimism: Array, seen: Any, discount: float, power: float) -> tuple[Any, ...]:
    """Returns (q, visits, error of the old estimate) after one transition.

        Q(s, a) <- Q(s, a) + n^-power (r + discount max_a' [Q(s', a') + bonus(s', a')] - Q(s, a))

    Args:
      q: [S, A].
      visits: [S, A], before this transition; n is the number with it.
      optimism: the bonus of each action in each state, [S, A].
      seen: (s, a, r, s', whether s' is terminal).
      discount: in [0, 1].
      power: in [0, 1]; above 1/2 the estimates converge (Even-Dar & Mansour 2003, Learning rates for Q-learning).
    """
    state, action, reward, after, terminated = seen
    visits = visits.at[state, action].add(1)
    future = jnp.where(terminated, 0.0, jnp.max((q + optimism)[after]))
    error = reward + discount * future - q[state, action]
    rate = visits[state, action].astype(jnp.float32) ** -power
    return q.at[state, action].add(rate * error), visits, error


def q_learning(
    environment: Environment,
    groups: Mapping[str, Exploration],
    learners: int,
    *,
    discount: float,
    power: float = 0.7,
    steps: int = 100,
) -> Experiment[Learners]:
    """Returns the experiment of Q-learning by independent learners, whose step acts a number of times in each world.

    Rows are ordered by group: learner i of group g is row g * learners + i. Metrics are `loss`, the mean squared error
    of the old estimates, and for each group `NAME_return`, the rewards of the step per episode that ended in it. Add an
    `evaluate` with `_replace`; what the learners estimate is `state.q`.

    Args:
      environment: with numbered observations and actions, without `autoreset`.
      groups: how the learners of each group explore.
      learners: in each group.
      discount: of future rewards.
      power: the rate of the n-th visit to a state and an action is n^-power.
      steps: actions of each learner in one step of the experiment.

    Reference: Watkins & Dayan 1992, Q-learning.
    """
    S, A = environment.observations, environment.actions
    if not (isinstance(S, int) and isinstance(A, int)):
        raise ValueError("q_learning: needs an environment with numbered observations and actions")
    column = lambda name: np.repeat([getattr(one, name) for one in groups.values()], learners).astype(np.float32)
    group = np.repeat(np.arange(len(groups), dtype=np.int32), learners)

    def init(key: Array) -> Learners:
        rows = len(group)
        world = jax.vmap(environment.reset)(jax.random.split(jax.random.fold_in(key, 1), rows))
        q = jnp.broadcast_to(jnp.asarray(column("initial"))[:, None, None], (rows, S, A))
        visits = jnp.zeros((rows, S, A), jnp.int32)
        epsilon, bonus = jnp.asarray(column("epsilon")), jnp.asarray(column("bonus"))
        fields = {"q": q, "visits": visits, "group": jnp.asarray(group), "epsilon": epsilon, "bonus": bonus}
        found: Learners = Learners.create(key, world=world, **fields)
        return found

    def live(q: Array, visits: Array, epsilon: Array, bonus: Array, world: Any, key: Array) -> Any:
        """One learner: `steps` actions."""

        def one(carry: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], tuple[Array, ...]]:
            q, visits, (state, observation), key = carry
            key, key_of_action, key_of_step, key_of_reset = jax.random.split(key, 4)
            optimism = bonus / jnp.sqrt(visits + 1.0)
            action = choose_action((q + optimism)[observation], epsilon, key_of_action)
            taken = endless_step(environment, state, action, key_of_step, key_of_reset)
            seen = observation, action, taken.reward, taken.last, taken.terminated
            q, visits, error = updated(q, visits, optimism, seen, discount, power)
            return (q, visits, (taken.state, taken.observation), key), (error**2, taken.reward, taken.over)

        (q, visits, world, _), (errors, rewards, over) = lax.scan(one, (q, visits, world, key), length=steps)
        return q, visits, world, jnp.stack([errors.mean(), rewards.sum(), over.sum().astype(jnp.float32)])

    def step(state: Learners, batch: Any) -> tuple[Learners, dict[str, Array]]:
        rows = len(state.q)
        keys = state.example_keys(rows)
        fields = state.q, state.visits, state.epsilon, state.bonus, state.world
        q, visits, world, sums = jax.vmap(live)(*fields, keys)
        member = jax.nn.one_hot(state.group, len(groups))  # [rows, groups]
        error, sums = mean_over_devices((sums[:, 0].mean(), member.T @ sums[:, 1:]))
        scores = {f"{name}_return": sums[g, 0] / jnp.maximum(sums[g, 1], 1e-6) for g, name in enumerate(groups)}
        return state.advance(q=q, visits=visits, world=world), {"loss": error, **scores}

    return Experiment(init, step)
