"""Markov decision processes: planning, exploration, memory, and why a policy should sometimes draw its action.

An agent in a state of an environment takes an action, earns a reward and meets the next state. Where the tables of an
environment are known, the experiment computes the best policy; where not, Q-learning finds it from rewards, provided
that it explores.

Such a policy looks at the present alone, which is enough if the environment has the Markov property. A statistical test
on roll-outs shows whether it has, and where it has not, a recurrent policy remembers what is needed.

    Bellman     V(s) = max_a [r(s, a) + g sum_s' P(s' | s, a) V(s')],  g = --discount
    Q-learning  Q(s, a) <- Q(s, a) + n^-0.6 (r + g max_a' Q(s', a') - Q(s, a)), at the n-th visit to (s, a)
    REINFORCE   minimises -log p(a_t | o_1 .. o_t) (G_t - V_t) + (G_t - V_t)^2 / 2,  G_t = r_t + ... + r_T

The environments are FrozenLake and CliffWalking, with the tables of Gymnasium; a chain with a decoy, a small reward
nearby and a large one far away; a corridor whose first lamp says where to turn at its end; and a road with an obstacle,
where one network imitates drivers by their mean steering and another one draws from what it has seen. The flags of
training, --memory, --hidden and --corridor apply to the policy in the corridor.

    python -m experiments.mdp                                    # no files needed
    python -m experiments.mdp --memory=lstm --corridor=20
    python -m experiments.mdp --chain=12                         # random exploration needs twice as long per state

Sutton & Barto 2018, Reinforcement learning: an introduction; Watkins & Dayan 1992, Q-learning; Williams 1992,
REINFORCE; Bakker 2002, Reinforcement learning with long short-term memory.
"""

from collections.abc import Iterator

from experiments.mdp import exploring, imitating, pictures, planning, remembering
from experiments.mdp.agents import CELLS, Agent, PolicyNet, reinforce
from jaxdl import run
from jaxdl.core import Experiment
from jaxdl.data import Data
from jaxdl.envs import of_mdp, recall_corridor
from jaxdl.run import Claim, flag

FAMILY = "reinforcement"
FIGURE = "worlds"  # shown on the page of results
SMALL: dict[str, object] = {"steps": 200, "seeds": 2, "learners": 8}  # the flags at which the tests check the claims
CLAIMS = {
    "bellman": Claim("Value iteration and policy iteration equal the linear solve of the Bellman equations", "Q01",
                     headline=True),
    "contraction": Claim("Every sweep of value iteration brings the values closer by the discount at least", "Q01"),
    "parts": Claim("An agent that acts in the environment earns what the tables of states, actions and rewards predict",
                   "Q01"),
    "gymnasium": Claim("The transition tables of FrozenLake and CliffWalking equal those of Gymnasium", "Q01",
                       needs="extra:rl"),
    "rises": Claim("The return of Q-learning rises with training", "A10"),
    "learned": Claim("Q-learning nearly reaches the optimal return, and beats a random policy by far", "A10",
                     headline=True),
    "markov": Claim("Roll-outs of a Markov world pass the test of the Markov property", "Q02"),
    "not_markov": Claim("Roll-outs in which something that matters is not seen fail the test", "Q02"),
    "memoryless": Claim("No policy of the present observation alone turns to the right side more often than by chance",
                        "Q02"),
    "memory": Claim("A recurrent policy solves the corridor, and one without memory, trained equally, does not", "Q02",
                    headline=True),
    "stuck": Claim("Without exploration a learner is content with the decoy nearby", "Q03"),
    "random": Claim("With random exploration the learner finds the large reward at the end of the chain", "Q03"),
    "systematic": Claim("With systematic exploration, by optimistic values or by counts, it finds the large reward",
                        "Q03", headline=True),
    "mean": Claim("Where demonstrations go left or right, regression steers to their mean, and crashes", "M02"),
    "modes": Claim("A policy that draws its action goes left and right equally often, and passes", "M02",
                   headline=True),
}  # fmt: skip


class Config(run.RunConfig):
    """Flags of this experiment."""

    valid_fraction: float = run.no_validation("the environments are simulated, and no choice depends on data")
    memory: str = flag("gru", "memory of the policy in the corridor", choices=(*CELLS, "none"))
    hidden: int = flag(32, "width of that policy", minimum=1)
    corridor: int = flag(8, "places from the lamp to the fork", minimum=2)
    chain: int = flag(8, "states of the chain with a decoy", minimum=1)
    learners: int = flag(16, "learners by Q-learning for each way to explore", minimum=1)
    discount: float = flag(0.99, "discount of future rewards in planning and Q-learning", minimum=0, less_than=1)
    seeds: int = 5
    steps: int | None = 400
    batch_size: int = 64
    learning_rate: float = 0.01
    log_every: int = 10
    monitor: str = "return"
    monitor_mode: str = "max"

    def __post_init__(self) -> None:
        """Raises FlagError for a value outside its range."""
        super().__post_init__()
        if (worth := self.discount ** (self.chain - 1)) <= exploring.DECOY:
            told = f"the reward at the end of the chain is worth {worth:.2g}, no more than the decoy, {exploring.DECOY}"
            raise run.FlagError(f"--chain={self.chain} --discount={self.discount:g}: {told}")


def data(config: Config) -> Data:
    """Returns no data: agents play in simulated environments."""
    return Data()


def build(config: Config, data: Data) -> Experiment[Agent]:
    """Builds the policy of `--memory`, which plays --batch_size episodes in the corridor at every step."""
    world = recall_corridor(config.corridor)
    environment = of_mdp(world.mdp, world.observe)
    net = PolicyNet(None if config.memory == "none" else config.memory, config.hidden, 2 * config.corridor + 2, 2)
    return reinforce(environment, net, config.make_optimizer(), config.batch_size, config.corridor)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Plans, learns by exploring, tests the Markov property, trains policies with and without memory, and imitates."""
    yield from planning.claims(config)
    ice = planning.on_ice(config)
    yield planning.parts(config, ice)
    lake, chain = exploring.lake(config), exploring.chain(config)
    yield from exploring.of_lake(config, lake)
    yield from exploring.of_chain(config, chain)
    yield from remembering.of_worlds(config, ice["random"][2])
    kinds = dict.fromkeys((config.memory, "none"))
    fits = {kind: run.fit(build(config.replace(memory=kind), data), data, config, name=kind) for kind in kinds}
    yield from remembering.of_policies(config, fits)
    drivers = imitating.drive(config)
    yield from imitating.claims(drivers)
    pictures.worlds(config, lake, chain, fits, drivers)


if __name__ == "__main__":
    run.main()
