"""Q-learning on the ice, and on a chain with a decoy with and without exploration."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import run
from jaxdl.core import weighted_sum
from jaxdl.envs import MDP, decoy_chain, frozen_lake, of_mdp
from jaxdl.methods import Exploration, Learners, policy_values, q_learning, value_iteration, value_of
from jaxdl.run import Finding, Quantity, Result, measured

DECOY = 0.2  # the reward nearby; the one at the end of the chain is 1
POWER = 0.6  # the rate of the n-th visit is n^-POWER
LAKE = {"epsilon": Exploration(epsilon=0.2)}
CHAIN = {  # no return exceeds 1
    "none": Exploration(),
    "random": Exploration(epsilon=0.3),
    "optimism": Exploration(initial=1.0),
    "counts": Exploration(bonus=1.0),
}
ACTIONS = 250  # of each learner in a step
STEPS = {"lake": 400, "chain": 120}
# the flags that are for the policy in the corridor
OTHER: dict[str, Any] = {"monitor": "loss", "monitor_mode": "min", "patience": 0, "init": None, "init_skip": None}


def lake(config: Any) -> Result:
    """Trains learners on the slippery FrozenLake 4x4."""
    return train(config, "lake", frozen_lake(), LAKE)


def chain(config: Any) -> Result:
    """Trains learners on the chain, a quarter of them with each way to explore."""
    return train(config, "chain", decoy_chain(config.chain, DECOY), CHAIN)


def train(config: Any, name: str, mdp: MDP, groups: dict[str, Exploration]) -> Result:
    """Trains `--learners` learners of each group."""
    experiment = q_learning(
        of_mdp(mdp), groups, config.learners, discount=config.discount, power=POWER, steps=ACTIONS
    )._replace(evaluate=score(mdp, list(groups), config.discount))
    steps = STEPS[name]
    return run.fit(experiment, None, config, name=name, steps=steps, log_every=1, eval_every=steps // 40, **OTHER)


def score(mdp: MDP, groups: list[str], discount: float) -> Callable[[Learners, Any], dict[str, Any]]:
    """Returns the evaluation of a state: the exact return of the learners' greedy policies, by group."""
    tables = mdp.transitions, mdp.expected_rewards, mdp.initial

    def evaluate(state: Learners, batch: Any) -> dict[str, Any]:
        P, r, start = (jnp.asarray(table, jnp.float32) for table in tables)
        policies = jax.nn.one_hot(state.q.argmax(-1), mdp.actions)
        found = jax.vmap(lambda policy: start @ policy_values(P, r, policy, discount))(policies)
        return {f"{name}_return": weighted_sum(found, state.group == g) for g, name in enumerate(groups)}

    return evaluate


def greedy_returns(result: Result, mdp: MDP, groups: dict[str, Exploration], discount: float) -> dict[str, np.ndarray]:
    """Returns the exact return of every learner's greedy policy in float64, [seeds, learners] by group."""
    tables = np.stack([one.state.q for one in result.runs])  # [seeds, B, S, A]
    found = np.array([[value_of(mdp, q.argmax(-1), discount) for q in each] for each in tables])
    return dict(zip(groups, np.split(found, len(groups), 1), strict=True))


def of_lake(config: Any, result: Result) -> Iterator[Finding]:
    """Measures A10."""
    mdp, g = frozen_lake(), config.discount
    best = value_iteration(mdp, g)
    optimal, chance = value_of(mdp, best.policy, g), value_of(mdp, np.full((mdp.states, mdp.actions), 0.25), g)
    curves = [np.array(one.curve("train/epsilon_return")[1]) for one in result.runs]
    first, last = (
        np.array([part(x).mean() for x in curves]) for part in (lambda x: x[:4], lambda x: x[-len(x) // 10 :])
    )
    early = [one.curve("valid/epsilon_return")[1][0] for one in result.runs]
    found = greedy_returns(result, mdp, LAKE, g)["epsilon"]
    yield measured(
        "rises",
        Quantity("reward per episode in training, first hundredth", first),
        Quantity("reward per episode in training, last tenth", last),
        Quantity("last - first", last - first, ">", 0.1),
        Quantity("return of the greedy policy, end - first evaluation", found.mean(1) - early, ">", 0.0),
    )
    yield measured(
        "learned",
        Quantity("return of the greedy policy / optimal return", found.mean(1) / optimal, ">=", 0.9),
        Quantity("return - that of a random policy", found.mean(1) - chance, ">=", 0.4),
        Quantity("learners with an optimal policy, share", (found > optimal - 1e-9).mean(1)),
        reference={"optimal return": optimal, "return of a random policy": chance},
    )


def of_chain(config: Any, result: Result) -> Iterator[Finding]:
    """Measures Q03."""
    mdp, g = decoy_chain(config.chain, DECOY), config.discount
    optimal = value_of(mdp, value_iteration(mdp, g).policy, g)
    found = greedy_returns(result, mdp, CHAIN, g)
    share = lambda name, value: (np.abs(found[name] - value) < 1e-9).mean(1)
    reference = {"optimal return": optimal, "return of the decoy": DECOY}
    yield measured(
        "stuck",
        Quantity("no exploration: share of learners that take the decoy", share("none", DECOY), ">=", 0.85),
        Quantity("no exploration: return", found["none"].mean(1)),
        reference=reference,
    )
    solved = lambda name, label: Quantity(
        f"{label}: share of learners that walk to the end", share(name, optimal), ">=", 0.9
    )
    yield measured("random", solved("random", "epsilon-greedy"), reference=reference)
    yield measured(
        "systematic", solved("optimism", "optimistic values"), solved("counts", "bonus by counts"), reference=reference
    )
