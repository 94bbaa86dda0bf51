"""Normalisation layers: linen's, with this project's settings.

Both give scale (x - mean) / sqrt(var + 1e-5) + shift, scale and shift learned per channel.
"""

from functools import partial
from typing import Any

from flax import linen as nn

from jaxdl.core import axis_name

MOMENTUM = 0.9  # of the old average, as flax counts; PyTorch counts the new statistic's part and calls this 0.1
EPSILON = 1e-5  # inside the square root; PyTorch's default, linen's LayerNorm has 1e-6

LayerNorm = partial(nn.LayerNorm, epsilon=EPSILON)
"""Over the last axis of each example, in training and evaluation alike (Ba, Kiros & Hinton 2016, arXiv:1607.06450)."""


def batch_norm(train: bool, **options: Any) -> nn.BatchNorm:
    """Over all axes but the last, of the global batch when training and by running averages when not.

        train: mean, var of this batch; average <- 0.9 average + 0.1 statistic, in the collection `batch_stats`

    The batch is the global one in every mode: under jit the array is global already, inside `fit`'s pmap the statistics
    are averaged over devices. The running variance is the batch's own, divided by n; PyTorch's is divided by n - 1.

    A bias directly before it has gradient 0; leave it out (`use_bias=False`), or its rounding noise becomes steps under
    Adam.

    Rows that only pad a batch: `fit` pads in evaluation alone, where the running averages treat each row by itself and
    no mask is needed. To train on padded rows pass linen's `mask=` in the call (broadcastable to x, True where it
    counts); under pmap each device then needs equally many valid rows, because linen averages the devices' means.

    Args:
      train: whether to use and record this batch's statistics.
      options: further fields of `flax.linen.BatchNorm`, `scale_init` for example.

    Returns:
      A module to call on x [B, ..., C]. Call this inside the model's `__call__`, where pmap's axis is known.

    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    return nn.BatchNorm(
        use_running_average=not train, momentum=MOMENTUM, epsilon=EPSILON, axis_name=axis_name(), **options
    )
