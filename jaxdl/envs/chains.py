"""The decoy chain: a small reward nearby, a large one far away."""

import numpy as np

from jaxdl.envs.tabular import MDP, absorbing

STOP, WALK = 0, 1


def decoy_chain(length: int = 6, decoy: float = 0.2) -> MDP:
    """Returns a chain on which an agent may stop at once for a small reward, or walk to its end for the reward 1.

        state 0 -> 1 -> ... -> N - 1 -> end, state N, terminal

    Action 0 stops: the episode ends, with reward `decoy` in state 0 and 0 in the others. Action 1 walks to the next
    state; from state N - 1 the walk ends the episode with reward 1. All transitions are certain.

    An agent that does not know the chain and chooses at random where it has no preference arrives at the end with
    probability 2^-N; one that has once been rewarded for stopping, and prefers what it knows, never arrives.

    Args:
      length: N, at least 1.
      decoy: the reward of stopping in state 0.

    Raises:
      ValueError: the length is less than 1.
    """
    if length < 1:
        raise ValueError(f"decoy_chain: length must be at least 1, got {length}")
    S = length + 1
    P, R = np.zeros((S, 2, S)), np.zeros((S, 2, S))
    walk = np.arange(length)
    P[:, STOP, length] = 1.0
    P[walk, WALK, walk + 1] = 1.0
    R[0, STOP, length], R[length - 1, WALK, length] = decoy, 1.0
    return absorbing(P, R, np.eye(S)[0], np.arange(S) == length)
