"""Many softmax regressions that are trained at once, each on its own rows: folds, repeated splits, trials of a search.

Members of a family share the inputs of a batch, so that all their logits are one product of matrices, and differ in the
rows that count (`batch["mask"]` [B, F]), in the labels if they have their own, in the learning rate and in the penalty.
No member affects another.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from jaxdl import losses, metrics
from jaxdl.core import Batch, Experiment, Learner, Metrics, State, make_update, mean_over_devices, weighted_sum


class Family(State):
    """F classifiers. learner: params {"kernel": [D, F N], "bias": [F N]}; rates, penalties: float32 [F]."""

    learner: Learner
    rates: Array
    penalties: Array


def family(
    tx: optax.GradientTransformation, example: Batch, classes: int, rates: Sequence[float], penalties: Sequence[float]
) -> Experiment[Family]:
    """Returns F softmax regressions, p = softmax(W x + b), that start at 0 and are trained at once.

    Member f minimises L_f = sum_b(m_bf CE_bf) / sum_b(m_bf) + penalty_f / 2 |W_f|^2; the loss of a step is
    sum_f rate_f L_f. With a rule whose step is proportional to the gradient (sgd, momentum, nesterov) rate_f is
    therefore a factor of the learning rate.

    Args:
      tx: the optimiser.
      example: one batch, for its shapes: x [B, ...] float; y integers [B, G] in [0, classes); mask [B, F], the weights
        of the rows for each member. F is a multiple of G: members 0 to F / G - 1 have the labels y[:, 0], and so on.
      classes: N.
      rates: their number divides F; they are repeated, the last axis of the members.
      penalties: as many as rates.

    Returns:
      The experiment; `predict` returns classes int32 [B, F].

    Raises:
      ValueError: the numbers of members, of label columns and of rates do not divide one another.
    """
    members, columns = example["mask"].shape[-1], example["y"].shape[-1]
    if members % columns or members % len(rates) or len(rates) != len(penalties):
        told = f"{members} members, {columns} columns of labels, {len(rates)} rates, {len(penalties)} penalties"
        raise ValueError(
            f"family: {told}; members must be a multiple of columns and rates, with a penalty for each rate"
        )
    model = nn.Dense(members * classes, kernel_init=nn.initializers.zeros)

    def logits(params: Any, batch: Batch) -> Array:
        x = batch["x"].reshape(len(batch["x"]), -1)
        z: Any = model.apply({"params": params}, x)
        return z.reshape(len(x), members, classes)

    def init(key: Array) -> Family:
        x = jnp.asarray(example["x"])
        params = model.init(key, x.reshape(len(x), -1))["params"]
        tiled = [jnp.tile(jnp.asarray(values, jnp.float32), members // len(rates)) for values in (rates, penalties)]
        return Family.create(key, learner=Learner.create(params, tx), rates=tiled[0], penalties=tiled[1])

    def labels(batch: Batch) -> Array:
        """Returns [B, F]."""
        return jnp.repeat(batch["y"], members // columns, axis=1)

    def objective(params: Any, rates: Array, penalties: Array, batch: Batch) -> tuple[Array, Metrics]:
        each = losses.softmax_cross_entropy(logits(params, batch), labels(batch))
        chex.assert_equal_shape([batch["mask"], each])
        count = mean_over_devices(batch["mask"].sum(0, dtype=jnp.float32))
        means = (each * batch["mask"]).sum(0) / jnp.maximum(count, jnp.finfo(jnp.float32).tiny)
        squares = jnp.sum(params["kernel"].reshape(-1, members, classes) ** 2, (0, 2))
        return jnp.sum(rates * (means + penalties / 2 * squares)), {"loss": means.mean()}

    update = make_update(objective, tx)

    def step(state: Family, batch: Batch) -> tuple[Family, Metrics]:
        learner, found = update(state.learner, state.rates, state.penalties, batch)
        return state.advance(learner=learner), mean_over_devices(found)

    def evaluate(state: Family, batch: Batch) -> Any:
        z, y = logits(state.learner.averaged, batch), labels(batch)
        found = {"loss": losses.softmax_cross_entropy(z, y), "accuracy": metrics.accuracy(z, y)}
        return {name: weighted_sum(values, batch["mask"]) for name, values in found.items()}

    predict = lambda state, batch: logits(state.learner.averaged, batch).argmax(-1).astype(jnp.int32)
    return Experiment(init, step, evaluate, predict=predict)
