"""Compares planning with a process worked out by hand, with loops, and with a linear program."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from jaxdl.envs import MDP, cliff_walking, decoy_chain, frozen_lake, garnet, recall_corridor
from jaxdl.methods import (
    action_values,
    best_memoryless,
    greedy,
    one_hot_policy,
    policy_iteration,
    policy_values,
    value_iteration,
    value_of,
)


def two_states():
    """State 0: stay for 1, or move to state 1 for 0. State 1: stay for 3, or move to state 0 for 0."""
    stay, move = np.eye(2), np.eye(2)[::-1]
    P = np.stack([stay, move], 1)
    R = np.zeros((2, 2, 2))
    R[0, 0, 0], R[1, 0, 1] = 1.0, 3.0
    return MDP(P, R, np.array([1.0, 0.0]), np.zeros(2, bool))


@pytest.mark.parametrize(("discount", "values", "policy"), [(0.5, [3.0, 6.0], [1, 0]), (0.2, [1.25, 3.75], [0, 0])])
def test_two_states_by_hand(discount, values, policy):
    """V(1) = 3 / (1 - g). In state 0 staying is worth 1 / (1 - g), moving g V(1): 2 or 3 at 1/2, 1.25 or .75 at 1/5."""
    mdp = two_states()
    for solution in (value_iteration(mdp, discount), policy_iteration(mdp, discount)):
        np.testing.assert_allclose(solution.values, values, atol=1e-8)
        assert solution.policy.tolist() == policy
    assert value_of(mdp, np.array(policy), discount) == pytest.approx(values[0])
    q = action_values(mdp.transitions, mdp.expected_rewards, np.array(values), discount)
    np.testing.assert_allclose(q[1], [3 + discount * values[1], discount * values[0]])


def linear_program(mdp, discount):
    """Returns the least V with V(s) >= r(s, a) + g sum P V for all s, a."""
    S, A = mdp.states, mdp.actions
    rows = [discount * mdp.transitions[s, a] - np.eye(S)[s] for s in range(S) for a in range(A)]
    found = linprog(np.ones(S), rows, -mdp.expected_rewards.reshape(-1), bounds=(None, None), method="highs")
    return found.x


@pytest.mark.parametrize("mdp", [frozen_lake(), cliff_walking(), garnet(31, 3, 5, 2)], ids=["lake", "cliff", "random"])
def test_planning_equals_a_linear_program(mdp):
    expected = linear_program(mdp, 0.95)
    for solution in (value_iteration(mdp, 0.95), policy_iteration(mdp, 0.95)):
        np.testing.assert_allclose(solution.values, expected, atol=1e-6)
        chosen = policy_values(
            mdp.transitions, mdp.expected_rewards, one_hot_policy(solution.policy, mdp.actions), 0.95
        )
        np.testing.assert_allclose(chosen, expected, atol=1e-6)


def test_the_values_of_a_policy_are_those_of_a_loop():
    mdp, random = garnet(7, 3, 4, 5), np.random.default_rng(0)
    policy = random.dirichlet(np.ones(3), 7)
    V = np.zeros(7)
    for _ in range(600):
        new = np.zeros(7)
        for s, a, after in np.ndindex(7, 3, 7):
            new[s] += policy[s, a] * mdp.transitions[s, a, after] * (mdp.rewards[s, a, after] + 0.9 * V[after])
        V = new
    args = mdp.transitions, mdp.expected_rewards, policy
    np.testing.assert_allclose(policy_values(*args, 0.9), V, atol=1e-9)
    compiled = jax.jit(lambda P, r, pi: policy_values(P, r, pi, 0.9))(*(jnp.asarray(x, jnp.float32) for x in args))
    np.testing.assert_allclose(compiled, V, atol=1e-4)
    assert value_of(mdp, policy, 0.9) == pytest.approx(V.mean())


def test_an_error_is_within_the_tolerance_and_shrinks_by_the_discount():
    mdp = garnet(13, 3, 4, 0)
    exact = policy_iteration(mdp, 0.9).values
    for tolerance in (1.0, 1e-3, 1e-7):
        solution = value_iteration(mdp, 0.9, tolerance)
        assert np.abs(solution.values - exact).max() < tolerance
        assert len(solution.errors) == solution.rounds
        assert np.all(solution.errors[1:] <= 0.9 * solution.errors[:-1] + 1e-12)
        bound = 0.9**solution.rounds * np.abs(exact).max()  # V_0 = 0
        assert np.abs(solution.values - exact).max() <= bound + 1e-12


def test_values_without_discount_where_episodes_end():
    cliff = cliff_walking()
    best = policy_iteration(cliff, 0.99).policy
    assert value_of(cliff, best, 1.0) == pytest.approx(-13)  # Sutton & Barto, example 6.6: the optimal path
    assert value_of(decoy_chain(5), np.ones(6, int), 0.9) == pytest.approx(0.9**4)
    lake = frozen_lake()
    best = policy_iteration(lake, 0.9999).policy
    assert value_of(lake, best, 1.0) == pytest.approx(14 / 17)  # what is known of FrozenLake without a limit of time


def test_of_equal_actions_the_first_is_taken():
    mdp = garnet(5, 2, 3, 0)
    same = MDP(np.repeat(mdp.transitions[:, :1], 2, 1), np.repeat(mdp.rewards[:, :1], 2, 1), mdp.initial, mdp.terminal)
    assert greedy(same, np.arange(5.0), 0.9).tolist() == [0] * 5


def test_the_best_policy_without_memory():
    world = recall_corridor(4)
    assert best_memoryless(world.mdp, world.observe, 1.0)[0] == pytest.approx(0.5)
    assert best_memoryless(world.mdp, world.remember, 1.0)[0] == pytest.approx(1.0)
    random = np.random.default_rng(0)  # and no policy that draws its action is better
    table = random.dirichlet(np.ones(2), (1000, 10))
    assert max(value_of(world.mdp, one[world.observe], 1.0) for one in table) < 0.5 + 1e-9


def test_the_best_policy_without_memory_is_that_of_a_search():
    mdp, observe = garnet(5, 3, 4, 3), np.array([0, 2, 0, 1, 2])
    policies = [np.array(actions)[observe] for actions in itertools.product(range(3), repeat=3)]
    best, policy = best_memoryless(mdp, observe, 0.9)
    assert best == pytest.approx(max(value_of(mdp, one, 0.9) for one in policies))
    assert best == pytest.approx(value_of(mdp, policy, 0.9))
    assert best < value_of(mdp, policy_iteration(mdp, 0.9).policy, 0.9)
    with pytest.raises(ValueError, match="27 policies for 3 observations; at most 26"):
        best_memoryless(mdp, observe, 0.9, most=26)


@pytest.mark.parametrize("solve", [value_iteration, policy_iteration])
def test_wrong_discounts(solve):
    with pytest.raises(ValueError, match=r"discount must be in \[0, 1\), got 1.0"):
        solve(two_states(), 1.0)
    with pytest.raises(ValueError, match="tolerance must be above 0"):
        value_iteration(two_states(), 0.9, 0.0)
