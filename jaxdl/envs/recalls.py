"""The recall corridor: what matters at its end was visible only at its start."""

from typing import NamedTuple

import numpy as np

from jaxdl.envs.tabular import MDP, absorbing

LEFT, RIGHT = 0, 1


class Recall(NamedTuple):
    """The corridor as an MDP, and what an agent sees of its states.

    observe: [S], place and lamp. remember: [S], place, lamp and the first lamp, which is all of the state.
    """

    mdp: MDP
    observe: np.ndarray
    remember: np.ndarray


def recall_corridor(length: int = 5) -> Recall:
    """Returns a corridor of N places with a lamp in each, and a fork at the last: the first lamp says where to turn.

    The agent moves on by itself; its action, 0 left or 1 right, counts at the last place only. There it earns 1 if it
    turns to the side that the lamp showed at the first place, else 0, and the episode ends. All other lamps show a side
    at random. Every episode has N steps.

    The observation is place and lamp, 2 place + lamp, and 2N or 2N + 1 at the end, after a right or a wrong turn. It
    does not have the Markov property: which turn is right depends on the first observation. At the fork both sides are
    equally likely given what is seen, so that a policy of the current observation alone earns 1/2 on average, whatever
    it does. The state, with the first lamp in it, has the property.

    Args:
      length: N, at least 2.

    Raises:
      ValueError: the length is less than 2.

    Reference: Bakker 2002, Reinforcement learning with long short-term memory (the T-maze).
    """
    if length < 2:
        raise ValueError(f"recall_corridor: length must be at least 2, got {length}")
    fork = length - 1
    code = lambda place, lamp, sign: 4 * place + 2 * sign + lamp
    right, wrong = 4 * length, 4 * length + 1
    S = 4 * length + 2
    P, R, initial = np.zeros((S, 2, S)), np.zeros((S, 2, S)), np.zeros(S)
    for sign, lamp in np.ndindex(2, 2):
        initial[code(0, sign, sign)] = 0.5
        for place in range(fork):
            for after in range(2):
                P[code(place, lamp, sign), :, code(place + 1, after, sign)] = 0.5
        P[code(fork, lamp, sign), sign, right] = P[code(fork, lamp, sign), 1 - sign, wrong] = 1.0
        R[code(fork, lamp, sign), sign, right] = 1.0
    states = np.arange(S)
    observe = np.where(states < right, 2 * (states // 4) + states % 2, 2 * length + states - right)
    return Recall(absorbing(P, R, initial, states >= right), observe, states)
