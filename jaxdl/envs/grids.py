"""Grid worlds: FrozenLake and CliffWalking, with the transition tables of Gymnasium."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxdl.envs.tabular import MDP, absorbing

LAKES = {
    "4x4": ("SFFF", "FHFH", "FFFH", "HFFG"),
    "8x8": ("SFFFFFFF", "FFFFFFFF", "FFFHFFFF", "FFFFFHFF", "FFFHFFFF", "FHHFFFHF", "FHFFHFHF", "FFFHFFFG"),
}  # start, frozen, hole, goal
CLIFF = ("............", "............", "............", "SCCCCCCCCCCG")  # start, cliff, goal
LEFT, DOWN, RIGHT, UP = (0, -1), (1, 0), (0, 1), (-1, 0)  # (rows, columns)
LAKE_MOVES = (LEFT, DOWN, RIGHT, UP)  # of actions 0 .. 3
CLIFF_MOVES = (UP, RIGHT, DOWN, LEFT)


def grid(
    cells: Sequence[str],
    moves: Sequence[tuple[int, int]],
    arrive: Callable[[str], tuple[float, bool]],
    success_rate: float = 1.0,
    terminal: str = "G",
) -> MDP:
    """Returns the MDP of walks on a grid; states are cells, row by row.

    An action moves as intended with probability `success_rate`, and in each direction at a right angle with half of the
    rest. At the edge the agent stays in its cell.

    Args:
      cells: one text per row, of equal length; S marks the start.
      moves: (rows, columns) of each action; neighbours in this list are at a right angle.
      arrive: cell -> (reward of arriving there, whether the agent is put back to the start).
      success_rate: in [0, 1].
      terminal: the cells in which an episode ends.

    Raises:
      ValueError: `success_rate` is outside of [0, 1], or the rows differ in length.
    """
    if not 0 <= success_rate <= 1:
        raise ValueError(f"success_rate must be in [0, 1], got {success_rate}")
    rows, columns = len(cells), len(cells[0])
    if any(len(row) != columns for row in cells):
        raise ValueError(f"cells: the rows have different lengths: {', '.join(cells)}")
    flat = "".join(cells)
    S, A = len(flat), len(moves)
    P, gains, start = np.zeros((S, A, S)), np.zeros((S, A, S)), flat.index("S")
    turns = ((0, success_rate), (-1, (1 - success_rate) / 2), (1, (1 - success_rate) / 2))
    for state, action in np.ndindex(S, A):
        for turn, probability in turns:
            row, column = np.add(np.divmod(state, columns), moves[(action + turn) % A])
            after = int(np.clip(row, 0, rows - 1) * columns + np.clip(column, 0, columns - 1))
            reward, back = arrive(flat[after])
            after = start if back else after
            P[state, action, after] += probability
            gains[state, action, after] += probability * reward
    rewards = np.divide(gains, P, out=np.zeros_like(P), where=P > 0)
    letters = np.array(list(flat))
    return absorbing(P, rewards, (letters == "S") / np.sum(letters == "S"), np.isin(letters, list(terminal)))


def frozen_lake(cells: str | Sequence[str] = "4x4", success_rate: float = 1 / 3) -> MDP:
    """Returns FrozenLake: cross the ice to the goal, reward 1; holes and the goal end the episode.

    Actions are 0 left, 1 down, 2 right, 3 up. On slippery ice each of the three directions other than backwards has
    probability 1/3; a success rate of 1 is the lake that is not slippery.

    Args:
      cells: a name in LAKES, or rows of the letters S, F, H and G.
      success_rate: probability of moving as intended.
    """
    named = LAKES[cells] if isinstance(cells, str) else cells
    return grid(named, LAKE_MOVES, lambda cell: (float(cell == "G"), False), success_rate, "GH")


def cliff_walking(success_rate: float = 1.0) -> MDP:
    """Returns CliffWalking: reach the goal along a cliff; a step costs 1, a fall 100 and leads back to the start.

    Actions are 0 up, 1 right, 2 down, 3 left. The best walk has 13 steps. Gymnasium's slippery version is a success
    rate of 1/3; where a fall and a step both lead to the start, the reward here is their mean.

    Reference: Sutton & Barto 2018, Reinforcement learning, example 6.6.
    """
    return grid(CLIFF, CLIFF_MOVES, lambda cell: (-100.0 if cell == "C" else -1.0, cell == "C"), success_rate)
