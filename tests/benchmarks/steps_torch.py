"""The networks of `tests.benchmarks.steps`, written by hand in PyTorch; `make(case, kind)` returns a step.

Images are in channels-last format; the optimiser is the fused `torch.optim.Adam`.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.benchmarks.batches import BATCHES


def optimizer(net):
    return torch.optim.Adam(net.parameters(), 1e-3, fused=True)


def tensors(case):
    batch = {name: torch.from_numpy(np.asarray(array)) for name, array in BATCHES[case]().items()}
    for name in batch:
        if batch[name].ndim == 4:  # [B, H, W, C] viewed as [B, C, H, W] is channels-last
            batch[name] = batch[name].permute(0, 3, 1, 2)
        if batch[name].dtype == torch.int32:
            batch[name] = batch[name].long()
    return batch


def supervised(case, net, loss, compiled):
    """Returns a step that minimises loss(net, **batch)."""
    batch = tensors(case)
    net = net.to(memory_format=torch.channels_last).train()
    tx = optimizer(net)
    if compiled:
        loss = torch.compile(loss)

    def step():
        tx.zero_grad(set_to_none=True)
        value = loss(net, **batch)
        value.backward()
        tx.step()
        return value

    return step


def cross_entropy(net, x, y):
    return F.cross_entropy(net(x).flatten(0, -2), y.flatten())


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(65, 256), nn.LSTM(256, 256, 2, batch_first=True)
        self.head = nn.Linear(256, 65)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0])


class Block(nn.Module):
    def __init__(self, D, H):
        super().__init__()
        self.norm1, self.norm2, self.heads = nn.LayerNorm(D), nn.LayerNorm(D), H
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = (t.view(B, T, self.heads, -1).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(D, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, D))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.positions = nn.Embedding(65, 128), nn.Embedding(64, 128)
        self.blocks, self.norm = nn.Sequential(*(Block(128, 4) for _ in range(4))), nn.LayerNorm(128)
        for embedding in (self.embed, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, x):
        x = self.embed(x) + self.positions.weight[: x.shape[1]]
        return self.norm(self.blocks(x)) @ self.embed.weight.T


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip


class Residual(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm1, self.norm2, self.shortcut = nn.BatchNorm2d(after), nn.BatchNorm2d(after), nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(y)))


def resnet18():
    widths = (64, 64, 128, 256, 512)
    blocks = [
        Residual(before if first else after, after, 2 if first and before != after else 1)
        for before, after in pairwise(widths)
        for first in (True, False)
    ]
    start = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*start, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 500), nn.ReLU(), nn.Linear(500, 784))


def elbo(net, x):
    mean, log_variance = net.encoder(x).chunk(2, -1)
    z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    likelihood = -F.binary_cross_entropy_with_logits(net.decoder(z), x, reduction="sum") / len(x)
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum() / len(x)
    return divergence - likelihood


def dcgan(compiled):
    generator = nn.Sequential(
        nn.Linear(100, 6272, bias=False), nn.Unflatten(1, (128, 7, 7)), nn.BatchNorm2d(128), nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Tanh(),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    critic = nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(6272, 1),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    batch, txs = tensors("dcgan"), (optimizer(critic), optimizer(generator))

    def critic_loss(x, z):
        return F.softplus(-critic(x)).mean() + F.softplus(critic(generator(z).detach())).mean()

    def generator_loss(x, z):
        return F.softplus(-critic(generator(z))).mean()

    losses = [torch.compile(f) if compiled else f for f in (critic_loss, generator_loss)]

    def step():
        for loss, tx in zip(losses, txs, strict=True):
            critic.requires_grad_(tx is txs[0])
            tx.zero_grad(set_to_none=True)
            value = loss(batch["x"], torch.randn(64, 100))
            value.backward()
            tx.step()
        return value

    return step


STEPS = {
    "lstm": lambda compiled: supervised("lstm", LSTM(), cross_entropy, compiled),
    "gpt": lambda compiled: supervised("gpt", GPT(), cross_entropy, compiled),
    "cnn": lambda compiled: supervised("cnn", cnn(), cross_entropy, compiled),
    "resnet18": lambda compiled: supervised("resnet18", resnet18(), cross_entropy, compiled),
    "vae": lambda compiled: supervised("vae", VAE(), elbo, compiled),
    "dcgan": dcgan,
}


def make(case, kind):
    """Returns a training step of `case`, which needs no waiting: PyTorch on the CPU is synchronous."""
    torch.set_flush_denormal(True)  # as XLA does; denormal gradients of an overfitted batch are slow otherwise
    step = STEPS[case](kind == "compiled")
    assert math.isfinite(step().item())
    return step
