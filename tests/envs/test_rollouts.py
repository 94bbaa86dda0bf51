"""Compares roll-outs with loops over single steps, and the road with numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.envs import (
    Environment,
    Step,
    autoreset,
    demonstrator,
    obstacle_road,
    play,
    rewards_to_go,
    rollout,
    time_limit,
)

FALSE = jnp.zeros((), bool)


def counter(end):
    """Counts the steps of an episode; the reward is the action."""

    def step(state, action, key):
        new = state + 1
        return Step(new, new * 10, jnp.float32(action), new >= end, FALSE, new * 10)

    return Environment(lambda key: (jnp.int32(0), jnp.int32(0)), step, 10 * end + 1, 5)


def remembering(memory, observation, key):
    return memory + 1, memory  # the action is the number of the step in the episode


def test_a_roll_out_resets_environment_and_memory():
    seen, end = jax.jit(lambda key: play(counter(3), remembering, key, 7, jnp.int32(0)))(jax.random.key(0))
    assert seen.observation.tolist() == [0, 10, 20, 0, 10, 20, 0]
    assert seen.last.tolist() == [10, 20, 30, 10, 20, 30, 10]
    assert seen.action.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert seen.reward.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert seen.over.tolist() == [False, False, True, False, False, True, False]
    assert seen.first_episode.tolist() == [True] * 3 + [False] * 4
    assert [int(x) for x in end] == [1, 10]


def test_a_roll_out_goes_on_where_the_last_one_ended():
    _, end = play(counter(5), remembering, jax.random.key(0), 2, jnp.int32(0))
    seen, _ = rollout(counter(5), remembering, end, jax.random.key(1), 4, jnp.int32(0))
    assert seen.observation.tolist() == [20, 30, 40, 0]


def test_autoreset_keeps_what_belongs_to_the_old_episode():
    taken = autoreset(counter(1)).step(jnp.int32(0), jnp.int32(4), jax.random.key(0))
    assert (int(taken.state), int(taken.observation), int(taken.last)) == (0, 0, 10)
    assert (float(taken.reward), bool(taken.terminated)) == (4.0, True)


@pytest.mark.parametrize(("limit", "terminated", "truncated"), [(2, False, True), (3, True, False), (4, True, False)])
def test_a_limit_of_time_truncates_but_terminates_no_episode(limit, terminated, truncated):
    environment = time_limit(counter(3), limit)
    state, _ = environment.reset(jax.random.key(0))
    for _ in range(min(limit, 3)):
        taken = environment.step(state, jnp.int32(0), jax.random.key(0))
        state = taken.state
    assert (bool(taken.terminated), bool(taken.truncated)) == (terminated, truncated)
    assert bool(taken.over)
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        time_limit(counter(3), 0)


@pytest.mark.parametrize("discount", [0.0, 0.7, 1.0])
def test_rewards_to_go_are_those_of_a_loop(discount):
    random = np.random.default_rng(0)
    reward, over = random.normal(size=13).astype(np.float32), random.uniform(size=13) < 0.3
    assert over.any()
    expected = []
    for t in range(13):
        total, power = 0.0, 1.0
        for r, end in zip(reward[t:], over[t:], strict=True):
            total, power = total + power * r, power * discount
            if end:
                break
        expected.append(total)
    np.testing.assert_allclose(rewards_to_go(jnp.asarray(reward), jnp.asarray(over), discount), expected, atol=1e-5)


@pytest.mark.parametrize(("steering", "passes"), [(1.0, True), (-1.0, True), (0.0, False), (0.7, False), (9.0, True)])
def test_the_road_by_hand(steering, passes):
    environment = obstacle_road()
    policy = lambda memory, observation, key: (memory, jnp.full((1,), steering))
    seen, _ = play(environment, policy, jax.random.key(3), 4)
    start = float(seen.observation[0, 0])
    assert abs(start) <= 0.05
    step = 0.3 * min(steering, 1.5)
    np.testing.assert_allclose(seen.last[:, 0], start + step * np.arange(1, 5), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.observation[:, 1], [1, 0.75, 0.5, 0.25])
    assert seen.over.tolist() == [False, False, False, True]
    assert seen.reward.tolist() == [0, 0, 0, float(passes)]


def test_a_demonstrator_keeps_to_one_of_two_sides():
    one = lambda key: play(obstacle_road(), demonstrator(), key, 8, jnp.zeros(()))[0]
    seen = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 997))
    sides = np.sign(np.asarray(seen.action)[..., 0])
    for episode in (sides[:, :4], sides[:, 4:]):
        assert np.all(episode == episode[:, :1])
        assert abs(episode[:, 0].mean()) < 5 / np.sqrt(997)
    assert abs(np.mean(sides[:, 0] * sides[:, 4])) < 5 / np.sqrt(997)  # another coin in the next episode
    np.testing.assert_allclose(np.std(np.abs(seen.action)), 0.1, rtol=0.1)
