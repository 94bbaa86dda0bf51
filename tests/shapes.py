"""Five small experiments of unusual shape that the engine must run without special cases.

A case is build(**options) -> (experiment, train). All use SGD, whose steps do not amplify rounding errors, and have no
bias directly before a norm, because its true gradient is 0 and only rounding would be compared.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax

from jaxdl.core import Experiment, Learner, State, make_update, mean_over_devices, split_over_devices, weighted_mean
from jaxdl.data import Batches
from jaxdl.nn import batch_norm as normalised
from jaxdl.supervision import supervised

TX = optax.sgd(0.05, momentum=0.0)  # momentum 0: the state keeps the last gradient, for tests to compare
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def tanh_net(*widths: int) -> nn.Module:
    layers: list[Any] = []
    for width in widths[:-1]:
        layers += [nn.Dense(width), nn.tanh]
    return nn.Sequential([*layers, nn.Dense(widths[-1])])


class NormNet(nn.Module):
    dropout: float

    @nn.compact
    def __call__(self, x, train=False):
        for channels in (5, 7):
            x = nn.Conv(channels, (3, 3), use_bias=False)(x)
            x = nn.relu(normalised(train)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(3)(x)


def batch_norm(dropout: float = 0.0, uneven: bool = True):
    """Batch norm, dropout, and example weights that are distributed unevenly over the devices."""
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(53, 7, 5, 2)), "y": rng.integers(3, size=53)}
    if uneven:
        arrays["mask"] = rng.uniform(size=53) * (rng.uniform(size=53) < 0.4)
    train = Batches(arrays, 16)
    loss = lambda logits, batch: cross_entropy(logits, batch["y"])
    return supervised(NormNet(dropout), TX, example=train.example, loss=loss), train


class Players(State):
    generator: Learner
    critic: Learner


def wgan_gp(n_critic: int = 3, latent: int = 3):
    """Two learners, one with several updates per step, and a gradient inside the loss (Gulrajani et al. 2017)."""
    generator, critic = tanh_net(11, 2), tanh_net(13, 1)
    train = Batches({"x": np.random.default_rng(1).normal(size=(53, n_critic, 2))}, 16)

    def init(key):
        key_g, key_c = jax.random.split(key)
        return Players.create(
            key,
            generator=Learner.create(generator.init(key_g, jnp.zeros((1, latent))), TX),
            critic=Learner.create(critic.init(key_c, jnp.zeros((1, 2))), TX),
        )

    def sample(params, keys):
        return generator.apply(params, jax.vmap(lambda key: jax.random.normal(key, (latent,)))(keys))

    def critic_loss(params, other, real, keys):
        fake = sample(other, keys)
        t = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(keys)[:, None]
        slope = jax.vmap(jax.grad(lambda x: critic.apply(params, x)[0]))(fake + t * (real - fake))
        penalty = weighted_mean((jnp.linalg.norm(slope, axis=-1) - 1) ** 2)
        return weighted_mean(critic.apply(params, fake)) - weighted_mean(critic.apply(params, real)) + penalty, {
            "loss": penalty
        }

    def generator_loss(params, other, keys):
        return -weighted_mean(critic.apply(other, sample(params, keys))), {}

    update_critic, update_generator = make_update(critic_loss, TX), make_update(generator_loss, TX)

    def step(state, batch):
        keys = jax.vmap(lambda key: jax.random.split(key, n_critic + 1))(state.example_keys(len(batch["x"])))

        def one(learner, real_and_keys):
            return update_critic(learner, state.generator.params, *real_and_keys)

        first = (jnp.swapaxes(batch["x"], 0, 1), jnp.swapaxes(keys[:, 1:], 0, 1))
        learner, aux = lax.scan(one, state.critic, first)
        new, _ = update_generator(state.generator, learner.params, keys[:, 0])
        return state.advance(critic=learner, generator=new), jax.tree.map(lambda x: x[-1], aux)

    return Experiment(init, step), train


class One(State):
    learner: Learner


def maml(shots: int = 5):
    """A gradient step inside the loss, separate for each task (Finn et al. 2017)."""
    net, inner = tanh_net(11, 1), optax.sgd(0.1)
    rng = np.random.default_rng(2)
    x = rng.uniform(-3, 3, size=(53, 2 * shots, 1))
    train = Batches({"x": x, "y": np.sin(x + rng.uniform(0, 3, size=(53, 1, 1)))}, 16)

    def squared(params, x, y):
        return jnp.mean((net.apply(params, x) - y) ** 2), {}

    adapt = make_update(squared, inner, average=None)

    def task(params, x, y):
        learner, _ = adapt(Learner.create(params, inner), x[:shots], y[:shots])
        return squared(learner.params, x[shots:], y[shots:])[0]

    def outer(params, batch):
        loss = weighted_mean(jax.vmap(task, (None, 0, 0))(params, batch["x"], batch["y"]))
        return loss, {"loss": loss}

    update = make_update(outer, TX)

    def step(state, batch):
        learner, metrics = update(state.learner, batch)
        return state.advance(learner=learner), metrics

    init = lambda key: One.create(key, learner=Learner.create(net.init(key, jnp.zeros((1, 1))), TX))
    return Experiment(init, step), train


class Agent(State):
    learner: Learner
    position: Any = split_over_devices()


def rollout(environments: int = 16, horizon: int = 7):
    """No data: environments that persist between steps, one per row, and sampled actions (REINFORCE)."""
    net = tanh_net(11, 2)

    def init(key):
        key_p, key_e = jax.random.split(key)
        learner = Learner.create(net.init(key_p, jnp.zeros((1, 2))), TX)
        return Agent.create(key, learner=learner, position=jax.random.normal(key_e, (environments, 2)))

    def loss(params, seen, actions, returns):
        chosen = -cross_entropy(net.apply(params, seen), actions)
        value = -weighted_mean(chosen * (returns - mean_over_devices(weighted_mean(returns))))
        return value, {"loss": value}

    update = make_update(loss, TX)

    def step(state, _):
        def act(position, keys):
            actions = jax.vmap(jax.random.categorical)(keys, net.apply(state.learner.params, position))
            push = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), (2,)))(keys)
            moved = position + 0.1 * jnp.stack([2.0 * actions - 1, jnp.zeros(len(actions))], -1) + 0.1 * push
            return moved, (position, actions, -jnp.sum(moved**2, -1))

        keys = jax.vmap(lambda key: jax.random.split(key, horizon))(state.example_keys(len(state.position)))
        position, (seen, actions, rewards) = lax.scan(act, state.position, jnp.swapaxes(keys, 0, 1))
        returns = jnp.cumsum(rewards[::-1], 0)[::-1]
        flat = lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])
        learner, metrics = update(state.learner, flat(seen), flat(actions), flat(returns))
        return state.advance(learner=learner, position=position), metrics

    return Experiment(init, step), None


class Reader(State):
    learner: Learner
    carry: Any = split_over_devices()


def language_model(streams: int = 16, length: int = 7, vocabulary: int = 11, features: int = 13):
    """A carry that persists between batches, and an order in which row b of batch t + 1 continues row b of batch t."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, carry, tokens):
            x = nn.Embed(vocabulary, 5)(tokens)
            carry, x = nn.RNN(nn.OptimizedLSTMCell(features), return_carry=True)(x, initial_carry=carry)
            return carry, nn.Dense(vocabulary)(x)

    net, windows = Net(), 3
    tokens = np.random.default_rng(3).integers(vocabulary, size=(streams * windows, length + 1))
    order = lambda seed, t: (np.arange(streams) * windows + t % windows).astype(np.int32)
    train = Batches({"x": tokens[:, :-1], "y": tokens[:, 1:]}, streams, order)
    zeros = lambda rows: (jnp.zeros((rows, features)), jnp.zeros((rows, features)))

    def init(key):
        params = net.init(key, zeros(2), jnp.zeros((2, length), jnp.int32))
        return Reader.create(key, learner=Learner.create(params, TX), carry=zeros(streams))

    def loss(params, carry, batch):
        carry, logits = net.apply(params, carry, batch["x"])
        value = weighted_mean(cross_entropy(logits, batch["y"]))
        return value, (carry, {"loss": value})

    update = make_update(loss, TX)

    def step(state, batch):
        learner, (carry, metrics) = update(state.learner, state.carry, batch)
        return state.advance(learner=learner, carry=carry), metrics

    return Experiment(init, step), train


CASES = {f.__name__: f for f in (batch_norm, wgan_gp, maml, rollout, language_model)}
