"""Environments as pure functions, which run under jit, vmap and scan; finite ones are also tables."""

from jaxdl.envs.chains import decoy_chain
from jaxdl.envs.environments import Environment, Step, autoreset, endless_step, time_limit
from jaxdl.envs.grids import LAKES, cliff_walking, frozen_lake, grid
from jaxdl.envs.recalls import Recall, recall_corridor
from jaxdl.envs.roads import Car, demonstrator, obstacle_road
from jaxdl.envs.rollouts import Policy, Trajectory, play, rewards_to_go, rollout, table_policy
from jaxdl.envs.tabular import MDP, absorbing, garnet, of_mdp, of_table

__all__ = [
    "LAKES",
    "MDP",
    "Car",
    "Environment",
    "Policy",
    "Recall",
    "Step",
    "Trajectory",
    "absorbing",
    "autoreset",
    "cliff_walking",
    "decoy_chain",
    "demonstrator",
    "endless_step",
    "frozen_lake",
    "garnet",
    "grid",
    "obstacle_road",
    "of_mdp",
    "of_table",
    "play",
    "recall_corridor",
    "rewards_to_go",
    "rollout",
    "table_policy",
    "time_limit",
]
