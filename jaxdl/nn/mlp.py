"""Feed-forward networks."""

from collections.abc import Callable, Sequence

import chex
from flax import linen as nn
from jax import Array
from jax.nn.initializers import Initializer

from jaxdl.nn.initializers import ByFanIn, bias_initializer
from jaxdl.nn.norm import batch_norm


class MLP(nn.Module):
    """Multilayer perceptron: h <- dropout(activation(norm(W h + b))) for each hidden layer, then W h + b.

    `MLP((N,))` is the linear classifier, softmax regression under a softmax loss. With `norm` the hidden layers have no
    bias, because the batch norm behind them takes it out again.

    Attributes:
      features: width of each layer; the last one is the output [B, N].
      activation: between layers, not after the last.
      dropout: probability in [0, 1) of a hidden unit being 0 in training, the others divided by 1 - dropout
        (Srivastava et al. 2014); needs a "dropout" key.
      norm: batch normalisation before each activation.
      kernel_init: linen initialiser of the weights.
      bias_init: linen initialiser of the biases, or one by fan_in (`ByFanIn`).
    """

    features: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    dropout: float = 0.0
    norm: bool = False
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer | ByFanIn = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits [B, N] of x [B, ...], flattened to [B, D].

        Raises:
          ValueError: no layer, or a dropout outside [0, 1).
        """
        if not self.features:
            raise ValueError("MLP: features is empty, it needs at least the output layer's width")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"MLP: dropout is {self.dropout}, it must be in [0, 1)")
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
