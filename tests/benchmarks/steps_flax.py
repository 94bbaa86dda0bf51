"""The networks of `tests.benchmarks.steps`, written by hand in flax.linen and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from tests.benchmarks.batches import BATCHES

TX = optax.adam(1e-3)


class LSTM(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Embed(65, 256)(x)
        for _ in range(2):
            x = nn.RNN(nn.OptimizedLSTMCell(256))(x)
        return nn.Dense(65)(x)


class GPT(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        embed, mask = nn.Embed(65, 128), nn.make_causal_mask(x)
        x = embed(x) + nn.Embed(64, 128)(jnp.arange(x.shape[1]))[None]
        for _ in range(4):
            y = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(4)(y, mask=mask)
            x = x + nn.Dense(128)(nn.gelu(nn.Dense(512)(nn.LayerNorm()(x))))
        return embed.attend(nn.LayerNorm()(x))


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        for features in (32, 64):
            x = nn.avg_pool(nn.relu(nn.Conv(features, (3, 3))(x)), (2, 2), (2, 2))
        return nn.Dense(10)(nn.relu(nn.Dense(256)(x.reshape(len(x), -1))))


class ResNet18(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        def norm(x):
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)

        x = nn.relu(norm(nn.Conv(64, (3, 3), use_bias=False)(x)))
        for features in (64, 128, 256, 512):
            for first in (True, False):
                stride = 2 if first and features > 64 else 1
                y = nn.relu(norm(nn.Conv(features, (3, 3), stride, padding=1, use_bias=False)(x)))
                y = norm(nn.Conv(features, (3, 3), use_bias=False)(y))
                x = nn.relu(y + (x if stride == 1 else norm(nn.Conv(features, (1, 1), stride, use_bias=False)(x))))
        return nn.Dense(10)(x.mean((1, 2)))


class VAE(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        mean, log_variance = jnp.split(nn.Dense(40)(nn.relu(nn.Dense(500)(x))), 2, -1)
        z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(self.make_rng("z"), mean.shape)
        return nn.Dense(784)(nn.relu(nn.Dense(500)(z))), mean, log_variance


class Generator(nn.Module):
    @nn.compact
    def __call__(self, z, train):
        x = nn.Dense(6272, use_bias=False)(z).reshape(-1, 7, 7, 128)
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9)(x))
        x = nn.ConvTranspose(64, (4, 4), (2, 2), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9)(x))
        return jnp.tanh(nn.ConvTranspose(1, (4, 4), (2, 2))(x))


class Critic(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.leaky_relu(nn.Conv(64, (4, 4), (2, 2))(x), 0.2)
        x = nn.BatchNorm(not train, momentum=0.9)(nn.Conv(128, (4, 4), (2, 2), use_bias=False)(x))
        return nn.Dense(1)(nn.leaky_relu(x, 0.2).reshape(len(x), -1))


def cross_entropy(logits, batch):
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()


def elbo(outputs, batch):
    logits, mean, log_variance = outputs
    likelihood = -optax.sigmoid_binary_cross_entropy(logits, batch["x"]).sum(-1)
    return (0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance).sum(-1) - likelihood).mean()


def adam(loss, params, opt_state, *args):
    """Makes one step of Adam; returns parameters, optimiser state, loss and the auxiliary output."""
    (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(params, *args)
    updates, opt_state = TX.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value, aux


def supervised(model, loss, batch):
    variables = model.init({"params": jax.random.key(0), "z": jax.random.key(1)}, batch["x"], False)
    params, stats = variables["params"], variables.get("batch_stats", {})

    def loss_fn(params, stats, batch, key):
        variables = {"params": params, "batch_stats": stats}
        outputs, new = model.apply(variables, batch["x"], True, mutable=["batch_stats"], rngs={"z": key})
        return loss(outputs, batch), new.get("batch_stats", {})

    def step(state, batch):
        params, opt_state, stats, key = state
        key, key_z = jax.random.split(key)
        params, opt_state, value, stats = adam(loss_fn, params, opt_state, stats, batch, key_z)
        return (params, opt_state, stats, key), value

    return step, (params, TX.init(params), stats, jax.random.key(2))


def dcgan(batch):
    generator, critic = Generator(), Critic()
    g = generator.init(jax.random.key(0), jnp.zeros((2, 100)), False)
    c = critic.init(jax.random.key(1), batch["x"], False)

    def apply(net, params, stats, x):
        y, new = net.apply({"params": params, "batch_stats": stats}, x, True, mutable=["batch_stats"])
        return y, new["batch_stats"]

    def critic_loss(params, stats, real, fake):
        on_real, stats = apply(critic, params, stats, real)
        on_fake, stats = apply(critic, params, stats, fake)
        return nn.softplus(-on_real).mean() + nn.softplus(on_fake).mean(), stats

    def generator_loss(params, stats, c, c_stats, z):
        fake, stats = apply(generator, params, stats, z)
        return nn.softplus(-apply(critic, c, c_stats, fake)[0]).mean(), stats

    def step(state, batch):
        (g, g_opt, g_stats), (c, c_opt, c_stats), key = state
        key, one, two = jax.random.split(key, 3)
        fake, _ = apply(generator, g, g_stats, jax.random.normal(one, (64, 100)))
        c, c_opt, _, c_stats = adam(critic_loss, c, c_opt, c_stats, batch["x"], fake)
        z = jax.random.normal(two, (64, 100))
        g, g_opt, value, g_stats = adam(generator_loss, g, g_opt, g_stats, c, c_stats, z)
        return ((g, g_opt, g_stats), (c, c_opt, c_stats), key), value

    players = tuple((p["params"], TX.init(p["params"]), p["batch_stats"]) for p in (g, c))
    return step, (*players, jax.random.key(2))


STEPS = {
    "lstm": lambda batch: supervised(LSTM(), cross_entropy, batch),
    "gpt": lambda batch: supervised(GPT(), cross_entropy, batch),
    "cnn": lambda batch: supervised(CNN(), cross_entropy, batch),
    "resnet18": lambda batch: supervised(ResNet18(), cross_entropy, batch),
    "vae": lambda batch: supervised(VAE(), elbo, batch),
    "dcgan": dcgan,
}


def make(case, kind):
    """Returns a training step of `case`."""
    batch = jax.device_put(BATCHES[case]())
    step, state = STEPS[case](batch)
    step = jax.jit(step, donate_argnums=0)

    def call():
        nonlocal state
        state, value = step(state, batch)
        return value

    assert np.isfinite(call())
    return call
