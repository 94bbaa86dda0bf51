"""Compares Q-learning with an update worked out by hand, a NumPy loop and exact values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.envs import decoy_chain, frozen_lake, obstacle_road, of_mdp
from jaxdl.methods import Exploration, choose_action, q_learning
from jaxdl.methods.temporal_difference import updated


def test_updates_by_hand():
    """Rates 1 and 1/2 at power 1: Q = 2 + 0.5 max(3 + 1, 5 - 2) = 4, then 4 + (1 - 4) / 2 = 2.5 at a terminal state."""
    q, optimism = jnp.array([[0.0, 0.0], [3.0, 5.0]]), jnp.array([[0.0, 0.0], [1.0, -2.0]])
    visits = jnp.zeros((2, 2), jnp.int32)
    q, visits, error = updated(q, visits, optimism, (0, 1, 2.0, 1, jnp.array(False)), 0.5, 1.0)
    assert (q.tolist(), float(error)) == ([[0, 4], [3, 5]], 4)
    q, visits, error = updated(q, visits, optimism, (0, 1, 1.0, 1, jnp.array(True)), 0.5, 1.0)
    assert (q.tolist(), float(error)) == ([[0, 2.5], [3, 5]], -3)
    assert visits.tolist() == [[0, 2], [0, 0]]


def test_frequencies_of_actions():
    """Best two of five, epsilon 0.4: 0.3 + 0.08 each, and 0.08 of the others."""
    values = jnp.array([1.0, 3.0, 2.0, 3.0, 0.0])
    keys = jax.random.split(jax.random.key(0), 10_000)
    actions = jax.vmap(lambda key: choose_action(values, jnp.float32(0.4), key))(keys)
    share = np.bincount(actions, minlength=5) / len(keys)
    np.testing.assert_allclose(share, [0.08, 0.38, 0.08, 0.38, 0.08], atol=0.02)
    greedy = jax.vmap(lambda key: choose_action(values, jnp.float32(0), key))(keys)
    assert set(np.asarray(greedy).tolist()) == {1, 3}


def test_learners_equal_a_loop_over_what_they_saw():
    """On the chain all that follows from the actions is certain, so NumPy can replay the visits of one learner."""
    groups = {"a": Exploration(epsilon=0.5), "b": Exploration(bonus=1.0, initial=0.5)}
    experiment = q_learning(of_mdp(decoy_chain(3)), groups, 3, discount=0.9, power=0.7, steps=1)
    state = jax.jit(experiment.init)(jax.random.key(0))
    step = jax.jit(experiment.step)
    q, n, at = np.repeat([0.0, 0.5], 3)[:, None, None] * np.ones((6, 4, 2)), np.zeros((6, 4, 2)), np.zeros(6, int)
    bonus = np.repeat([0.0, 1.0], 3)
    rewards = {(0, 0): 0.2, (2, 1): 1.0}
    for _ in range(60):
        before = np.asarray(state.visits)
        state, metrics = step(state, None)
        for i in range(6):
            ((s, a),) = np.argwhere(np.asarray(state.visits)[i] != before[i])
            assert s == at[i]
            over = a == 0 or s == 2
            optimism = bonus[i] / np.sqrt(n[i] + 1)
            target = rewards.get((s, a), 0.0) + (0 if over else 0.9 * (q[i] + optimism)[s + 1].max())
            n[i, s, a] += 1
            q[i, s, a] += n[i, s, a] ** -0.7 * (target - q[i, s, a])
            at[i] = 0 if over else s + 1
    np.testing.assert_allclose(state.q, q, atol=1e-5)
    assert metrics["loss"].shape == ()
    assert set(metrics) == {"loss", "a_return", "b_return"}
    assert state.group.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.claims
def test_the_estimates_approach_the_optimal_values():
    from jaxdl.methods import action_values, value_iteration

    mdp = frozen_lake(success_rate=0.8)
    best = value_iteration(mdp, 0.9)
    expected = action_values(mdp.transitions, mdp.expected_rewards, best.values, 0.9)
    experiment = q_learning(of_mdp(mdp), {"x": Exploration(epsilon=1.0)}, 5, discount=0.9, steps=20_000)
    state = jax.jit(experiment.init)(jax.random.key(0))
    step = jax.jit(experiment.step)
    for _ in range(10):
        state, _ = step(state, None)
    np.testing.assert_allclose(state.q.mean(0)[~mdp.terminal], expected[~mdp.terminal], atol=0.03)


def test_arrays_cannot_be_learned_by_tables():
    with pytest.raises(ValueError, match="numbered observations and actions"):
        q_learning(obstacle_road(), {"x": Exploration()}, 1, discount=0.9)
