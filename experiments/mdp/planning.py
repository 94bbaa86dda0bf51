"""Planning with known tables: value iteration, policy iteration, and roll-outs that earn what they predict."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxdl import run
from jaxdl.data import Batches
from jaxdl.envs import LAKES, MDP, Trajectory, cliff_walking, frozen_lake, garnet, of_mdp, of_table, play, table_policy
from jaxdl.extras import MissingExtra, require
from jaxdl.methods import one_hot_policy, policy_iteration, policy_values, value_iteration, value_of
from jaxdl.run import Finding, Quantity, measured

EPISODES, HORIZON = 3200, 500  # an episode on the ice that goes on for longer is worth less than 0.99^500 = 0.0066


def worlds(seed: int) -> dict[str, MDP]:
    """Returns the worlds in which planning is checked: three of Gymnasium, and a random one of each of ten seeds."""
    lakes = {f"FrozenLake {size}": frozen_lake(size) for size in LAKES}
    drawn = {f"random {i}": garnet(31, 3, 5, 10 * seed + i) for i in range(10)}
    return {**lakes, "CliffWalking": cliff_walking(), **drawn}


def rollouts(seed: int, mdp: MDP, policy: np.ndarray, rows: int, steps: int) -> Trajectory:
    """Plays roll-outs of a policy [S, A], each from the start of an episode: arrays [rows, steps]."""
    environment = of_mdp(mdp)

    def one(state: Any, batch: Any) -> Trajectory:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(state["seed"]), batch["row"])
        return jax.vmap(lambda key: play(environment, table_policy(state["policy"]), key, steps)[0])(keys)

    state = {"seed": np.uint32(seed), "policy": policy.astype(np.float32)}
    found: Trajectory = run.map_batches(one, state, Batches({"row": np.arange(rows, dtype=np.uint32)}, min(rows, 1024)))
    return found


def returns(seen: Trajectory, discount: float) -> np.ndarray:
    """Returns the discounted return of the first episode of each roll-out, [rows]."""
    powers = discount ** np.arange(seen.reward.shape[1])
    return np.asarray(seen.reward * np.asarray(seen.first_episode), np.float64) @ powers


def claims(config: Any) -> Iterator[Finding]:
    """Measures Q01, all but the roll-outs."""
    g, found = config.discount, worlds(config.seed)
    solved = {name: (value_iteration(mdp, g, 1e-10), policy_iteration(mdp, g)) for name, mdp in found.items()}
    distances, ratios = [], []
    for name, mdp in found.items():
        swept, improved = solved[name]
        exact = policy_values(mdp.transitions, mdp.expected_rewards, one_hot_policy(swept.policy, mdp.actions), g)
        distances.append([np.abs(swept.values - exact).max(), np.abs(improved.values - exact).max()])
        ratios.append(slowest(mdp, exact, g))
    apart = np.array(distances)
    named = [name for name in found if not name.startswith("random")]
    sweeps = {f"{kind}, {name}": one.rounds for name in named for kind, one in zip(KINDS, solved[name], strict=True)}
    yield measured(
        "bellman",
        Quantity("largest difference of value iteration", apart[:, 0].max(), "<", 1e-6),
        Quantity("largest difference of policy iteration", apart[:, 1].max(), "<", 1e-6),
        Quantity("worlds", len(found)),
        *(Quantity(name, count) for name, count in sweeps.items()),
    )
    yield measured(
        "contraction", Quantity("largest ratio of errors, after / before a sweep", max(ratios), "<=", g + 1e-9)
    )
    yield from gymnasium()


KINDS = "sweeps of value iteration", "policies of policy iteration"


def slowest(mdp: MDP, exact: np.ndarray, discount: float) -> float:
    """Returns the largest ratio of max |V - V*| after and before a sweep, while the error exceeds rounding."""
    values, ratio = np.zeros(mdp.states), 0.0
    error = np.abs(values - exact).max()
    while error > 1e-4 * np.abs(exact).max():
        values = value_iteration(mdp, discount, np.inf, values).values  # one sweep
        ratio, error = max(ratio, np.abs(values - exact).max() / error), np.abs(values - exact).max()
    return float(ratio)


def on_ice(config: Any) -> dict[str, tuple[MDP, np.ndarray, Trajectory]]:
    """Plays roll-outs on FrozenLake 4x4: by policy, the tables, the policy [S, A], and what was seen."""
    mdp = frozen_lake()
    best = one_hot_policy(policy_iteration(mdp, config.discount).policy, mdp.actions)
    policies = {"optimal": best, "random": np.full((mdp.states, mdp.actions), 0.25)}
    played = {name: rollouts(config.seed, mdp, policy, EPISODES, HORIZON) for name, policy in policies.items()}
    return {name: (mdp, policy, played[name]) for name, policy in policies.items()}


def parts(config: Any, played: Mapping[str, tuple[MDP, np.ndarray, Trajectory]]) -> Finding:
    """Compares the mean return of roll-outs with the values, and the transitions that occurred with the table."""
    quantities, reference, impossible = list[Quantity](), dict[str, float](), 0
    for name, (mdp, policy, seen) in played.items():
        got, expected = returns(seen, config.discount), value_of(mdp, policy, config.discount)
        off = abs(got.mean() - expected) / (got.std() / np.sqrt(EPISODES))
        quantities.append(Quantity(f"mean return, {name} policy", got.mean()))
        quantities.append(Quantity("its distance from the value, in standard errors", off, "<", 5))
        reference[f"value, {name} policy"] = expected
        impossible += np.sum(mdp.transitions[seen.observation, seen.action, seen.last] == 0)
    quantities.append(Quantity("transitions that the table excludes", impossible, "==", 0))
    return measured("parts", *quantities, reference=reference)


def gymnasium() -> Iterator[Finding]:
    """Compares the tables with Gymnasium's, if it is installed."""
    try:
        make = require("gymnasium", "rl").make
    except MissingExtra:
        return
    pairs = [
        *((frozen_lake(size, rate), make("FrozenLake-v1", map_name=size, is_slippery=rate < 1))
          for size in LAKES for rate in (1 / 3, 1.0)),
        *((cliff_walking(rate), make("CliffWalking-v1", is_slippery=rate < 1)) for rate in (1 / 3, 1.0)),
    ]  # fmt: skip
    apart = []
    for ours, world in pairs:
        theirs = of_table(world.unwrapped.P, world.unwrapped.initial_state_distrib)
        both = zip(vars(ours).values(), vars(theirs).values(), strict=True)
        apart += [np.abs(np.subtract(a, b, dtype=np.float64)).max() for a, b in both]
    yield measured("gymnasium", Quantity("largest difference", max(apart), "<", 1e-12), Quantity("tables", len(pairs)))
