"""Networks: flax.linen modules that take (x, train=False), one file per family."""

from jaxdl.nn.cnn import CNN, LeNet5, average_pool, max_pool
from jaxdl.nn.initializers import INITIALIZERS, torch_bias, torch_linear, zero_bias
from jaxdl.nn.mlp import MLP
from jaxdl.nn.norm import BatchNorm, LayerNorm
from jaxdl.nn.recurrent import TORCH_RECURRENT, Carry, Recurrent
from jaxdl.nn.resnet import ResidualBlock, ResNet

__all__ = [
    "CNN",
    "INITIALIZERS",
    "MLP",
    "TORCH_RECURRENT",
    "BatchNorm",
    "Carry",
    "LayerNorm",
    "LeNet5",
    "Recurrent",
    "ResNet",
    "ResidualBlock",
    "average_pool",
    "max_pool",
    "torch_bias",
    "torch_linear",
    "zero_bias",
]
