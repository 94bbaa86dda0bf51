"""Supervised learning: one network trained on labelled batches, as in half of the experiments."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from jaxdl import optim
from jaxdl.core import (
    Batch,
    Experiment,
    Learner,
    Metrics,
    Params,
    State,
    WeightedSum,
    cast,
    make_update,
    mean_over_devices,
    weighted_mean,
    weighted_sum,
)


class Supervised(State):
    """The state of one network: its learner, and `stats`, all collections except parameters (batch norm's averages)."""

    learner: Learner
    stats: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The variables with which `model.apply` evaluates and predicts."""
        return {"params": self.learner.averaged, **self.stats}


def modes(model: Any) -> Callable[[bool], dict[str, Any]]:
    """Returns train -> the keyword with which to call a module: `train`, `training`, `deterministic`, or none.

    A module that passes on any keyword gets `train`; for a Sequential, the first layer decides.
    """
    if isinstance(model, nn.Sequential):
        return modes(model.layers[0]) if model.layers else lambda train: {}
    try:
        known = inspect.signature(type(model).__call__ if isinstance(model, nn.Module) else model).parameters
    except ValueError:  # a layer written in C
        return lambda train: {}
    if "deterministic" in known and "train" not in known:
        return lambda train: {"deterministic": not train}
    names = [name for name in ("train", "training") if name in known]
    if not names and any(x.kind is inspect.Parameter.VAR_KEYWORD for x in known.values()):
        names = ["train"]
    return lambda train: dict.fromkeys(names, train)


def supervised(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    example: Batch,
    loss: Callable[[Any, Batch], Array],
    metrics: Callable[[Any, Batch], Metrics] = lambda outputs, batch: {},
    inputs: Callable[[Batch], tuple[Any, ...]] = lambda batch: (batch["x"],),
    augment: Callable[[Array, Batch], Batch] | None = None,
    predict: Callable[[Any], Any] = lambda outputs: outputs,
    precision: str = "float32",
) -> Experiment[Supervised]:
    """Returns the experiment of a network trained on labelled batches: minimise sum_b(m_b loss_b) / sum_b(m_b).

    `batch["mask"]`, [B] or [B, T], if present, weights losses and metrics alike: 0 leaves an entry out, any other
    number >= 0 is a weight. Batch norm's statistics count every row.

    Args:
      model: called as model(*inputs(batch), train=bool), with a "dropout" key in training; `training` and
        `deterministic` work too, and a module may have none of them.
      tx: the optimiser.
      example: one batch, for its shapes.
      loss: (outputs, batch) -> [B, ...], one or more numbers per example, NOT reduced; used in training and evaluation.
      metrics: (outputs, batch) -> {name: [B, ...]}, not reduced either.
      inputs: batch -> the model's inputs, a tuple.
      augment: (keys [B], batch) -> batch, in training only; one key per example, so the draws do not depend on the
        number of devices.
      predict: outputs -> the prediction for each row, [B, ...], such as probabilities from logits.
      precision: "bfloat16": in training the network computes with parameters and inputs rounded to it; its outputs are
        cast to float32 for the loss, and parameters, batch norm's averages and evaluation always are float32.

    Raises:
      ValueError: there is no example; or, when a step or an evaluation is traced, the loss or a metric is already
        reduced to a scalar.
    """
    if example is None:
        raise ValueError("example: must be one batch, for its shapes, not None (for a dict of arrays, its first rows)")
    mode = modes(model)

    def scores(outputs: Any, batch: Batch) -> Metrics:
        found = {"loss": loss(outputs, batch)} | metrics(outputs, batch)
        for name, values in found.items():
            if jnp.ndim(values) == 0:
                told = "must return [B, ...], one number per example, not a scalar: remove .mean()"
                raise ValueError(f"{name if name == 'loss' else f'the metric {name}'} {told}")
        return found

    def init(key: Array) -> Supervised:
        key_params, key_dropout = jax.random.split(key)
        stats = dict(model.init({"params": key_params, "dropout": key_dropout}, *inputs(example), **mode(False)))
        if "params" not in stats:
            raise ValueError(f"the model {type(model).__name__} has no parameters to train")
        return Supervised.create(key, learner=Learner.create(stats.pop("params"), tx), stats=stats)

    def objective(params: Params, stats: Any, batch: Batch, key: Array) -> tuple[Array, Any]:
        variables, rngs = {"params": params, **stats}, {"dropout": key}
        x = cast(inputs(batch), precision)
        outputs, new = model.apply(variables, *x, **mode(True), rngs=rngs, mutable=list(stats))
        stats = jax.tree.map(lambda x, old: x.astype(old.dtype), new, stats)
        outputs = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == precision else x, outputs)
        reduced = {name: weighted_mean(values, batch.get("mask")) for name, values in scores(outputs, batch).items()}
        return reduced["loss"], (stats, reduced)

    update = make_update(objective, tx, precision=precision)

    def step(state: Supervised, batch: Batch) -> tuple[Supervised, Metrics]:
        rows = len(jax.tree.leaves(batch)[0])
        if augment is not None:
            batch = augment(state.example_keys(rows), batch)
        count = mean_over_devices(jnp.sum(batch["mask"], dtype=jnp.float32)) if "mask" in batch else jnp.float32(rows)
        learner, (stats, reduced) = update(state.learner, state.stats, batch, state.step_key(), count=count)
        rate = optim.learning_rate(learner.opt_state)
        if rate is not None:
            reduced["learning_rate"] = rate
        return state.advance(learner=learner, stats=mean_over_devices(stats)), reduced

    apply = lambda state, batch: model.apply(state.variables, *inputs(batch), **mode(False))

    def evaluate(state: Supervised, batch: Batch) -> dict[str, WeightedSum]:
        found = scores(apply(state, batch), batch)
        return {name: weighted_sum(values, batch["mask"]) for name, values in found.items()}

    says = lambda state, batch: predict(apply(state, batch))
    return Experiment(init, step, evaluate, predict=says, model=model, inputs=inputs)
