"""The structure of every experiment: a few pure functions over a pytree of arrays.

    init: key -> state      step: state, batch -> state, metrics      evaluate: state, batch -> sums

A state holds only arrays, a step draws its randomness from `fold_in(key, step)`, and batch t depends on (seed, t)
alone. These three facts allow exact resume, any number of devices, `lax.scan` over steps and `vmap` over seeds. Models,
optimisers and configuration are closed over. Nothing here has side effects.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array, lax

from jaxdl import optim

Tree = TypeVar("Tree")
S = TypeVar("S")  # a state
Params = Any  # a pytree of float arrays
Batch = Any  # a pytree of arrays [B, ...]
Metrics = dict[str, Array]  # scalars
Sums = Any  # a pytree of sums over examples

AXIS = "devices"


def axis_name() -> str | None:
    """Returns AXIS inside fit's pmap, else None, so that `nn.BatchNorm(axis_name=axis_name())` suits both."""
    try:
        lax.axis_index(AXIS)
    except NameError:
        return None
    return AXIS


def mean_over_devices(tree: Tree) -> Tree:
    """Returns the mean over devices inside pmap; the identity under jit, where every array is already global."""
    return lax.pmean(tree, AXIS) if axis_name() else tree


def _device() -> Array | int:
    return lax.axis_index(AXIS) if axis_name() else 0


class WeightedSum(NamedTuple):
    """A sum and its total weight; both add up over batches and devices and are divided once, at the end."""

    sum: Array
    weight: Array


def weighted_sum(values: Array, where: Array | None = None) -> WeightedSum:
    """Returns the weighted sum of `values` and the sum of the weights, for `evaluate`.

    Args:
      values: [B, ...], numbers or bools.
      where: weights >= 0 whose shape is a leading part of `values`' shape ([B], [B, T]); 0 leaves an entry out. None:
        all ones.

    An entry of weight 0 may be NaN or infinite: it affects neither the sum nor its gradient with respect to `values`.
    The gradient of the computation of `values` is not protected: weight 0 sends 0 back through log(x), and at x = 0 the
    chain rule gives 0 * inf = NaN. Mask the input of such a function too:

        weighted_sum(jnp.log(jnp.where(where > 0, x, 1)), where)
    """
    if where is None:
        where = jnp.ones(values.shape[:1])
    chex.assert_equal_shape_prefix([values, where], where.ndim)
    where = jnp.broadcast_to(jnp.expand_dims(where, tuple(range(where.ndim, values.ndim))), values.shape)
    where = where.astype(jnp.float32)
    return WeightedSum(jnp.sum(jnp.where(where > 0, values * where, 0)), jnp.sum(where))


def weighted_mean(values: Array, where: Array | None = None) -> Array:
    """Returns the mean sum(x w) / sum(w) for losses; its average over devices is the mean over the global batch.

    The denominator is the device mean of sum(w), not the local sum: if masks are distributed unevenly, the mean of the
    local means is a different number. With all weights 0 the mean is 0. For the arguments, and the effect of a NaN of
    weight 0 on a gradient, see `weighted_sum`.
    """
    if where is None:
        return jnp.mean(values)
    weighted = weighted_sum(values, where)
    return weighted.sum / jnp.maximum(mean_over_devices(weighted.weight), jnp.finfo(jnp.float32).tiny)


def split_over_devices(**kwargs: Any) -> Any:
    """Marks a State field whose leaves all have the global batch as leading axis: split over devices, not replicated.

    For state that belongs to one row of the batch and persists: the carry of a language model, a rollout's
    environments.
    """
    return struct.field(metadata={"per_example": True}, **kwargs)


class Learner(struct.PyTreeNode):
    """The parameters and the optimiser state of one optimiser, and its fault.

    fault is 0 as long as everything is finite. The first non-finite loss, gradient, new parameter or optimiser value
    sets it: 1 for the loss; the leaves of the gradient, of the parameters and of `moments` follow. From then on
    `make_update` changes nothing, so the last good parameters remain for inspection.
    """

    params: Params
    opt_state: optax.OptState
    fault: Array  # int32 scalar

    @property
    def averaged(self) -> Params:
        """The parameters to evaluate: the average that the optimiser keeps (`ema`, Schedule-Free), else `params`."""
        return optim.averaged(self.opt_state, self.params)

    @classmethod
    def create(cls, params: Params, tx: optax.GradientTransformation) -> "Learner":
        """Returns a learner at `params` with a fresh optimiser state."""
        return cls(params=params, opt_state=tx.init(params), fault=jnp.zeros((), jnp.int32))


class State(struct.PyTreeNode):
    """Everything that changes during training, arrays only. Subclass it once per experiment to add fields."""

    step: Array  # int32 scalar: steps done
    key: Array  # root key, never consumed

    @classmethod
    def create(cls, key: Array, **fields: Any) -> Any:
        """Returns a state at step 0.

        The key is folded first, because fold_in(key, i) equals split(key)[i] for small i: no step may use a key that
        `init` split off for the parameters.
        """
        return cls(step=jnp.zeros((), jnp.int32), key=jax.random.fold_in(key, 0x5EED), **fields)

    def step_key(self, shared: bool = False) -> Array:
        """Returns this step's key: a different one on each device inside pmap, or the same on all if `shared`."""
        key = jax.random.fold_in(self.key, self.step)
        return jax.random.fold_in(key, 0) if shared else jax.random.fold_in(jax.random.fold_in(key, 1), _device())

    def example_keys(self, n: int) -> Array:
        """Returns this step's keys [n], one for each of this device's n examples, whatever the number of devices."""
        key = jax.random.fold_in(jax.random.fold_in(self.key, self.step), 2)
        return jax.vmap(jax.random.fold_in, (None, 0))(key, _device() * n + jnp.arange(n))

    def advance(self, **changes: Any) -> Any:
        """Returns the state after this step: with `changes`, and `step` incremented."""
        return self.replace(step=self.step + 1, **changes)


def divide(sums: Mapping[str, WeightedSum]) -> dict[str, float]:
    """The default `summarize`: {name: Total} -> {name: sum / count}."""
    return {name: float(value.sum / value.weight) for name, value in sums.items()}


class Experiment(NamedTuple, Generic[S]):
    """The pure functions that `jaxdl.run.fit` trains.

    init: key -> state.
    step: state, batch -> state, metrics; a `lax.scan` body. Metrics are scalars, means over the batch.
    evaluate: state, batch -> a pytree of sums, `WeightedSum` for means; `batch["mask"]` [B]: 0 on padding.
    summarize: the sums over the whole test set, on the host -> {name: number}.
    predict: state, batch -> a pytree of arrays [B, ...]: the trained network's output for each row.
    model: what a notebook applies to `state.variables`: a linen module, or a substitute.
    inputs: batch -> the arguments of `model` besides its variables, a tuple; None if it is not one linen module.
    """

    init: Callable[[Array], S]
    step: Callable[[S, Batch], tuple[S, Metrics]]
    evaluate: Callable[[S, Batch], Sums] | None = None
    summarize: Callable[[Any], dict[str, float]] = divide
    predict: Callable[[S, Batch], Any] | None = None
    model: Any = None
    inputs: Callable[[Batch], tuple[Any, ...]] | None = None


def make_update(
    loss: Callable[..., tuple[Array, Any]],
    tx: optax.GradientTransformation,
    average: Callable[[Any], Any] | None = mean_over_devices,
    precision: str = "float32",
) -> Callable[..., tuple[Learner, Any]]:
    """Returns one optimiser step on the first argument of a loss: w <- w + tx(grad_w loss(w, ...)).

    This is the only place where gradients are averaged over devices.

    If a loss, gradient, new parameter or moment is not finite, only `learner.fault` changes, and from then on every
    update returns the learner as it is. Nothing is raised, because a compiled step cannot raise. `jaxdl.run.fit` checks
    the fault with every call. A loop of your own should call `jaxdl.guard.raise_fault(learner)` regularly, outside of
    jit; otherwise it continues without learning anything. To train on regardless, continue with
    `learner.replace(fault=jnp.int32(0))`.

    Args:
      loss: (params, *args) -> (scalar, aux).
      tx: any optax transformation; `value`, `grad` and `value_fn` are passed to those that take them (line search).
      average: None for an inner step inside another loss (meta learning), which must not mix the devices' tasks.
      precision: dtype in which the loss sees the float32 parameters, such as "bfloat16"; gradients, averages and the
        optimiser stay float32. The loss must round its other inputs itself (`cast`).

    Returns:
      update: (learner, *args, count=1) -> (learner, aux). `count`, the number of examples behind the loss, is the
      weight of this batch if `optim.optimizer(accumulate=k)` combines several.
    """
    tx = optax.with_extra_args_support(tx)
    in_precision = lambda params, *args: loss(cast(params, precision), *args)
    value_and_grad = jax.value_and_grad(in_precision, has_aux=True)

    def update(learner: Learner, *args: Any, count: Any = 1.0) -> tuple[Learner, Any]:
        (value, aux), grads = value_and_grad(learner.params, *args)
        if average is not None:
            value, grads = average((value, grads))
        updates, opt_state = tx.update(
            grads,
            learner.opt_state,
            learner.params,
            value=value,
            grad=grads,
            # line searches pass `count` on, and refuse functions that do not take it
            value_fn=lambda params, count=None: in_precision(params, *args)[0],
            count=count,
        )
        params = optax.apply_updates(learner.params, updates)
        new = learner.replace(params=params, opt_state=opt_state)
        fault = _first_fault(value, grads, params, moments(opt_state), moments(learner.opt_state))
        fault = jnp.where(learner.fault, learner.fault, fault)
        return select(fault == 0, new, learner).replace(fault=fault), aux

    return update


def cast(tree: Tree, precision: str) -> Tree:
    """Casts the float32 arrays of a pytree to another dtype; integers, keys and other floats are unchanged."""
    return jax.tree.map(lambda x: x.astype(precision) if x.dtype == jnp.float32 else x, tree)


def select(good: Array, new: Tree, old: Tree) -> Tree:
    """Returns `new` if the scalar `good` is true, else `old`."""
    return jax.tree.map(lambda x, y: jnp.where(good, x, y), new, old)


def moments(opt_state: optax.OptState) -> list[Array]:
    """Returns the floating-point arrays in an optimiser's state, in the order of its leaves."""
    return [x for x in jax.tree.leaves(opt_state) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]


def finite(x: Array) -> Array:
    """Returns whether all of an array is finite, a scalar: it tests the sum, five times cheaper than each element.

    The sum of finite numbers near 1e32 or above may overflow, and then counts as not finite.
    """
    return jnp.isfinite(jnp.sum(x, dtype=jnp.float32))


def _first_fault(value: Array, grads: Params, params: Params, new: list[Array], old: list[Array]) -> Array:
    good = [finite(x) for x in (value, *jax.tree.leaves(grads), *jax.tree.leaves(params))]
    # an optimiser may start with an infinite scalar, such as the best loss so far, but not with such an array
    good += [finite(x) if x.ndim else jnp.isfinite(x) | ~jnp.isfinite(y) for x, y in zip(new, old, strict=True)]
    bad = ~jnp.stack(good)
    return jnp.where(bad.any(), 1 + jnp.argmax(bad), 0).astype(jnp.int32)
