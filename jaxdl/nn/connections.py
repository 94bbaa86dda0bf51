"""The layers of a network and their connections, read from the program that it computes."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, Literal

LOOPS = ("scan", "while")
PRODUCTS = ("dot_general", "conv_general_dilated")


class Connections(NamedTuple):
    """What a network's program contains.

    layers: a matrix [outputs, inputs] of bools for each product of activations and weights, in the order of
      computation: which outputs depend on which inputs. A weight that is exactly 0 connects nothing.
    feedforward: whether the program has no loop, in which activations would return to the same weights.
    """

    layers: tuple[np.ndarray, ...]
    feedforward: bool

    @property
    def hidden(self) -> int:
        """The number of hidden layers: all but the output layer."""
        return len(self.layers) - 1

    @property
    def share(self) -> float:
        """The share of possible connections that the sparsest layer has; 1 if all layers are fully connected."""
        return min((float(layer.mean()) for layer in self.layers), default=0.0)

    @property
    def is_mlp(self) -> bool:
        """Whether it is a multilayer perceptron: feed-forward, with a hidden layer, every layer fully connected."""
        return self.feedforward and self.hidden >= 1 and self.share == 1


def connections(function: Callable[[Array], Array], x: Any) -> Connections:
    """Traces a network and finds the connections of its layers, whatever modules it is made of.

    Products of activations with one another (attention) and layers inside of loops are not listed. Connections that
    skip layers are not looked for.

    Args:
      function: the network with its weights, x -> outputs.
      x: one row [1, ...], or its shape and dtype: the values of activations are not used.
    """
    layers, loops = list[np.ndarray](), list[str]()

    def run(jaxpr: Any, consts: Any, args: Any) -> list[Any]:
        """Computes what does not depend on x; the rest is None."""
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
        read = lambda v: v.val if isinstance(v, Literal) else known[v]
        for equation in jaxpr.eqns:
            name, given = equation.primitive.name, [read(v) for v in equation.invars]
            moving = [i for i, value in enumerate(given) if value is None]
            compute = partial(equation.primitive.bind, **equation.params)
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            if inner is not None and name not in LOOPS:  # a call of another program, such as an activation function
                closed = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
                found = run(closed.jaxpr, closed.consts, given)
            elif not moving:
                result = compute(*given)
                found = list(result) if equation.primitive.multiple_results else [result]
            else:
                found = [None] * len(equation.outvars)
                loops.extend([name] * (name in LOOPS))
                if len(moving) == 1 and name in PRODUCTS:
                    layers.append(_connected(compute, given, moving[0], equation.invars[moving[0]].aval))
            known.update(zip(equation.outvars, found, strict=True))
        return [read(v) for v in jaxpr.outvars]

    program = jax.make_jaxpr(function)(x)
    run(program.jaxpr, program.consts, [None])
    return Connections(tuple(layers), not loops)


def _connected(product: Callable[..., Array], given: list[Any], at: int, activations: Any) -> np.ndarray:
    """Returns the connections of a product that is linear in its argument number `at`: its effect on unit vectors."""
    units = np.eye(activations.size, dtype=activations.dtype).reshape(activations.size, *activations.shape)
    effects = jax.vmap(lambda unit: product(*given[:at], unit, *given[at + 1 :]))(units)
    return np.asarray(effects).reshape(activations.size, -1).T != 0
