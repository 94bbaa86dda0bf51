"""The Markov property: a test on roll-outs, and policies with and without a memory where it does not hold."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from experiments.mdp.planning import rollouts
from jaxdl.envs import LAKES, Trajectory, recall_corridor
from jaxdl.methods import Independence, best_memoryless, conditional_independence
from jaxdl.run import Finding, Quantity, Result, measured

SETS = 50  # of roll-outs, each tested on its own
ROWS = 64  # roll-outs in a set
STEPS = 100  # of a roll-out
LEVEL = 0.01
FALSE = 4  # rejections of a true hypothesis in 50 tests at level 0.01: more have probability 0.0002


def triples(seen: Trajectory, observe: np.ndarray, lag: int) -> np.ndarray:
    """Returns what was observed `lag` steps before, what was observed and done, and what followed, [rows, 3, N].

    Triples that a new episode interrupts are marked by -1.
    """
    observed, action, after = observe[seen.observation], np.asarray(seen.action), observe[seen.last]
    ended = np.cumsum(seen.over, 1)
    steps = ended.shape[1] - lag
    before = ended[:, lag - 1 : -1] - np.pad(ended, ((0, 0), (1, 0)))[:, :steps]  # ends in steps t - lag .. t - 1
    present = observed[:, lag:] * (action.max() + 1) + action[:, lag:]
    found = np.stack([observed[:, :steps], present, after[:, lag:]], 1)
    return np.where(before[:, None] > 0, -1, found)


def tests(seen: Trajectory, observe: np.ndarray, lag: int) -> list[Independence]:
    """Tests each set of roll-outs."""
    found = []
    for part in np.split(triples(seen, observe, lag), SETS):
        past, present, future = part.swapaxes(0, 1).reshape(3, -1)
        whole = past >= 0
        found.append(conditional_independence(past[whole], present[whole], future[whole]))
    return found


def of_worlds(config: Any, on_ice: Trajectory) -> Iterator[Finding]:
    """Measures the test on the ice and in the corridor, each with and without something that is not seen.

    On the ice an agent may see its cell, or only what it is made of: start, frozen, hole or goal.
    """
    corridor = recall_corridor(config.corridor)
    random = np.full((corridor.mdp.states, 2), 0.5)
    in_corridor = rollouts(config.seed + 1, corridor.mdp, random, SETS * ROWS, STEPS)
    on_ice = jax.tree.map(lambda x: x[: SETS * ROWS, :STEPS], on_ice)
    cell, letter = np.arange(16), np.unique(list("".join(LAKES["4x4"])), return_inverse=True)[1]
    whole = {
        "FrozenLake": tests(on_ice, cell, 1),
        "corridor, first lamp remembered": tests(in_corridor, corridor.remember, 1),
    }
    partial = {
        "FrozenLake, letters seen": tests(on_ice, letter, 1),
        "corridor, lamps seen": tests(in_corridor, corridor.observe, config.corridor - 1),
    }
    rejected = lambda found: sum(one.p_value < LEVEL for one in found)
    freedom = lambda name, found: Quantity(
        f"{name}: smallest degrees of freedom", min(x.freedom for x in found), ">", 0
    )
    quantities = [
        (Quantity(f"{name}: rejected, of {SETS} sets", rejected(found), "<=", FALSE),
         Quantity(f"{name}: mean p-value", np.mean([one.p_value for one in found])), freedom(name, found))
        for name, found in whole.items()
    ]  # fmt: skip
    yield measured("markov", *(q for each in quantities for q in each), reference={"rejections expected": LEVEL * SETS})
    rejections = [
        (Quantity(f"{name}: rejected, of {SETS} sets", rejected(found), "==", SETS),
         Quantity(f"{name}: largest p-value", max(one.p_value for one in found), "<", 1e-6))
        for name, found in partial.items()
    ]  # fmt: skip
    yield measured("not_markov", *(q for each in rejections for q in each))


def of_policies(config: Any, fits: Mapping[str, Result]) -> Iterator[Finding]:
    """Measures the best policy without memory exactly, and the trained ones by their episodes."""
    world = recall_corridor(config.corridor)
    best, _ = best_memoryless(world.mdp, world.observe, 1.0)
    informed, _ = best_memoryless(world.mdp, world.remember, 1.0)
    yield measured(
        "memoryless",
        Quantity("largest return of all policies of the observation", best, "<=", 0.5 + 1e-9),
        reference={"largest return of the policies that know the first lamp": informed},
    )
    if config.memory == "none":
        return
    yield measured(
        "memory",
        Quantity(f"return, {config.memory}", fits[config.memory].values("return"), ">=", 0.95, enough=-1),
        Quantity("return, without memory", fits["none"].values("return"), "<", 0.6, enough=-1),
        reference={"best return without memory": best},
    )
