"""Markov decision processes as tables, and the environments that they define."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdl.envs.environments import Environment, Step

Table = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]
"""state -> action -> [(probability, next state, reward, whether it is terminal)], as Gymnasium's `unwrapped.P`."""


@dataclass(frozen=True)
class MDP:
    """A finite Markov decision process: S states, A actions, float64 arrays.

    transitions: P [S, A, S], the probability of the next state for a state and an action.
    rewards: R [S, A, S], the reward of that transition.
    initial: [S], the probability of the first state of an episode.
    terminal: bool [S]; an episode ends when it arrives there. A terminal state loops to itself with reward 0, so that
      sums over all future rewards need no special case.

    Raises:
      ValueError: the shapes do not fit together, probabilities do not sum to 1, or a terminal state does not loop.
    """

    transitions: np.ndarray
    rewards: np.ndarray
    initial: np.ndarray
    terminal: np.ndarray

    def __post_init__(self) -> None:
        """Checks shapes and probabilities."""
        P, R = self.transitions, self.rewards
        if P.ndim != 3 or P.shape[0] != P.shape[2] or R.shape != P.shape:
            raise ValueError(f"MDP: transitions and rewards must be [S, A, S], got {P.shape} and {R.shape}")
        if self.initial.shape != P.shape[:1] or self.terminal.shape != P.shape[:1]:
            shapes = f"{self.initial.shape} and {self.terminal.shape}"
            raise ValueError(f"MDP: initial and terminal must be [{len(P)}], as the transitions, got {shapes}")
        for name, p in (("transitions", P), ("initial", self.initial)):
            if not (np.all(p >= 0) and np.allclose(p.sum(-1), 1, rtol=0, atol=1e-9)):
                raise ValueError(f"MDP: {name} must be probabilities that sum to 1 over the last axis")
        ends = np.flatnonzero(self.terminal)
        if not (np.all(P[ends, :, ends] == 1) and np.all(R[ends, :, ends] == 0)):
            raise ValueError("MDP: a terminal state must loop to itself with reward 0; `absorbing` makes it so")

    @property
    def states(self) -> int:
        """S."""
        return self.transitions.shape[0]

    @property
    def actions(self) -> int:
        """A."""
        return self.transitions.shape[1]

    @property
    def expected_rewards(self) -> np.ndarray:
        """The mean reward of an action in a state, [S, A]."""
        return np.sum(self.transitions * self.rewards, -1)


def absorbing(transitions: np.ndarray, rewards: np.ndarray, initial: np.ndarray, terminal: np.ndarray) -> MDP:
    """Returns the MDP of these tables, in which terminal states loop to themselves with reward 0."""
    ends = np.asarray(terminal, bool)
    P, R = np.array(transitions, np.float64), np.array(rewards, np.float64)
    P[ends], R[ends] = np.eye(len(P))[ends, None], 0.0
    return MDP(P, R, np.asarray(initial, np.float64), ends)


def of_table(table: Table, initial: np.ndarray) -> MDP:
    """Returns the MDP of a transition table, such as those of Gymnasium's FrozenLake, CliffWalking and Taxi.

    Args:
      table: {state: {action: [(probability, next state, reward, terminated)]}} for states 0 .. S - 1 and actions
        0 .. A - 1. Entries with the same next state are added; their reward is the mean.
      initial: [S], the probability of the first state.
    """
    S, A = len(table), len(table[0])
    P, gains, terminal = np.zeros((S, A, S)), np.zeros((S, A, S)), np.zeros(S, bool)
    for state, row in table.items():
        for action, outcomes in row.items():
            for probability, after, reward, terminated in outcomes:
                P[state, action, after] += probability
                gains[state, action, after] += probability * reward
                terminal[after] |= terminated
    return absorbing(P, np.divide(gains, P, out=np.zeros_like(P), where=P > 0), initial, terminal)


def garnet(states: int, actions: int, branches: int, seed: int = 0) -> MDP:
    """Returns a random MDP without terminal states.

    Every action leads to `branches` different states, with probabilities between sorted uniform cuts of 0..1; rewards
    are standard normal, one for each transition; the first state is uniform.

    Reference: Archibald, McKinnon & Thomas 1995, On the generation of Markov decision processes.
    """
    random = np.random.default_rng(seed)
    P = np.zeros((states, actions, states))
    for state, action in np.ndindex(states, actions):
        cuts = np.sort(random.uniform(size=branches - 1))
        after = random.choice(states, branches, replace=False)
        P[state, action, after] = np.diff(np.concatenate([[0.0], cuts, [1.0]]))
    rewards = np.where(P > 0, random.normal(size=P.shape), 0.0)
    return MDP(P, rewards, np.full(states, 1 / states), np.zeros(states, bool))


def of_mdp(mdp: MDP, observe: Sequence[int] | np.ndarray | None = None) -> Environment:
    """Returns the environment of an MDP, whose state is a number, an int32 scalar.

    Args:
      mdp: the tables.
      observe: [S], the number that the agent observes in each state. If two states share one, the agent does not see
        all that matters: a partially observed MDP. None: the agent observes the state.
    """
    seen = np.arange(mdp.states) if observe is None else np.asarray(observe)
    look = lambda state: jnp.asarray(seen, jnp.int32)[state]
    first, after = _cumulative(mdp.initial), _cumulative(mdp.transitions)

    def reset(key: Array) -> tuple[Array, Array]:
        state = _draw(key, jnp.asarray(first))
        return state, look(state)

    def step(state: Array, action: Array, key: Array) -> Step:
        new = _draw(key, jnp.asarray(after)[state, action])
        reward = jnp.asarray(mdp.rewards, jnp.float32)[state, action, new]
        return Step(new, look(new), reward, jnp.asarray(mdp.terminal)[new], jnp.zeros((), bool), look(new))

    return Environment(reset, step, int(seen.max()) + 1, mdp.actions)


def _cumulative(p: np.ndarray) -> np.ndarray:
    """Cumulative probabilities, float32, which reach 1 exactly, so that no draw in [0, 1) exceeds the last one."""
    total = np.cumsum(p, -1)
    return np.where(total > 1 - 1e-9, 1.0, total).astype(np.float32)


def _draw(key: Array, cumulative: Array) -> Any:
    """The first index whose cumulative probability exceeds a uniform draw: never one of probability 0."""
    return jnp.sum(cumulative <= jax.random.uniform(key), dtype=jnp.int32)
