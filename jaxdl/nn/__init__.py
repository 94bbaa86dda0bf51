"""Networks: flax.linen modules that take (x, train=False), one file per family."""

from jaxdl.nn.attention import (
    KeyValueCache,
    KeyValues,
    MultiHeadAttention,
    attention_weights,
    dot_product_attention,
)
from jaxdl.nn.autoencoder import ConvDecoder, ConvEncoder, Downsampling, Upsampling
from jaxdl.nn.cnn import CNN, LeNet5, average_pool, max_pool
from jaxdl.nn.gpt import GPT
from jaxdl.nn.initializers import INITIALIZERS, torch_bias, torch_linear, zero_bias
from jaxdl.nn.mlp import MLP
from jaxdl.nn.norm import BatchNorm, LayerNorm
from jaxdl.nn.positions import LearnedPositions, add_positions, sinusoidal_positions
from jaxdl.nn.recurrent import TORCH_RECURRENT, Carry, Recurrent
from jaxdl.nn.recurrent_lm import RecurrentLM
from jaxdl.nn.resnet import ResidualBlock, ResNet
from jaxdl.nn.transformer import EncoderBlock, FeedForward, TransformerEncoder
from jaxdl.nn.transformer_decoder import DecoderBlock, DecoderCache, TransformerDecoder

__all__ = [
    "CNN",
    "GPT",
    "INITIALIZERS",
    "MLP",
    "TORCH_RECURRENT",
    "BatchNorm",
    "Carry",
    "ConvDecoder",
    "ConvEncoder",
    "DecoderBlock",
    "DecoderCache",
    "Downsampling",
    "EncoderBlock",
    "FeedForward",
    "KeyValueCache",
    "KeyValues",
    "LayerNorm",
    "LeNet5",
    "LearnedPositions",
    "MultiHeadAttention",
    "Recurrent",
    "RecurrentLM",
    "ResNet",
    "ResidualBlock",
    "TransformerDecoder",
    "TransformerEncoder",
    "Upsampling",
    "add_positions",
    "attention_weights",
    "average_pool",
    "dot_product_attention",
    "max_pool",
    "sinusoidal_positions",
    "torch_bias",
    "torch_linear",
    "zero_bias",
]
