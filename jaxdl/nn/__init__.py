"""Networks and layers: flax.linen modules called as `model(x, train=False)`, one file per family."""

from jaxdl.nn.attention import (
    KeyValueCache,
    KeyValues,
    MultiHeadAttention,
    attention_weights,
    dot_product_attention,
)
from jaxdl.nn.autoencoder import ConvDecoder, ConvEncoder, Downsampling, Layers, Upsampling
from jaxdl.nn.cnn import CNN, LeNet5, average_pool, max_pool
from jaxdl.nn.conv import Conv, ConvTranspose, convolve, input_gradient, kernel_gradient
from jaxdl.nn.dcgan import DCGANCritic, DCGANGenerator
from jaxdl.nn.gpt import GPT
from jaxdl.nn.initializers import INITIALIZERS, ByFanIn, torch_bias, torch_linear
from jaxdl.nn.mlp import MLP
from jaxdl.nn.norm import LayerNorm, batch_norm
from jaxdl.nn.positions import LearnedPositions, add_positions, sinusoidal_positions
from jaxdl.nn.recurrent import TORCH_RECURRENT, Carry, Recurrent
from jaxdl.nn.recurrent_lm import RecurrentLM
from jaxdl.nn.resnet import ResidualBlock, ResNet, ResNet18
from jaxdl.nn.transformer import Block, EncoderBlock, FeedForward, TransformerEncoder
from jaxdl.nn.transformer_decoder import DecoderBlock, DecoderCache, TransformerDecoder

__all__ = [
    "CNN",
    "GPT",
    "INITIALIZERS",
    "MLP",
    "TORCH_RECURRENT",
    "Block",
    "ByFanIn",
    "Carry",
    "Conv",
    "ConvDecoder",
    "ConvEncoder",
    "ConvTranspose",
    "DCGANCritic",
    "DCGANGenerator",
    "DecoderBlock",
    "DecoderCache",
    "Downsampling",
    "EncoderBlock",
    "FeedForward",
    "KeyValueCache",
    "KeyValues",
    "LayerNorm",
    "Layers",
    "LeNet5",
    "LearnedPositions",
    "MultiHeadAttention",
    "Recurrent",
    "RecurrentLM",
    "ResNet",
    "ResNet18",
    "ResidualBlock",
    "TransformerDecoder",
    "TransformerEncoder",
    "Upsampling",
    "add_positions",
    "attention_weights",
    "average_pool",
    "batch_norm",
    "convolve",
    "dot_product_attention",
    "input_gradient",
    "kernel_gradient",
    "max_pool",
    "sinusoidal_positions",
    "torch_bias",
    "torch_linear",
]
