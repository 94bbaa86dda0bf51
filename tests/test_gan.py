import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import tanh

from experiments import gan
from experiments.gan.claims import collapse, least_loss
from jaxdl import metrics, run
from jaxdl.data import Batches, Images
from jaxdl.methods import Judge
from jaxdl.methods.adversarial import OBJECTIVES, gradient_penalty
from jaxdl.optim import learning_rate
from jaxdl.run import fit

RNG = np.random.default_rng(7)
QUICK = {"progress": False, "tensorboard": False, "devices": 1, "seeds": 1}


@pytest.mark.claims
def test_losses_and_penalty_against_pytorch():
    """Compares values and the critic's gradients, which pass through the gradient inside the penalty."""
    torch = pytest.importorskip("torch")
    real, fake = RNG.normal(size=(2, 11, 3)).astype(np.float32)
    mix = RNG.uniform(size=11).astype(np.float32)
    w, v = RNG.normal(size=(3, 7)).astype(np.float32), RNG.normal(size=7).astype(np.float32)

    def ours(params, name):
        objective, critic = OBJECTIVES[name], lambda x: tanh(x @ params[0]) @ params[1]
        penalty = objective.penalty * gradient_penalty(critic, real, fake, mix)
        return jnp.mean(objective.critic(critic(real), critic(fake)) + penalty)

    def theirs(params, name):
        critic = lambda x: torch.tanh(x @ params[0]) @ params[1]
        on_real, on_fake = critic(torch.tensor(real)), critic(torch.tensor(fake))
        if name == "original":
            entropy = torch.nn.BCEWithLogitsLoss()
            return entropy(on_real, torch.ones(11)) + entropy(on_fake, torch.zeros(11))
        weight = torch.tensor(mix)[:, None]
        u = ((1 - weight) * torch.tensor(real) + weight * torch.tensor(fake)).requires_grad_()
        (slope,) = torch.autograd.grad(critic(u).sum(), u, create_graph=True)
        return on_fake.mean() - on_real.mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()

    for name in OBJECTIVES:
        value, grads = jax.value_and_grad(ours)((w, v), name)
        params = [torch.tensor(x, requires_grad=True) for x in (w, v)]
        expected = theirs(params, name)
        expected.backward()
        assert float(value) == pytest.approx(expected.item(), rel=1e-5)
        for grad, param in zip(grads, params, strict=True):
            np.testing.assert_allclose(grad, param.grad.numpy(), rtol=1e-4, atol=1e-5)
    z = jnp.asarray(RNG.normal(size=11), jnp.float32)
    entropy = torch.nn.BCEWithLogitsLoss(reduction="none")(torch.tensor(np.asarray(z)), torch.ones(11))
    np.testing.assert_allclose(OBJECTIVES["original"].generator(z), entropy, rtol=1e-5)
    np.testing.assert_array_equal(OBJECTIVES["wgan_gp"].generator(z), -z)


@pytest.mark.claims
def test_penalty_of_a_dead_critic_has_a_gradient():
    x = jnp.ones((5, 3))
    loss = lambda w: jnp.mean(gradient_penalty(lambda u: u @ w, x, 2 * x, jnp.zeros(5)))
    value, grad = jax.value_and_grad(loss)(jnp.zeros(3))
    assert float(value) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(grad).all()


@pytest.mark.claims
def test_critic_takes_its_own_rows_and_steps():
    """The critic makes 5 updates per generator update; both cosine schedules end at the last step."""
    config = gan.Config(**QUICK, steps=3, width=5, batch_size=7, objective="wgan_gp")
    parts = gan.data(config)
    assert parts.train.batch_size == 35
    experiment = gan.build(config, parts)
    state = jax.jit(experiment.init)(jax.random.key(0))
    step = jax.jit(experiment.step)
    for t in range(3):
        state, scores = step(state, parts.train.batch(0, t))
    assert scores.keys() == {"loss", "critic_loss", "generator_loss", "penalty"}
    assert [counts(player) for player in (state.generator, state.critic)] == [3, 15]
    rates = [float(learning_rate(player.opt_state)) for player in (state.generator, state.critic)]
    assert rates == pytest.approx([3e-3 * (1 + np.cos(np.pi * t)) / 2 for t in (2 / 3, 14 / 15)], rel=1e-4)
    assert float(scores["loss"]) == pytest.approx(float(scores["critic_loss"] + scores["penalty"]), rel=1e-5)


def counts(learner):
    return max(int(x) for x in jax.tree.leaves(learner.opt_state) if x.ndim == 0 and x.dtype == jnp.int32)


@pytest.mark.full
def test_seeds_by_vmap():
    config = gan.Config(**QUICK, steps=2, width=5, batch_size=7, objective="original")
    parts = gan.data(config)
    experiment = gan.build(config, parts)
    both = jax.jit(jax.vmap(experiment.init))(jax.random.split(jax.random.key(3), 2))
    both, scores = jax.jit(jax.vmap(experiment.step, (0, None)))(both, parts.train.batch(0, 0))
    init = jax.jit(experiment.init)
    for i, key in enumerate(jax.random.split(jax.random.key(3), 2)):
        state, alone = jax.jit(experiment.step)(init(key), parts.train.batch(0, 0))
        assert float(scores["loss"][i]) == pytest.approx(float(alone["loss"]), rel=1e-4)
        for a, b in zip(jax.tree.leaves(both.generator.params), jax.tree.leaves(state.generator.params), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("objective", "parallel"), [("original", "pmap"), ("wgan_gp", "jit")])
@pytest.mark.full
def test_dcgan_on_eight_devices(objective, parallel, monkeypatch):
    """Covers batch norm in both players and the penalty through convolutions, with a linear judge."""
    x = RNG.uniform(size=(48, 8, 8, 1)).astype(np.float32)
    part = {"x": x, "y": np.zeros(48, np.int32)}
    images = Images(part, None, {}, ("0", "1", "2"), "", "noise", original=True)
    config = gan.Config(
        **QUICK | {"devices": 8}, dataset="digits", objective=objective, optimizer="sgd", learning_rate=0.01, width=2,
        batch_size=16, steps=2, log_every=1, parallel=parallel,
    )  # fmt: skip
    w = RNG.normal(size=(64, 3)).astype(np.float32)
    flat = lambda x: x.reshape(len(x), -1)
    judge = Judge(lambda x: jax.nn.softmax(flat(x) @ w), lambda x: flat(x) @ w, 1.0)
    monkeypatch.setattr(gan, "load_images", lambda *_, **__: images)
    parts = gan.data(config)
    assert parts.test is None
    experiment = gan.build(config, parts, judge)
    many = fit(experiment, parts, config)
    one = fit(experiment, parts, config, devices=1, parallel="jit")
    for key in ("train/loss", "train/generator_loss"):
        assert one.curve(key)[1] == pytest.approx(many.curve(key)[1], rel=1e-4)
    assert one.metrics == pytest.approx(many.metrics, rel=1e-3, abs=1e-4)
    made = judge.features(one.predict(Batches(parts.valid.arrays, 16)))
    sums = [metrics.moments(jnp.asarray(f)) for f in (judge.features(x), made)]
    expected = metrics.frechet_distance(*(v for s in sums for v in metrics.mean_and_covariance(s)))
    assert one.metrics["frechet"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.claims
def test_a_planted_collapse_is_detected():
    config = gan.Config(**QUICK, steps=0, objective="original")
    parts = gan.data(config)
    experiment = gan.build(config, parts)
    start = jax.jit(experiment.init)(jax.random.key(0))
    found = fit(experiment, parts, config, state=gan.planted(start)).metrics
    assert found["modes"] == 1
    assert found["on_modes"] == 1
    assert collapse(found, 8, "original").startswith("1 of 8 modes; D's loss 1.5")
    healthy = {"modes": 8.0, "critic_loss": 1.3}
    assert collapse(healthy, 8, "original") == ""
    assert collapse(healthy | {"modes": 5.0}, 8, "original") == ""
    assert collapse(healthy | {"modes": 4.0}, 8, "wgan_gp") == "4 of 8 modes"
    assert collapse({"critic_loss": 0.1}, 10, "original") == ""


@pytest.mark.parametrize("modes", [1, 3, 4, 8])
def test_best_discriminators_loss_on_some_modes(modes):
    """-E log D(x) - E log(1 - D(G(z))) with D = p / (p + q), p on 8 atoms and q on `modes` of them."""
    p, q = np.full(8, 1 / 8), np.where(np.arange(8) < modes, 1 / modes, 0)
    d = p / (p + q)
    loss = -np.sum(p * np.log(d)) - np.sum(q[q > 0] * np.log(1 - d[q > 0]))
    assert least_loss(modes / 8) == pytest.approx(loss)


@pytest.mark.parametrize("prior", ["normal", "uniform"])
@pytest.mark.claims
def test_noise_and_points(prior):
    config = gan.Config(prior=prior, latent=3)
    parts = gan.data(config)
    for part in (parts.valid, parts.test):
        z = part.arrays["z"]
        assert z.shape == (2560, 3)
        assert np.std(z) == pytest.approx(1, rel=0.03)
        assert (np.abs(z) <= 3**0.5).all() == (prior == "uniform")
        hits = metrics.mode_hits(jnp.asarray(part.arrays["x"]), jnp.asarray(gan.CENTRES), 3 * gan.SPREAD)
        assert metrics.modes_found(hits.sum(0), 2560, share=0.8) == 8
        # P(|x - c| <= 3 sigma) in two dimensions is 1 - exp(-9/2)
        assert float(hits.sum()) / 2560 == pytest.approx(1 - np.exp(-4.5), abs=0.01)
    assert parts.train.length == 20_480
    points = np.concatenate([part.arrays["x"] for part in (parts.train, parts.valid, parts.test)])
    assert len(np.unique(points, axis=0)) == 25_600  # no point is in two parts


@pytest.mark.full
def test_epochs_on_the_ring_give_every_fit_as_many_steps(tmp_path):
    """Epochs count batches of the WGAN-GP, which takes five times as many rows per step as the original."""
    found = run.findings(gan, gan.Config(**QUICK, epochs=0.3, workdir=str(tmp_path)))
    ends = {path.parent.name: json.loads(path.read_text())["step"] for path in tmp_path.glob("**/result.json")}
    assert ends == dict.fromkeys(("original", "wgan_gp", "uniform", "again", "planted", "recovered", "regression"), 10)
    assert {one.name for one in found if one.holds is None} == {"path", "labels", "frechet"}
