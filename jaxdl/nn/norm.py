"""Batch and layer normalisation: linen's layers with fixed settings.

Both compute scale (x - mean) / sqrt(var + 1e-5) + shift, with a learned scale and shift per channel.
"""

from functools import partial
from typing import Any

from flax import linen as nn

from jaxdl.core import axis_name

MOMENTUM = 0.9  # weight of the old average, as in flax; PyTorch's momentum is the new statistic's weight, 0.1
EPSILON = 1e-5  # inside the square root; PyTorch's default, where linen's LayerNorm has 1e-6

LayerNorm = partial(nn.LayerNorm, epsilon=EPSILON)
"""Normalises over the last axis of each example, in training and evaluation (Ba et al. 2016, arXiv:1607.06450)."""


def batch_norm(train: bool, **options: Any) -> nn.BatchNorm:
    """Returns a batch norm over all axes except the last.

        train: mean, var of this batch; average <- 0.9 average + 0.1 statistic, in the collection `batch_stats`
        else:  mean, var are the running averages

    The statistics are those of the global batch: under jit the array is global, and inside the pmap of `fit` they are
    averaged over devices. The running variance is the biased one, divided by n; PyTorch's is divided by n - 1.

    Omit the bias of the layer before (`use_bias=False`): its gradient is 0, and under Adam its rounding noise becomes
    steps.

    `fit` pads batches only in evaluation, where running averages treat each row separately and no mask is needed. To
    train on padded rows, pass linen's `mask=` in the call (broadcastable to x, True for valid rows). Under pmap each
    device then needs the same number of valid rows, because linen averages the means of the devices.

    Args:
      train: whether to use the batch's statistics and update the running averages.
      options: further fields of `flax.linen.BatchNorm`, for example `scale_init`.

    Returns:
      A module to call on x [B, ..., C], float. Create it inside the model's `__call__`, where pmap's axis is defined.

    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    return nn.BatchNorm(
        use_running_average=not train, momentum=MOMENTUM, epsilon=EPSILON, axis_name=axis_name(), **options
    )
