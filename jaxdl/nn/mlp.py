"""Fully connected networks."""

from collections.abc import Callable, Sequence

import chex
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer

from jaxdl.nn.initializers import ByFanIn, bias_initializer
from jaxdl.nn.norm import batch_norm


class MLP(nn.Module):
    """Multilayer perceptron: h <- dropout(activation(norm(W h + b))) for each hidden layer, then W h + b.

    `MLP((N,))` is a linear classifier; with a softmax loss it is softmax regression. With `norm` the hidden layers have
    no bias, because the following batch norm subtracts it.

    Attributes:
      features: width of each layer; the last width is N.
      activation: function applied after every layer except the last.
      dropout: probability in [0, 1) of zeroing a hidden unit in training; the others are divided by 1 - dropout
        (Srivastava et al. 2014). Needs a "dropout" key.
      norm: whether to apply batch normalisation before each activation.
      kernel_init: linen initialiser of the kernels.
      bias_init: linen initialiser of the biases, or a `ByFanIn`.
    """

    features: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    dropout: float = 0.0
    norm: bool = False
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer | ByFanIn = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Returns outputs [B, N].

        Args:
          x: [B, ...], float, flattened to [B, D].
          train: whether to apply dropout and to update the batch norms' collection `batch_stats`.

        Raises:
          ValueError: if features is empty, or dropout is outside [0, 1).
        """
        if not self.features:
            raise ValueError("MLP: features must have at least the width of the output layer, got ()")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"MLP: dropout must be in [0, 1), got {self.dropout}")
        *hidden, out = self.features
        x = x.reshape(len(x), -1)
        for width in hidden:
            bias_init = bias_initializer(self.bias_init, x.shape[-1])
            x = nn.Dense(width, use_bias=not self.norm, kernel_init=self.kernel_init, bias_init=bias_init)(x)
            if self.norm:
                x = batch_norm(train)(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(self.activation(x))
        x = nn.Dense(out, kernel_init=self.kernel_init, bias_init=bias_initializer(self.bias_init, x.shape[-1]))(x)
        chex.assert_shape(x, (None, out))
        return x
