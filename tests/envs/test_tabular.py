"""Compares the tables of environments with Gymnasium's, with loops and with numbers worked out by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.envs import (
    LAKES,
    MDP,
    absorbing,
    cliff_walking,
    decoy_chain,
    frozen_lake,
    garnet,
    grid,
    of_mdp,
    of_table,
    play,
    recall_corridor,
    table_policy,
)


@pytest.mark.parametrize("rate", [1 / 3, 0.7, 1.0])
@pytest.mark.parametrize("size", LAKES)
def test_frozen_lake_is_that_of_gymnasium(size, rate):
    gymnasium = pytest.importorskip("gymnasium")
    world = gymnasium.make("FrozenLake-v1", map_name=size, is_slippery=rate < 1, success_rate=rate).unwrapped
    agrees(frozen_lake(size, rate), world, ends=())


@pytest.mark.parametrize("rate", [1 / 3, 1.0])
def test_cliff_walking_is_that_of_gymnasium(rate):
    gymnasium = pytest.importorskip("gymnasium")
    agrees(cliff_walking(rate), gymnasium.make("CliffWalking-v1", is_slippery=rate < 1).unwrapped, ends=(47,))


def agrees(mdp, world, ends):
    """Outcome by outcome; in `ends` Gymnasium's table goes on, although no episode does."""
    np.testing.assert_array_equal(mdp.initial, world.initial_state_distrib)
    for state, action in itertools.product(range(mdp.states), range(mdp.actions)):
        if state in ends:
            assert mdp.terminal[state]
            continue
        outcomes = world.P[state][action]
        for after in range(mdp.states):
            these = [(p, r, end) for p, to, r, end in outcomes if to == after]
            probability = sum(p for p, _, _ in these)
            assert mdp.transitions[state, action, after] == pytest.approx(probability, abs=1e-12)
            if probability > 0:
                mean = sum(p * r for p, r, _ in these) / probability
                assert mdp.rewards[state, action, after] == pytest.approx(mean, abs=1e-9)
                assert {end for _, _, end in these} == {bool(mdp.terminal[after])}
    same = of_table(world.P, world.initial_state_distrib)
    for ours, theirs in zip(vars(mdp).values(), vars(same).values(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_a_table_by_hand():
    # two ways to state 1: mean reward (0.25 * 4 + 0.5 * 1) / 0.75 = 2
    table = {0: {0: [(0.25, 1, 4, False), (0.5, 1, 1, False), (0.25, 2, -3, True)]},
             1: {0: [(1.0, 0, 7, False)]}, 2: {0: [(1.0, 0, 5, False)]}}  # fmt: skip
    mdp = of_table(table, np.array([1.0, 0, 0]))
    np.testing.assert_array_equal(mdp.transitions[:, 0], [[0, 0.75, 0.25], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(mdp.rewards[:, 0], [[0, 2, -3], [7, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(mdp.expected_rewards[:, 0], [0.75, 7, 0])
    assert mdp.terminal.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rewards": np.zeros((3, 2))}, r"must be \[S, A, S\]"),
        ({"initial": np.ones(2) / 2}, r"must be \[3\]"),
        ({"initial": np.ones(3)}, "initial must be probabilities"),
        ({"transitions": np.full((3, 2, 3), 0.5)}, "transitions must be probabilities"),
        ({"terminal": np.array([False, False, True])}, "must loop to itself"),
    ],
)
def test_wrong_tables(change, words):
    fields = {"transitions": np.full((3, 2, 3), 1 / 3), "rewards": np.ones((3, 2, 3)), "initial": np.eye(3)[0],
              "terminal": np.zeros(3, bool)}  # fmt: skip
    MDP(**fields)
    absorbing(**(fields | {"terminal": np.array([False, False, True])}))
    with pytest.raises(ValueError, match=words):
        MDP(**(fields | change))


def test_wrong_grids():
    with pytest.raises(ValueError, match="success_rate must be in"):
        frozen_lake(success_rate=1.5)
    with pytest.raises(ValueError, match="different lengths: SF, G"):
        grid(("SF", "G"), ((0, 1),), lambda cell: (0.0, False))


def test_draws_have_the_probabilities_of_the_table():
    mdp = garnet(7, 3, 4, seed=1)
    environment = of_mdp(mdp)
    assert np.all(np.sum(mdp.transitions > 0, -1) == 4)
    n = 4000
    taken = jax.jit(jax.vmap(lambda key: environment.step(jnp.int32(5), jnp.int32(2), key)))(
        jax.random.split(jax.random.key(0), n)
    )
    p = mdp.transitions[5, 2]
    counts = np.bincount(taken.state, minlength=7)
    assert np.all(counts[p == 0] == 0)
    assert np.all(np.abs(counts / n - p) < 5 * np.sqrt(0.25 / n))
    np.testing.assert_allclose(taken.reward, mdp.rewards[5, 2, taken.state], rtol=1e-6)
    starts, _ = jax.vmap(environment.reset)(jax.random.split(jax.random.key(1), n))
    assert np.all(np.abs(np.bincount(starts, minlength=7) / n - 1 / 7) < 5 * np.sqrt(0.13 / n))


def test_the_chain_by_hand():
    mdp = decoy_chain(3, 0.2)
    environment = of_mdp(mdp)
    act = lambda state, action: environment.step(jnp.int32(state), jnp.int32(action), jax.random.key(0))
    for state, action, after, reward in ((0, 0, 3, 0.2), (1, 0, 3, 0), (0, 1, 1, 0), (1, 1, 2, 0), (2, 1, 3, 1)):
        taken = act(state, action)
        assert (int(taken.state), float(taken.reward)) == (after, pytest.approx(reward))
        assert bool(taken.terminated) == (after == 3)
    assert int(environment.reset(jax.random.key(0))[0]) == 0
    with pytest.raises(ValueError, match="at least 1, got 0"):
        decoy_chain(0)


def test_the_corridor_rewards_who_remembers_the_first_lamp():
    length, rows = 5, 97
    world = recall_corridor(length)
    environment = of_mdp(world.mdp, world.observe)
    assert environment.observations == 2 * length + 2
    one = lambda key: play(environment, table_policy(jnp.ones((12, 2)) / 2), key, 2 * length)[0]
    seen = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), rows))
    observed, over = np.asarray(seen.observation), np.asarray(seen.over)
    places = np.tile(np.arange(length), 2)
    np.testing.assert_array_equal(observed // 2, np.tile(places, (rows, 1)))
    np.testing.assert_array_equal(over, np.tile(places == length - 1, (rows, 1)))
    lamps, action = observed % 2, np.asarray(seen.action)
    for start in (0, length):
        right = action[:, start + length - 1] == lamps[:, start]
        np.testing.assert_array_equal(seen.reward[:, start + length - 1], right)
        np.testing.assert_array_equal(seen.last[:, start + length - 1], 2 * length + ~right)
    assert np.all(np.asarray(seen.reward)[~over] == 0)
    assert 0.35 < lamps[:, 1:length].mean() < 0.65
    with pytest.raises(ValueError, match="at least 2, got 1"):
        recall_corridor(1)
