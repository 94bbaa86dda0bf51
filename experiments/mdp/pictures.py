"""The figure of the experiment: what each of its worlds teaches, from arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.mdp.exploring import CHAIN, DECOY
from experiments.mdp.imitating import Drives
from jaxdl import run
from jaxdl.envs import LAKES, MDP, cliff_walking, decoy_chain, frozen_lake
from jaxdl.envs.grids import CLIFF, CLIFF_MOVES, LAKE_MOVES
from jaxdl.methods import policy_iteration, value_iteration, value_of
from jaxdl.run import Result, plots

LABELS = {"none": "none", "random": "random: epsilon-greedy", "optimism": "systematic: optimistic values",
          "counts": "systematic: bonus by counts"}  # fmt: skip
COLOURS = {"S": "0.85", "H": "0.25", "C": "0.25", "G": "#f2b134"}  # start, hole, cliff, goal


def worlds(config: Any, lake: Result, chain: Result, fits: Mapping[str, Result], drivers: Mapping[str, Drives]) -> None:
    """Draws planning, learning, exploration, memory and imitation, one panel each."""

    def draw() -> Any:
        figure, axes = plots.new_figure(13.5, 7.8, 2, 3, width_ratios=(1.15, 1, 1))
        planned(axes[0, 0], frozen_lake("8x8"), LAKES["8x8"], LAKE_MOVES, config.discount)
        axes[0, 0].set_title("FrozenLake 8x8: values and best actions")
        planned(axes[1, 0], cliff_walking(), CLIFF, CLIFF_MOVES, config.discount)
        axes[1, 0].set_title("CliffWalking: values and best actions")
        learned(axes[0, 1], lake, config.discount)
        explored(axes[1, 1], chain, config)
        remembered(axes[0, 2], fits)
        imitated(axes[1, 2], drivers)
        return figure

    run.save_figure(config, "worlds", draw)


def planned(axis: Any, mdp: MDP, cells: Any, moves: Any, discount: float) -> None:
    """Draws optimal values as colours, and an arrow for the best action of each cell that is not terminal."""
    from matplotlib.patches import Rectangle

    rows, columns = len(cells), len(cells[0])
    found = policy_iteration(mdp, discount)
    solid = np.isin(list("".join(cells)), ["H", "C", "G"]).reshape(rows, columns)
    values = np.ma.masked_array(found.values.reshape(rows, columns), solid)
    picture = axis.imshow(values, cmap="YlGnBu")
    axis.figure.colorbar(picture, ax=axis, shrink=0.8 if rows > 4 else 0.45, label="value of the cell")
    for state, cell in enumerate("".join(cells)):
        row, column = divmod(state, columns)
        if cell in "HCG":
            axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=COLOURS[cell], linewidth=0))
        else:
            down, right = moves[found.policy[state]]
            bright = picture.norm(found.values[state]) > 0.6
            arrow = {"arrowstyle": "->", "color": "w" if bright else "k", "lw": 1.2}
            ends = (column + 0.3 * right, row + 0.3 * down), (column - 0.3 * right, row - 0.3 * down)
            axis.annotate("", *ends, arrowprops=arrow)
        if cell in "SG":
            place = (column, row) if cell == "G" else (column - 0.33, row - 0.3)
            axis.text(*place, cell, ha="center", va="center", fontsize=9 if cell == "G" else 7, fontweight="bold")
    axis.set(xticks=(), yticks=())
    axis.set_xlabel("S start, G goal, dark: " + ("hole; the ice is slippery" if rows == columns else "cliff"))


def learned(axis: Any, result: Result, discount: float) -> None:
    """Draws the return of Q-learning over training, between that of a random policy and the optimum."""
    mdp = frozen_lake()
    for i, one in enumerate(result.runs):
        steps, values = plots.thinned(*one.curve("train/epsilon_return"), most=80)
        axis.plot(steps, values, color="C1", alpha=0.5, label=None if i else "while it explores, undiscounted")
        axis.plot(*one.curve("valid/epsilon_return"), color="C0", alpha=0.7, label=None if i else "its greedy policy")
    optimal = value_of(mdp, value_iteration(mdp, discount).policy, discount)
    chance = value_of(mdp, np.full((mdp.states, mdp.actions), 0.25), discount)
    axis.axhline(optimal, color="k", linestyle="--", linewidth=1, label="optimal policy")
    axis.axhline(chance, color="0.5", linestyle=":", linewidth=1.5, label="random policy")
    axis.set(title="Q-learning on FrozenLake 4x4", xlabel="step of 250 actions", ylabel="return", ylim=(-0.02, 0.65))
    _finish(axis, "lower right")


def explored(axis: Any, result: Result, config: Any) -> None:
    """Draws the return of greedy policies on the chain by the way to explore."""
    mdp = decoy_chain(config.chain, DECOY)
    styles = dict(zip(CHAIN, ("-", "-", "-", "--"), strict=True))
    for i, name in enumerate(CHAIN):
        curves = [one.curve(f"valid/{name}_return") for one in result.runs]
        height = np.mean([values for _, values in curves], 0)
        axis.plot(curves[0][0], height, styles[name], color=f"C{i}", label=LABELS[name])
    best = value_of(mdp, value_iteration(mdp, config.discount).policy, config.discount)
    axis.axhline(best, color="k", linestyle="--", linewidth=1, label="walking to the end")
    axis.axhline(DECOY, color="0.5", linestyle=":", linewidth=1.5, label="the decoy")
    axis.set(title="Chain with a decoy: exploration", xlabel="step of 250 actions", ylim=(0, 1))
    axis.set_ylabel("return of the greedy policy, mean")
    _finish(axis, "center right")


def remembered(axis: Any, fits: Mapping[str, Result]) -> None:
    """Draws the return in the corridor of policies with and without memory."""
    for i, (name, result) in enumerate(fits.items()):
        for j, one in enumerate(result.runs):
            label = "without memory" if name == "none" else name.upper()
            axis.plot(*one.curve("train/return"), color=f"C{i}", alpha=0.6, label=None if j else label)
    axis.axhline(0.5, color="0.5", linestyle=":", linewidth=1.5, label="bound without memory")
    axis.set(title="Corridor: the first lamp says where to turn", xlabel="step", ylabel="return", ylim=(0, 1.05))
    _finish(axis, "lower right")


def imitated(axis: Any, found: Mapping[str, Drives]) -> None:
    """Draws drives towards the obstacle: demonstrations, the regression and the sampler."""
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((-1, -0.08), 2, 0.16, color="0.25"))
    axis.text(0, -0.28, "obstacle", ha="center", fontsize=8)
    colours = {"demonstrations": "0.7", "sampler": "C0", "regression": "C3"}
    for name, colour in colours.items():
        one = found[name]
        crashes = 1 - one.passed.mean()
        for i, x in enumerate(one.x[0, :20]):
            label = None if i else f"{name}: {crashes:.0%} crash"
            axis.plot(x, np.arange(len(x))[::-1], color=colour, alpha=0.6, linewidth=1, label=label)
    axis.set(title="Imitation of drivers: mean or draw", xlabel="position across the road", xlim=(-1.7, 1.7))
    axis.set(ylabel="steps to the obstacle", ylim=(-0.45, 5.4))
    _finish(axis, "upper center")


def _finish(axis: Any, place: str) -> None:
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7.5, loc=place)
