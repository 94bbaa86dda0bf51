"""Many small networks trained at once."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer

from jaxdl.nn.initializers import ByFanIn
from jaxdl.nn.mlp import MLP


class Family(nn.Module):
    """Independent MLPs on the same inputs: several architectures, and copies of each with other initial weights.

    A loss that is a sum over the networks trains each as if it were alone, if the optimiser treats every parameter on
    its own, as SGD and Adam do. The copies of an architecture are one vmapped network.

    Attributes:
      architectures: the `features` of each of the A architectures; all end in the same width N.
      copies: C, the number of networks of each architecture.
      activation: as in `MLP`.
      kernel_init: as in `MLP`.
      bias_init: as in `MLP`.
    """

    architectures: Sequence[Sequence[int]]
    copies: int
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer | ByFanIn = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns outputs [B, A, C, N].

        Args:
          x: [B, ...], float, flattened to [B, D].
          train: ignored.
        """
        several = nn.vmap(
            MLP, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, out_axes=1,
            axis_size=self.copies,
        )  # fmt: skip
        networks = [
            several(tuple(features), self.activation, kernel_init=self.kernel_init, bias_init=self.bias_init)
            for features in self.architectures
        ]
        return jnp.stack([network(x) for network in networks], 1)
