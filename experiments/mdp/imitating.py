"""Behaviour cloning at an obstacle: one network predicts the mean steering, another one the distribution."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from experiments.mdp.exploring import OTHER
from jaxdl import losses, run
from jaxdl.data import Batches
from jaxdl.envs import Policy, demonstrator, obstacle_road, play
from jaxdl.envs.roads import DISTANCE
from jaxdl.nn import MLP
from jaxdl.run import Finding, Quantity, measured
from jaxdl.supervision import supervised

EPISODES = 4096  # demonstrations, and drives of each policy
BINS = np.linspace(-1.5, 1.5, 31, dtype=np.float32)  # centres of the steerings that the sampler distinguishes
TRAINING: dict[str, Any] = {"steps": 800, "batch_size": 128, "learning_rate": 3e-3, "schedule": "cosine",
            "log_every": 10}  # fmt: skip


class Drivers(nn.Module):
    """Two networks of one shape, trained side by side: mean steering [B], and logits of steerings [B, BINS]."""

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Array]:
        """Maps observations [B, 2]; x is scaled, because it is decided near 0."""
        x = x * jnp.array([[5.0, 1.0]])
        return {"mean": MLP((64, 64, 1))(x)[:, 0], "logits": MLP((64, 64, len(BINS)))(x)}


class Drives(NamedTuple):
    """Roll-outs of one driver for each seed: positions [seeds, EPISODES, 5], steering [..., 4], whether it passed."""

    x: Any
    steering: Any
    passed: Any


def drives(policies: Any, memory: Any, state: Any, seed: int) -> dict[str, Drives]:
    """Drives EPISODES times with each policy, a function from the state to a `Policy`."""

    def one(state: Any, batch: Any) -> dict[str, Drives]:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(state["seed"]), batch["row"])
        found = {}
        for i, (name, policy) in enumerate(policies(state["params"]).items()):
            each = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            seen, _ = jax.vmap(lambda key: play(obstacle_road(), policy, key, DISTANCE, memory))(each)
            x = jnp.concatenate([seen.observation[..., 0], seen.last[:, -1:, 0]], 1)
            found[name] = Drives(x, seen.action[..., 0], seen.reward.sum(1) > 0)
        return found

    rows = Batches({"row": np.arange(EPISODES, dtype=np.uint32)}, EPISODES)
    found: dict[str, Drives] = run.map_batches(one, {"seed": np.uint32(seed), "params": state}, rows)
    return found


def drive(config: Any) -> dict[str, Drives]:
    """Records demonstrations, trains both networks on them for each seed, and drives with both."""
    taught = drives(lambda _: {"demonstrations": demonstrator()}, jnp.zeros(()), (), config.seed)["demonstrations"]
    left = np.broadcast_to(1 - np.arange(DISTANCE) / DISTANCE, taught.steering.shape)
    x = np.stack([taught.x[:, :-1], left], -1).reshape(-1, 2)
    rows = Batches({"x": x, "y": taught.steering.reshape(-1)}, TRAINING["batch_size"])

    def loss(outputs: dict[str, Array], batch: Any) -> Array:
        nearest = jnp.abs(batch["y"][:, None] - BINS[None]).argmin(-1)
        return losses.squared_error(outputs["mean"], batch["y"]) + losses.softmax_cross_entropy(
            outputs["logits"], nearest
        )

    config = config.replace(**TRAINING, **OTHER)
    net = Drivers()
    experiment = supervised(net, config.make_optimizer(), example=rows.example, loss=loss)
    result = run.fit(experiment, rows, config, name="drivers")

    def policies(params: Any) -> dict[str, Policy]:
        outputs = lambda observation: jax.tree.map(lambda x: x[0], net.apply({"params": params}, observation[None]))
        sample = lambda observation, key: jnp.asarray(BINS)[jax.random.categorical(key, outputs(observation)["logits"])]
        return {
            "regression": lambda memory, observation, key: (memory, outputs(observation)["mean"][None]),
            "sampler": lambda memory, observation, key: (memory, sample(observation, key)[None]),
        }

    each = [drives(policies, (), one.state.learner.averaged, config.seed + 1 + i) for i, one in enumerate(result.runs)]
    learned = {name: Drives(*map(np.stack, zip(*(one[name] for one in each), strict=True))) for name in each[0]}
    return {"demonstrations": Drives(*(x[None] for x in taught)), **learned}


def claims(found: dict[str, Drives]) -> Iterator[Finding]:
    """Measures M02."""
    shown, mean, drawn = (found[name] for name in ("demonstrations", "regression", "sampler"))
    crashes = lambda one: 1 - one.passed.mean(1)
    first = lambda one: one.steering[..., 0]
    sides = lambda one: (np.abs(np.abs(first(one)) - 1) < 0.5).mean(1)  # steering that a demonstration might show
    to_left = lambda one: (first(one) < 0).mean(1)
    reference = {"crashes, demonstrations": crashes(shown), "left, demonstrations": to_left(shown)}
    yield measured(
        "mean",
        Quantity("mean size of the first steering, regression", np.abs(first(mean)).mean(1), "<", 0.25),
        Quantity("share of crashes", crashes(mean), ">", 0.9),
        reference={"mean size of the first steering, demonstrations": np.abs(first(shown)).mean(1)} | reference,
    )
    yield measured(
        "modes",
        Quantity("share of first steerings to the left", to_left(drawn)),
        Quantity("its distance from one half", np.abs(to_left(drawn) - 0.5), "<", 0.08),
        Quantity("share of first steerings near those of demonstrations", sides(drawn), ">", 0.95),
        Quantity("share of crashes", crashes(drawn), "<", 0.1),
        reference=reference,
    )
