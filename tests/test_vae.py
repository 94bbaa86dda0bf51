import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import vae
from jaxdl import run
from jaxdl.data import Batches, Data
from jaxdl.methods import mixture_of_bernoullis

SHAPE = (3, 5, 1)


def setting(latents=7, seed=0, **flags):
    """Returns a model of 3x5 images, the experiment, its first state and 11 binary images."""
    config = vae.Config(latents=latents, width=13, steps=300, batch_size=11, **flags)
    x = np.random.default_rng(seed).random((11, *SHAPE)) < 0.4
    model = vae.make_model(config, SHAPE)
    experiment = vae.build(config, Data(example={"x": x}))
    return model, experiment, jax.jit(experiment.init)(jax.random.key(seed)), x


@pytest.mark.claims
def test_loss_and_gradient_against_torch():
    """Uses equal weights and noise; KL and likelihood come from torch.distributions."""
    torch = pytest.importorskip("torch")
    D = torch.distributions
    flags = {"optimizer": "sgd", "learning_rate": 1.0, "schedule": "constant", "weight_decay": 0.0}
    _, experiment, state, x = setting(beta=1.7, **flags)
    after, metrics = jax.jit(experiment.step)(state, {"x": x})
    p = jax.tree.map(lambda a: torch.tensor(np.array(a), requires_grad=True), state.learner.params)
    layer = lambda p, h, last: (h @ p["kernel"] + p["bias"]).relu() if not last else h @ p["kernel"] + p["bias"]
    network = lambda p, h: layer(p["Dense_1"], layer(p["Dense_0"], h, False), True)
    pixels = torch.tensor(x.reshape(11, -1), dtype=torch.float32)
    m, log_variance = network(p["encoder"], pixels).chunk(2, -1)
    noise = jax.vmap(lambda key: jax.random.normal(key, (7,)))(state.example_keys(11))
    q = D.Normal(m, (log_variance / 2).exp())
    logits = network(p["decoder"], m + q.scale * torch.tensor(np.array(noise)))
    reconstruction = -D.Bernoulli(logits=logits).log_prob(pixels).sum(-1).mean()
    kl = D.kl_divergence(q, D.Normal(torch.zeros(()), torch.ones(()))).sum(-1).mean()
    loss = reconstruction + 1.7 * kl
    loss.backward()
    for name, value in {"loss": loss, "reconstruction": reconstruction, "kl": kl}.items():
        assert float(metrics[name]) == pytest.approx(value.item(), rel=1e-5)
    step = jax.tree.map(lambda a, b: a - b, state.learner.params, after.learner.params)
    jax.tree.map(lambda s, t: np.testing.assert_allclose(s, t.grad, atol=2e-6), step, p)


@pytest.mark.trained
@pytest.mark.claims
def test_bounds_lie_between_elbo_and_the_exact_likelihood(seed, bound):
    """With one latent, p(x) = int N(z; 0, 1) p(x|z) dz is a sum over a fine grid."""
    model, experiment, state, x = setting(latents=1, seed=seed)
    state, _ = jax.jit(lambda state: jax.lax.scan(lambda s, _: experiment.step(s, {"x": x}), state, length=300))(state)
    params = state.learner.params
    # a trained q is too close to the posterior to leave a visible gap, so its means are moved
    params["encoder"]["Dense_1"]["bias"] = params["encoder"]["Dense_1"]["bias"] + jnp.array([0.7, 0.0])
    state = state.replace(learner=state.learner.replace(params=params))
    z = np.linspace(-9, 9, 4001)
    logits = np.asarray(model.decode(params, jnp.asarray(z, jnp.float32)[:, None]), np.float64).reshape(len(z), 1, -1)
    log_p = (x.reshape(1, 11, -1) * logits - np.logaddexp(0, logits)).sum(-1)
    weight = np.log(z[1] - z[0]) - z**2 / 2 - np.log(2 * np.pi) / 2
    exact = -np.logaddexp.reduce(log_p + weight[:, None], 0).mean()

    draws = 300
    test = Batches({"x": x, "id": np.arange(11)}, 64)
    bounds = vae.importance_bounds(model, state, test, draws)
    ratios = jax.jit(jax.vmap(lambda key: jnp.stack(model.bound(params, x, jax.random.split(key, 11))[::2])))
    reconstruction, log_w = np.asarray(ratios(jax.random.split(jax.random.key(5), 4000))).transpose(1, 0, 2)
    m, log_variance = model.encode(params, jnp.asarray(x))
    kl = float(vae.losses.gaussian_kl(m, log_variance).sum(-1).mean())
    elbo, five = reconstruction.mean() + kl, -(np.logaddexp.reduce(log_w.reshape(800, 5, 11), 1) - np.log(5)).mean()
    bound(abs(-log_w.mean() - elbo), "<", 0.02, "two estimates of the ELBO")
    left = (five - exact) / (elbo - exact)
    bound(left, ">", 0.1, "gap left by five draws, of the ELBO's, at least")
    bound(left, "<", 0.5, "gap left by five draws, of the ELBO's, at most")
    assert bounds.shape == (draws,)
    bound(abs(bounds[-1] - exact), "<", 0.05, "all draws and the exact one")


@pytest.mark.claims
def test_the_mean_of_ratios_is_the_likelihood_without_a_gap_where_q_is_the_posterior():
    """With a decoder that ignores z and an encoder at the prior, every ratio is p(x)."""
    model, _, state, x = setting()
    params = jax.tree.map(jnp.zeros_like, state.learner.params)
    reconstruction, kl, log_w = jax.jit(model.bound)(params, jnp.asarray(x), vae.fixed_keys(jnp.arange(11)))
    np.testing.assert_allclose(reconstruction, 15 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(kl, 0)
    np.testing.assert_allclose(log_w, -15 * np.log(2), rtol=1e-6)


def test_pixels_are_drawn_once_and_not_thresholded():
    parts, again = vae.data(vae.Config()), vae.data(vae.Config(seed=5, batch_size=64))
    grey = vae.load_images("digits").train["x"]
    x = parts.train.arrays["x"]
    np.testing.assert_array_equal(x, again.train.arrays["x"])
    whole = vae.data(vae.Config(valid_fraction=0.0))
    assert whole.valid is None
    np.testing.assert_array_equal(parts.test.arrays["x"], whole.test.arrays["x"])
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        assert x[grey == level].mean() == pytest.approx(level, abs=0.03)
    assert set(parts.valid.arrays) == set(parts.test.arrays) == {"x", "id"}


@pytest.mark.claims
def test_evaluation_noise_does_not_depend_on_the_batches():
    config = vae.Config(steps=1, width=13, progress=False, devices=1)
    parts = vae.data(config)
    experiment = vae.build(config, parts)
    whole = run.fit(experiment, parts, config).metrics
    other = run.fit(experiment, Data(parts.train, test=Batches(parts.test.arrays, 97)), config).metrics
    assert whole == pytest.approx(other, rel=1e-6)


@pytest.mark.claims
def test_vmap_over_seeds():
    _, experiment, _, x = setting()
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    first = lambda key: experiment.step(experiment.init(key), {"x": x})
    states, metrics = jax.jit(jax.vmap(first))(keys)
    alone = jax.jit(first)
    for i in range(3):
        state, one = alone(keys[i])
        np.testing.assert_allclose(metrics["loss"][i], one["loss"], rtol=1e-5)
        close = lambda many, one: np.testing.assert_allclose(many[i], one, atol=1e-5)
        jax.tree.map(close, states.learner.opt_state, state.learner.opt_state)
    assert len(np.unique(metrics["loss"])) == 3


def test_mixture_of_one_is_independent_pixels():
    """A mixture of two finds two kinds of images and has the likelihood of their true distribution."""
    draw = np.random.default_rng(3)
    x = draw.random((2003, 17)) < 0.3
    p = (x.sum(0) + 0.5) / (len(x) + 1)
    exact = -(x * np.log(p) + ~x * np.log(1 - p)).sum(1).mean()
    assert mixture_of_bernoullis(x, x, 1) == pytest.approx(exact, rel=1e-5)
    kind = draw.random(4001) < 0.5
    y = draw.random((4001, 17)) < np.where(kind, 0.9, 0.1)[:, None]
    on = y.sum(1)
    both = np.stack([on * np.log(p) + (17 - on) * np.log(1 - p) + np.log(0.5) for p in (0.1, 0.9)])
    assert mixture_of_bernoullis(y, y, 2) == pytest.approx(-np.logaddexp.reduce(both, 0).mean(), abs=0.01)
