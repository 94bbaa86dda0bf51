"""One idea for every experiment: a few pure functions over a pytree of arrays.

    init: key -> state      step: state, batch -> state, metrics      evaluate: state, batch -> sums

A state holds arrays and nothing else, a step draws its randomness from `fold_in(key, step)`, and batch t depends on
(seed, t) alone. Exact resume, one device or many, `lax.scan` over steps and `vmap` over seeds follow from these three
facts. Models, optimisers and configuration are closed over. Nothing here has effects.
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
    """AXIS inside fit's pmap, else None: `nn.BatchNorm(axis_name=axis_name())` is the same net under jit and pmap."""
    try:
        lax.axis_index(AXIS)
    except NameError:
        return None
    return AXIS


def mean_over_devices(tree: Tree) -> Tree:
    """Mean over devices inside pmap; the identity under jit, where every array is already the global one."""
    return lax.pmean(tree, AXIS) if axis_name() else tree


def _device() -> Array | int:
    return lax.axis_index(AXIS) if axis_name() else 0


class WeightedSum(NamedTuple):
    """A sum and how much it counts; Totals add up over batches and devices and are divided once, at the end."""

    sum: Array
    weight: Array


def weighted_sum(values: Array, where: Array | None = None) -> WeightedSum:
    """Weighted sum of `values` and the sum of the weights, for `evaluate`.

    Args:
      values: [B, ...], any number or bool.
      where: weights >= 0 whose shape is a leading part of `values`' shape ([B], [B, T]); 0 leaves an entry out. None:
        all ones.

    An entry of weight 0 may be NaN or infinite: neither the sum nor its gradient with respect to `values` sees it. The
    gradient of what computed `values` is not protected. Weight 0 sends 0 back through log(x), and at x = 0 the chain
    rule makes 0 * inf = NaN of it. Mask the input of such a function too:

        total(jnp.log(jnp.where(where > 0, x, 1)), where)
    """
    if where is None:
        where = jnp.ones(values.shape[:1])
    chex.assert_equal_shape_prefix([values, where], where.ndim)
    where = jnp.broadcast_to(jnp.expand_dims(where, tuple(range(where.ndim, values.ndim))), values.shape)
    where = where.astype(jnp.float32)
    return WeightedSum(jnp.sum(jnp.where(where > 0, values * where, 0)), jnp.sum(where))


def weighted_mean(values: Array, where: Array | None = None) -> Array:
    """Mean for losses, whose average over devices is the mean over the global batch: sum(x w) / sum(w).

    The denominator is the device mean of sum(w), never the local sum: where masks fall unevenly the mean of the local
    means is another number. With all weights 0 the mean is 0. Arguments, and what a NaN of weight 0 does to a
    gradient, as for `weighted_sum`.
    """
    if where is None:
        return jnp.mean(values)
    weighted = weighted_sum(values, where)
    return weighted.sum / jnp.maximum(mean_over_devices(weighted.weight), jnp.finfo(jnp.float32).tiny)


def split_over_devices(**kwargs: Any) -> Any:
    """Marks a State field whose every leaf has the global batch as leading axis: split over devices, not replicated.

    For what belongs to one row of the batch and lives on: the carry of a language model, a rollout's environments.
    """
    return struct.field(metadata={"per_example": True}, **kwargs)


class Learner(struct.PyTreeNode):
    """What one optimiser owns.

    fault is 0 while all is well. The first loss, gradient, new parameter or number of the optimiser's that is not
    finite sets it: 1 for the loss, then the leaves of the gradient, of the parameters and of `moments` are counted on.
    From then on `make_update` changes nothing, so the last good parameters stay to be looked at.
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
        """A learner at `params` with a fresh optimiser state."""
        return cls(params=params, opt_state=tx.init(params), fault=jnp.zeros((), jnp.int32))


class State(struct.PyTreeNode):
    """All that changes during training, arrays only. Subclass it once per experiment to add fields."""

    step: Array  # int32 scalar: steps done
    key: Array  # root key, never consumed

    @classmethod
    def create(cls, key: Array, **fields: Any) -> Any:
        """A state at step 0. The key is folded first, because fold_in(key, i) equals split(key)[i] for small i: a
        step must never meet a key that `init` split off for the parameters.
        """
        return cls(step=jnp.zeros((), jnp.int32), key=jax.random.fold_in(key, 0x5EED), **fields)

    def step_key(self, shared: bool = False) -> Array:
        """This step's key: another one on each device inside pmap, or the same one on all of them if `shared`."""
        key = jax.random.fold_in(self.key, self.step)
        return jax.random.fold_in(key, 0) if shared else jax.random.fold_in(jax.random.fold_in(key, 1), _device())

    def example_keys(self, n: int) -> Array:
        """This step's keys [n], one for each of this device's n examples: the same draws on any number of devices."""
        key = jax.random.fold_in(jax.random.fold_in(self.key, self.step), 2)
        return jax.vmap(jax.random.fold_in, (None, 0))(key, _device() * n + jnp.arange(n))

    def advance(self, **changes: Any) -> Any:
        """The state after this step: `changes` made, `step` one up."""
        return self.replace(step=self.step + 1, **changes)


def divide(sums: Mapping[str, WeightedSum]) -> dict[str, float]:
    """The default `summarize`: {name: Total} -> {name: sum / count}."""
    return {name: float(value.sum / value.weight) for name, value in sums.items()}


class Experiment(NamedTuple, Generic[S]):
    """The pure functions that `jaxdl.run.fit` trains.

    init: key -> state.
    step: state, batch -> state, metrics; a `lax.scan` body. Metrics are scalars, means over the batch.
    evaluate: state, batch -> a pytree of sums, `WeightedSum` where a mean is meant; `batch["mask"]` [B]: 0 on padding.
    summarize: the sums over the whole test set, on the host -> {name: number}.
    predict: state, batch -> a pytree of arrays [B, ...]: what the trained network says of each row.
    model: what a notebook applies to `state.variables`: a linen module, or what stands for one.
    inputs: batch -> what `model` is applied to besides its variables, a tuple; None where it is not one linen module.
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
    """One optimiser step on the first argument of a loss: w <- w + tx(grad_w loss(w, ...)).

    This is the one place where gradients are averaged over devices.

    A loss, gradient, new parameter or moment that is not finite changes nothing but `learner.fault`, and from then on
    every update returns the learner as it is. Nothing is raised, because a compiled step cannot. `jaxdl.run.fit` looks
    at the fault with every call; a loop of your own calls `jaxdl.guard.raise_fault(learner)` now and then, outside of
    jit, or it goes on without learning anything. To train on regardless, continue with
    `learner.replace(fault=jnp.int32(0))`.

    Args:
      loss: (params, *args) -> (scalar, aux).
      tx: any optax transformation; `value`, `grad` and `value_fn` are handed to those that ask (line search).
      average: None for an inner step inside another loss (meta learning), which must not mix the devices' tasks.
      precision: dtype in which the loss sees the float32 parameters, "bfloat16" for example; gradients, averages and
        the optimiser stay float32. What else the loss computes with, it has to round itself (`cast`).

    Returns:
      update: (learner, *args, count=1) -> (learner, aux). `count`, the number of examples behind the loss, is the
      weight of this batch where `optim.optimizer(accumulate=k)` gathers several.
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
            # line searches refuse what it does not take
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
    """The float32 arrays of a pytree in another dtype; integers, keys and other floats as they are."""
    return jax.tree.map(lambda x: x.astype(precision) if x.dtype == jnp.float32 else x, tree)


def select(good: Array, new: Tree, old: Tree) -> Tree:
    """`new` where `good`, a scalar, is true, else `old`."""
    return jax.tree.map(lambda x, y: jnp.where(good, x, y), new, old)


def moments(opt_state: optax.OptState) -> list[Array]:
    """The floating-point arrays in an optimiser's state, in the order of its leaves."""
    return [x for x in jax.tree.leaves(opt_state) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]


def finite(x: Array) -> Array:
    """Whether all of an array is, a scalar: its sum is, which costs a fifth of asking each element.

    The sum of finite numbers overflows where they near 1e32, and counts as not finite then.
    """
    return jnp.isfinite(jnp.sum(x, dtype=jnp.float32))


def _first_fault(value: Array, grads: Params, params: Params, new: list[Array], old: list[Array]) -> Array:
    good = [finite(x) for x in (value, *jax.tree.leaves(grads), *jax.tree.leaves(params))]
    # an optimiser may begin with an infinite number, the best loss so far, but not with such an array
    good += [finite(x) if x.ndim else jnp.isfinite(x) | ~jnp.isfinite(y) for x, y in zip(new, old, strict=True)]
    bad = ~jnp.stack(good)
    return jnp.where(bad.any(), 1 + jnp.argmax(bad), 0).astype(jnp.int32)
