"""Dynamic programming: values and optimal policies of finite Markov decision processes whose tables are known.

    V_pi = (I - g P_pi)^-1 r_pi                                    the Bellman equations of a policy pi are linear
    V* = max_a [r(s, a) + g sum_s' P(s' | s, a) V*(s')]            those of the optimal values are not

`action_values` and `policy_values` work on NumPy arrays, in float64, and on JAX arrays under jit and vmap; the
algorithms run on the host, in float64. Sutton & Barto 2018, Reinforcement learning, chapter 4; Puterman 1994, Markov
decision processes.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np

from jaxdl.envs import MDP


class Solution(NamedTuple):
    """values: V [S]. policy: an action for each state, int [S]. rounds: sweeps, or policies that were evaluated.

    errors: value iteration: max |V_k - V_{k-1}| of each sweep [rounds]; policy iteration: of each new policy's values.
    """

    values: np.ndarray
    policy: np.ndarray
    rounds: int
    errors: np.ndarray


def action_values(transitions: Any, rewards: Any, values: Any, discount: float) -> Any:
    """Returns Q(s, a) = r(s, a) + discount sum_s' P(s' | s, a) V(s'), [S, A].

    Args:
      transitions: P [S, A, S], of NumPy or JAX.
      rewards: expected rewards r [S, A].
      values: V [S].
      discount: in [0, 1].
    """
    return rewards + discount * (transitions @ values)


def policy_values(transitions: Any, rewards: Any, policy: Any, discount: float) -> Any:
    """Returns the values of a policy, [S], as the solution of linear equations: (I - discount P_pi) V = r_pi.

    Args:
      transitions: P [S, A, S], of NumPy or JAX.
      rewards: expected rewards r [S, A].
      policy: the probability of each action in each state, [S, A].
      discount: in [0, 1); at 1 the equations are singular where an episode may never end, and always in absorbing
        states.
    """
    xp = policy.__array_namespace__()
    P = xp.einsum("sa,sat->st", policy, transitions)
    r = xp.einsum("sa,sa->s", policy, rewards)
    return xp.linalg.solve(xp.eye(len(r), dtype=r.dtype) - discount * P, r[:, None])[:, 0]


def one_hot_policy(policy: Any, actions: int) -> np.ndarray:
    """Returns the probabilities [S, A], 0 or 1, of a policy that names one action for each state, int [S]."""
    return np.eye(actions)[np.asarray(policy)]


def greedy(mdp: MDP, values: np.ndarray, discount: float) -> np.ndarray:
    """Returns the best action in each state given the values of the next ones, int [S]; of equal ones the first."""
    q = action_values(mdp.transitions, mdp.expected_rewards, values, discount)
    return np.argmax(q >= q.max(1, keepdims=True) - 1e-12 * max(1.0, float(np.abs(q).max())), 1)


def value_of(mdp: MDP, policy: np.ndarray, discount: float) -> float:
    """Returns the expected discounted return of an episode.

    Args:
      mdp: the tables.
      policy: an action for each state, int [S], or the probability of each action, [S, A].
      discount: in [0, 1]; 1 where every episode ends under this policy.

    Raises:
      LinAlgError: the discount is 1, and an episode may go on for ever.
    """
    probabilities = one_hot_policy(policy, mdp.actions) if np.ndim(policy) == 1 else policy
    transitions = np.where(mdp.terminal[:, None, None], 0.0, mdp.transitions)  # nothing follows the end
    return float(mdp.initial @ policy_values(transitions, mdp.expected_rewards, probabilities, discount))


def best_memoryless(mdp: MDP, observe: np.ndarray, discount: float, most: int = 4096) -> tuple[float, np.ndarray]:
    """Returns the largest return of a policy that names an action for each observation, and that policy, int [S].

    All such policies are tried, since the problem is NP-hard in general (Littman 1994, Memoryless policies: theoretical
    limitations and practical results). An observation in whose states no action changes anything gets action 0. If an
    episode meets each of the other observations once at most, its return is linear in the probabilities of the actions
    at each of them, so that no policy that draws its action is better.

    Args:
      mdp: the tables.
      observe: [S], the number that the agent observes in each state.
      discount: in [0, 1], as in `value_of`.
      most: the largest number of policies to try.

    Raises:
      ValueError: there are more policies than `most`.
    """
    P, r = mdp.transitions, mdp.expected_rewards
    matters = (P[:, :1] != P).any((1, 2)) | (r != r[:, :1]).any(1)
    chosen = np.unique(observe[matters])
    if (count := mdp.actions ** len(chosen)) > most:
        raise ValueError(f"best_memoryless: {count} policies for {len(chosen)} observations; at most {most} are tried")
    best, best_policy = -np.inf, np.zeros(mdp.states, np.int64)
    for actions in itertools.product(range(mdp.actions), repeat=len(chosen)):
        policy = np.zeros(mdp.states, np.int64)
        for observation, action in zip(chosen, actions, strict=True):
            policy[observe == observation] = action
        if (found := value_of(mdp, policy, discount)) > best:
            best, best_policy = found, policy
    return best, best_policy


def value_iteration(mdp: MDP, discount: float, tolerance: float = 1e-9, values: np.ndarray | None = None) -> Solution:
    """Returns the optimal values, by V <- max_a Q(s, a) until they are within `tolerance` of the fixed point.

    Every sweep is a contraction: max |V_k - V*| <= discount^k max |V_0 - V*|. It stops when
    discount / (1 - discount) max |V_k - V_{k-1}| < tolerance, which bounds max |V_k - V*|.

    Args:
      mdp: the tables.
      discount: in [0, 1).
      tolerance: the largest error of a value.
      values: V_0 [S]; zeros if not given.

    Raises:
      ValueError: the discount is outside of [0, 1), or the tolerance is not positive.
    """
    _check(discount)
    if tolerance <= 0:
        raise ValueError(f"tolerance must be above 0, got {tolerance}")
    V = np.zeros(mdp.states) if values is None else np.asarray(values, np.float64)
    rewards, errors = mdp.expected_rewards, list[float]()
    floor = 4 * np.finfo(np.float64).eps  # below this relative change only rounding is left
    while True:
        new = action_values(mdp.transitions, rewards, V, discount).max(1)
        errors.append(float(np.abs(new - V).max()))
        V = new
        if errors[-1] * discount <= max(tolerance * (1 - discount), floor * float(np.abs(V).max())):
            return Solution(V, greedy(mdp, V, discount), len(errors), np.array(errors))


def policy_iteration(mdp: MDP, discount: float) -> Solution:
    """Returns the optimal values: evaluates a policy by a linear solve, makes it greedy, until it stays.

    An action is replaced only by a better one, so the values rise in every round and the search ends.

    Raises:
      ValueError: the discount is outside of [0, 1).

    Reference: Howard 1960, Dynamic programming and Markov processes.
    """
    _check(discount)
    policy, rewards, states = np.zeros(mdp.states, np.int64), mdp.expected_rewards, np.arange(mdp.states)
    values, errors = np.zeros(mdp.states), list[float]()
    while True:
        new = policy_values(mdp.transitions, rewards, one_hot_policy(policy, mdp.actions), discount)
        errors.append(float(np.abs(new - values).max()))
        values = new
        q = action_values(mdp.transitions, rewards, values, discount)
        better = q.max(1) > q[states, policy] + 1e-10 * max(1.0, float(np.abs(values).max()))
        if not better.any():
            return Solution(values, policy, len(errors), np.array(errors))
        policy = np.where(better, q.argmax(1), policy)


def _check(discount: float) -> None:
    if not 0 <= discount < 1:
        raise ValueError(f"discount must be in [0, 1), got {discount}")
