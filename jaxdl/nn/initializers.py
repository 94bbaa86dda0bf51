"""Weight initialisers by name, and PyTorch's defaults.

    y = sum over fan_in of w x: Var[y] = fan_in Var[w] E[x^2], so Var[w] ~ 1 / fan_in keeps the variance of a signal.

fan_in is the number of inputs of one output (D for a dense layer, H W C of the kernel for a convolution), fan_out the
number of outputs of one input. The initialisers are those of jax, except for PyTorch's.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer


class ByFanIn(NamedTuple):
    """A bias initialiser that depends on the fan_in of its layer, which the shape [N] of a bias does not contain.

    Attributes:
      make: fan_in -> linen initialiser.
    """

    make: Callable[[int], Initializer]


class Initialization(TypedDict):
    """Initialiser arguments of the models of `jaxdl.nn`: `MLP((128, 10), **INITIALIZERS["he_normal"])`.

    Attributes:
      kernel_init: linen initialiser, (key, shape, dtype) -> array.
      bias_init: linen initialiser, or a `ByFanIn`.
    """

    kernel_init: Initializer
    bias_init: Initializer | ByFanIn


def bias_initializer(init: Initializer | ByFanIn, fan_in: int) -> Initializer:
    """Returns the linen initialiser for the bias of a layer with this fan_in."""
    return init.make(fan_in) if isinstance(init, ByFanIn) else init


def _torch_bias(fan_in: int) -> Initializer:
    bound = fan_in**-0.5

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound, out_sharding=out_sharding)

    return init


torch_bias = ByFanIn(_torch_bias)
"""Draws b ~ U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of PyTorch's nn.Linear and nn.Conv2d."""

# U(-a, a) has variance a^2 / 3, so scale 1/3 gives a = 1/sqrt(fan_in). PyTorch writes this as
# kaiming_uniform_(a=sqrt(5)): gain^2 = 2 / (1 + 5) = 1/3.
torch_linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Draws w ~ U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of PyTorch's nn.Linear and nn.Conv2d."""

INITIALIZERS: dict[str, Initialization] = {
    name: Initialization(
        kernel_init=kernel_init, bias_init=torch_bias if name == "torch_linear" else nn.initializers.zeros
    )
    for name, kernel_init in {
        "glorot_uniform": nn.initializers.glorot_uniform(),
        "glorot_normal": nn.initializers.glorot_normal(),
        "he_uniform": nn.initializers.he_uniform(),
        "he_normal": nn.initializers.he_normal(),
        "lecun_normal": nn.initializers.lecun_normal(),
        "torch_linear": torch_linear,
    }.items()
}
"""Kernel and bias initialisers by name; biases are 0 except for `torch_linear`.

| name | Var[w] | designed for | paper |
| --- | --- | --- | --- |
| glorot_uniform, glorot_normal | 2 / (fan_in + fan_out) | tanh; forward and backward alike | Glorot & Bengio 2010 |
| he_uniform, he_normal | 2 / fan_in | ReLU, which halves E[x^2] | He et al. 2015, arXiv:1502.01852 |
| lecun_normal | 1 / fan_in | linear and tanh units; flax's default | LeCun et al. 1998, Efficient BackProp |
| torch_linear | 1 / (3 fan_in), also for biases | PyTorch's default | none |

`_uniform` draws from U(-sqrt(3 Var), sqrt(3 Var)); `_normal` from a normal distribution truncated at two standard
deviations and rescaled to the variance in the table.
"""
