"""Weight initialisation: what the variance of a layer's weights is at the start.

    y = sum over fan_in of w x: Var[y] = fan_in Var[w] E[x^2], so Var[w] ~ 1 / fan_in keeps the size of a signal.

fan_in is the number of inputs of one output (D for a dense layer, H W C of the kernel for a convolution), fan_out the
number of outputs that one input reaches. The initialisers themselves are jax's; PyTorch's default is added.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer


class ByFanIn(NamedTuple):
    """A bias initialiser that needs its layer's fan_in, which a bias of shape [N] does not tell: make(fan_in)."""

    make: Callable[[int], Initializer]


class Initialization(TypedDict):
    """The two arguments that the models of `jaxdl.nn` take: `MLP((128, 10), **INITIALIZERS["he_normal"])`.

    Both are linen's initialisers, (key, shape, dtype) -> array; `bias_init` may be one by fan_in as well.
    """

    kernel_init: Initializer
    bias_init: Initializer | ByFanIn


def bias_initializer(init: Initializer | ByFanIn, fan_in: int) -> Initializer:
    """The initialiser for the bias of a layer with so many inputs of one output."""
    return init.make(fan_in) if isinstance(init, ByFanIn) else init


def _torch_bias(fan_in: int) -> Initializer:
    bound = fan_in**-0.5

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound, out_sharding=out_sharding)

    return init


torch_bias = ByFanIn(_torch_bias)
"""b ~ U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of PyTorch's nn.Linear and nn.Conv2d."""

# U(-a, a) has variance a^2 / 3, so a scale of 1/3 over fan_in is a = 1/sqrt(fan_in). PyTorch writes the same as
# kaiming_uniform_(a=sqrt(5)): gain^2 = 2 / (1 + 5) = 1/3.
torch_linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

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
"""Kernel and bias initialisers by the name of the method; biases are 0 but for `torch_linear`.

| name | Var[w] | made for | paper |
| --- | --- | --- | --- |
| glorot_uniform, glorot_normal | 2 / (fan_in + fan_out) | tanh; forward and backward alike | Glorot & Bengio 2010 |
| he_uniform, he_normal | 2 / fan_in | ReLU, which halves E[x^2] | He et al. 2015, arXiv:1502.01852 |
| lecun_normal | 1 / fan_in | linear and tanh units; flax's default | LeCun et al. 1998, Efficient BackProp |
| torch_linear | 1 / (3 fan_in), also for biases | PyTorch's default | none |

`_uniform` draws from U(-sqrt(3 Var), sqrt(3 Var)); `_normal` from a normal cut at two standard deviations and widened
so that the variance is the one of the table.
"""
