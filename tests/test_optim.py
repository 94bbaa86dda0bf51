"""Optimisers against float64 loops and PyTorch, schedules against values by hand, accumulation against one batch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.core import freeze as frozen_dict
from jax import lax

from jaxdl import optim
from jaxdl.nn import RecurrentLM
from tests.budget import first

STEPS = 17
SHAPES = {
    "Dense_0": {"kernel": (3, 5), "bias": (5,)},
    "LayerNorm_0": {"scale": (5,), "bias": (5,)},
    "query": {"kernel": (5, 2, 7), "bias": (2, 7)},
}
RATES = 2.0 ** -np.array([4, 3, 3, 6, 2, 5] * 3)  # powers of two: float32 holds them exactly


def draw(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes, tree = jax.tree.flatten(SHAPES, is_leaf=lambda leaf: isinstance(leaf, tuple))
    return jax.tree.unflatten(tree, [scale * rng.standard_normal(shape) for shape in shapes])


def draws(n=STEPS, scale=1.0):
    return [draw(seed, scale) for seed in range(1, n + 1)]


def to_float32(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def follow(tx, params, grads, **kwargs):
    """Returns the parameters and the state after updates with the given gradients."""
    update, state = jax.jit(tx.update), tx.init(params)
    for g in grads:
        updates, state = update(g, state, params, **kwargs)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_close(actual, expected, rtol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max()), actual, expected)


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def by_loop(name, w, grads, rates, decay=0.0, momentum=0.9, beta2=0.999, rms_decay=0.9, epsilon=1e-8):
    """Applies the formulas to one array."""
    w = w.copy()
    m, s = np.zeros_like(w), np.zeros_like(w)
    for t, (g, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        g = g if name in optim.chain.DECOUPLED else g + decay * w
        if name == "sgd":
            step = g
        elif name == "momentum":
            step = m = momentum * m + g
        elif name == "nesterov":
            m = momentum * m + g
            step = g + momentum * m
        elif name == "adagrad":
            s = s + g * g
            step = g / (np.sqrt(s) + epsilon)
        elif name == "rmsprop":
            s = rms_decay * s + (1 - rms_decay) * g * g
            step = g / (np.sqrt(s) + epsilon)
        elif name == "lion":
            step = np.sign(momentum * m + (1 - momentum) * g) + decay * w
            m = beta2 * m + (1 - beta2) * g
        else:
            m = momentum * m + (1 - momentum) * g
            s = beta2 * s + (1 - beta2) * g * g
            step = m / (1 - momentum**t) / (np.sqrt(s / (1 - beta2**t)) + epsilon)
            step = step + decay * w if name == "adamw" else step
        w = w - rate * step
    return w


@pytest.mark.parametrize("name", [name for name in optim.RULES if name not in ("muon", "schedule_free")])
@pytest.mark.parametrize(
    "hyper",
    [{}, {"epsilon": 0.13, "weight_decay": 0.07, "momentum": 0.83, "beta2": 0.97, "rms_decay": 0.71}],
    ids=["defaults", "other"],
)
def test_formula(name, hyper):
    start, grads, rates = draw(0), draws(), RATES[:STEPS]
    loop = {key: value for key, value in hyper.items() if key != "weight_decay"}

    def expect(path, w):
        parts = [key.key for key in path]
        decay = hyper.get("weight_decay", 0.0) if parts[-1] == "kernel" else 0.0
        return by_loop(name, w, [g[parts[0]][parts[1]] for g in grads], rates, decay, **loop)

    expected = jax.tree.map_with_path(expect, start)
    tx = optim.optimizer(name, lambda count: jnp.asarray(RATES)[count], **hyper)
    with jax.enable_x64(True):
        assert_close(follow(tx, start, grads)[0], expected, 1e-10)
    if hyper:
        return
    rounded = 2e-5 if name.startswith("adam") else 2e-6  # in float32, 1 - beta2**t loses three digits at t = 1
    assert_close(follow(tx, to_float32(start), to_float32(grads))[0], expected, rounded)


@pytest.mark.parametrize(
    ("name", "peer", "kwargs"),
    [
        ("sgd", "SGD", {}),
        ("momentum", "SGD", {"momentum": 0.83}),
        ("nesterov", "SGD", {"momentum": 0.83, "nesterov": True}),
        ("adagrad", "Adagrad", {"eps": 0.13}),
        ("rmsprop", "RMSprop", {"alpha": 0.71, "eps": 0.13}),
        ("adam", "Adam", {"betas": (0.83, 0.97), "eps": 0.13}),
        ("adamw", "AdamW", {"betas": (0.83, 0.97), "eps": 0.13}),
    ],
)
def test_same_parameters_as_torch(name, peer, kwargs):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((7, 3)), rng.standard_normal((STEPS, 7, 3))
    w = torch.tensor(start, requires_grad=True)
    peer = getattr(torch.optim, peer)([w], lr=2**-4, weight_decay=0.07, **kwargs)
    for g in grads:
        w.grad = torch.tensor(g)
        peer.step()
    hyper = {"momentum": 0.83, "beta2": 0.97, "rms_decay": 0.71, "epsilon": 0.13, "weight_decay": 0.07}
    with jax.enable_x64(True):
        actual, _ = follow(optim.optimizer(name, 2**-4, **hyper), {"kernel": start}, [{"kernel": g} for g in grads])
    assert_close(actual, {"kernel": w.detach().numpy()}, 1e-10)


def test_textbook_form_of_momentum_differs_only_when_the_rate_changes():
    grads = np.ones(STEPS)

    def textbook(rates):
        w = v = 0.0
        for g, rate in zip(grads, rates, strict=True):
            v = 0.9 * v + rate * g
            w = w - v
        return w

    def ours(rates):
        tx = optim.optimizer("momentum", lambda count: jnp.asarray(rates, jnp.float32)[count])
        return float(follow(tx, {"w": jnp.zeros(())}, [{"w": g} for g in grads])[0]["w"])

    constant, falling = np.full(STEPS, 0.25), np.where(np.arange(STEPS) < 13, 0.25, 0.025)
    assert ours(constant) == pytest.approx(textbook(constant), rel=1e-6)
    assert ours(falling) > textbook(falling) + 1  # there the old velocity keeps the old rate


def test_bias_correction_makes_adams_first_step_one_rate_long():
    first = optim.optimizer("adam", 1.0).update({"w": jnp.float32(5)}, optim.optimizer("adam", 1.0).init({"w": 0.0}))
    assert float(first[0]["w"]) == pytest.approx(-1, rel=2e-5)
    assert (1 - 0.9) / math.sqrt(1 - 0.999) == pytest.approx(3.16, abs=0.01)


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("constant", {}, {0: 0.6, 1: 0.6, 1000: 0.6}),
        ("constant", {"warmup": 3}, {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.6, 1000: 0.6}),
        ("constant", {"warmup": 1, "steps": 1}, {0: 0.6, 1: 0.6}),
        ("step", {"decay_every": 41}, {0: 0.6, 40: 0.6, 41: 0.06, 81: 0.06, 82: 0.006}),
        ("step", {"steps": 11, "decay_rate": 0.5}, {3: 0.6, 4: 0.3, 7: 0.3, 8: 0.15, 10: 0.15}),
        ("step", {"steps": 11, "warmup": 5}, {0: 0.12, 4: 0.6, 6: 0.6, 7: 0.06, 8: 0.06, 9: 0.006, 10: 0.006}),
        ("exponential", {"decay_every": 7, "decay_rate": 0.25}, {0: 0.6, 7: 0.15, 14: 0.0375}),
        ("exponential", {"decay_every": 6, "decay_rate": 0.25, "warmup": 2}, {0: 0.3, 1: 0.6, 2: 0.6, 5: 0.3, 8: 0.15}),
        ("exponential", {"steps": 29, "decay_rate": 4.0}, {0: 0.6, 5: 1.2, 10: 2.4, 20: 9.6}),
        ("cosine", {"steps": 10}, {0: 0.6, 5: 0.3, 9: 0.3 * (1 + math.cos(0.9 * math.pi)), 10: 0.0, 99: 0.0}),
        (
            "cosine",
            {"steps": 15, "warmup": 3, "final_fraction": 0.5},
            {0: 0.2, 2: 0.6, 3: 0.6, 7: 0.525, 9: 0.45, 15: 0.3},
        ),
        ("cosine", {"steps": 3, "warmup": 3}, {0: 0.2, 1: 0.4, 2: 0.6}),
    ],
)
def test_schedule_at_worked_steps(name, kwargs, expected):
    schedule = optim.schedule(name, 0.6, **kwargs)
    for i, rate in expected.items():
        assert float(schedule(i)) == pytest.approx(rate, rel=1e-6, abs=1e-8), i
    counts = jnp.asarray(list(expected), jnp.int32)
    actual = jax.jit(jax.vmap(lambda i: jnp.asarray(schedule(i))))(counts)
    np.testing.assert_allclose(actual, list(expected.values()), rtol=1e-6, atol=6e-8)


@pytest.mark.parametrize("every", [1, 41, 47, 61])
def test_step_schedule_drops_on_time(every):
    schedule = optim.schedule("step", 1.0, decay_rate=0.5, decay_every=every)
    counts = np.arange(13 * every)
    np.testing.assert_array_equal(jax.jit(schedule)(counts), 0.5 ** (counts // every))


@pytest.mark.parametrize(
    ("name", "rate", "kwargs", "words"),
    [
        ("cosin", 0.1, {"steps": 5}, "schedule .*'cosin'.*'cosine'"),
        ("cosine", 0.1, {}, "^steps .*cosine.* None$"),
        ("step", 0.1, {}, "^steps .*step.* None$"),
        ("exponential", 0.1, {"warmup": 3}, "^steps .*exponential.* None$"),
        ("cosine", 0.1, {"steps": 0}, "^steps .* 0$"),
        ("cosine", 0.1, {"steps": 5, "warmup": 7}, "^warmup .*5.* 7$"),
        ("constant", 0.1, {"warmup": -1}, "^warmup .* -1$"),
        ("constant", math.nan, {}, "^learning_rate .* nan$"),
        ("constant", math.inf, {}, "^learning_rate .* inf$"),
        ("constant", -0.1, {}, r"^learning_rate .* -0\.1$"),
        ("step", 0.1, {"steps": 5, "decay_rate": 0.0}, r"^decay_rate .* 0\.0$"),
        ("step", 0.1, {"steps": 5, "decay_every": -2}, "^decay_every .* -2$"),
        ("cosine", 0.1, {"steps": 5, "final_fraction": 1.5}, r"^final_fraction .* 1\.5$"),
    ],
)
def test_schedule_names_the_bad_argument(name, rate, kwargs, words):
    with pytest.raises(ValueError, match=words):
        optim.schedule(name, rate, **kwargs)


@pytest.mark.parametrize(
    ("name", "rate", "kwargs", "words"),
    [
        ("adm", 0.1, {}, "optimizer .*'adm'.*'adam'"),
        ("SGD", 0.1, {}, "optimizer .*'SGD'.*'sgd'"),
        ("sgd", -0.1, {}, r"^learning_rate .* -0\.1$"),
        ("sgd", math.nan, {}, "^learning_rate .* nan$"),
        ("sgd", 0.1, {"peak": -1.0}, r"^peak .* -1\.0$"),
        ("sgd", 0.1, {"momentum": 1.0}, r"^momentum .*\[0, 1\).* 1\.0$"),
        ("sgd", 0.1, {"beta2": -0.1}, r"^beta2 .* -0\.1$"),
        ("sgd", 0.1, {"rms_decay": math.nan}, "^rms_decay .* nan$"),
        ("sgd", 0.1, {"epsilon": 0.0}, r"^epsilon .* 0\.0$"),
        ("sgd", 0.1, {"weight_decay": math.inf}, "^weight_decay .* inf$"),
        ("sgd", 0.1, {"clip_norm": 0.0}, r"^clip_norm .* 0\.0$"),
        ("sgd", 0.1, {"clip_value": -1.0}, r"^clip_value .* -1\.0$"),
        ("sgd", 0.1, {"accumulate": 0}, "^accumulate .* 0$"),
        ("sgd", 0.1, {"accumulate": 2.5}, r"^accumulate .* 2\.5$"),
        ("sgd", 0.1, {"freeze": "("}, r"^freeze .*'\('"),
    ],
)
def test_optimizer_names_the_bad_argument(name, rate, kwargs, words):
    with pytest.raises(ValueError, match=words):
        optim.optimizer(name, rate, **kwargs)


def test_clip_norm_keeps_the_direction():
    params, grads = to_float32(draw(0)), to_float32(draw(1))
    norm = float(optax.tree.norm(grads))
    tx = optim.optimizer("sgd", 1.0, clip_norm=norm / 3)
    update = jax.jit(tx.update)
    clipped, _ = update(grads, tx.init(params), params)
    assert float(optax.tree.norm(clipped)) <= norm / 3 * (1 + 1e-6)
    assert_close(clipped, jax.tree.map(lambda g: -g / 3, grads), 1e-6)
    short = jax.tree.map(lambda g: g / 4, grads)
    assert_equal(update(short, tx.init(params), params)[0], jax.tree.map(jnp.negative, short))


def test_order_of_clip_value_clip_norm_and_decay():
    params, grads = {"w": jnp.float32([2, 2, 2])}, {"w": jnp.float32([-30, 40, 0.3])}
    tx = optim.optimizer("sgd", 1.0, clip_value=3)
    np.testing.assert_allclose(tx.update(grads, tx.init(params))[0]["w"], [3, -3, -0.3])
    tx = optim.optimizer("sgd", 1.0, clip_value=3, clip_norm=math.sqrt(18.09) / 2, weight_decay=0.5)
    np.testing.assert_allclose(tx.update(grads, tx.init(params), params)[0]["w"], [0.5, -2.5, -1.15], rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_biases_and_scales_of_any_rank_do_not_decay(name, accumulate):
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.LayerNorm()(nn.MultiHeadDotProductAttention(num_heads=2)(x))

    shapes = jax.eval_shape(Block().init, jax.random.key(0), jnp.ones((3, 5, 14)))["params"]
    params = jax.tree.map(lambda p: jnp.ones(p.shape, p.dtype), shapes)
    assert params["MultiHeadDotProductAttention_0"]["query"]["bias"].shape == (2, 7)
    tx = optim.optimizer(name, 0.25, weight_decay=0.5, accumulate=accumulate)
    zeros = [optax.tree.zeros_like(params)] * accumulate
    expected = jax.tree.map_with_path(lambda path, p: p * (0.875 if path[-1].key == "kernel" else 1), params)
    assert_close(follow(tx, params, zeros)[0], expected, 1e-6)


def test_the_recurrent_bias_of_a_gru_does_not_decay():
    model = RecurrentLM(vocabulary=7, features=3, layers=1, cell="gru")
    shapes = jax.eval_shape(lambda key: model.init(key, jnp.zeros((2, 5), jnp.int32)), jax.random.key(0))["params"]
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(shapes)]
    assert any(path.endswith("/recurrent_bias") for path in paths), paths
    params = jax.tree.map(lambda p: jnp.ones(p.shape), shapes)
    after, _ = follow(optim.optimizer("adamw", 0.25, weight_decay=0.5), params, [optax.tree.zeros_like(params)])
    for path, leaf in zip(paths, jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(leaf, 1 if path.endswith("bias") else 0.875, err_msg=path)


@pytest.mark.parametrize(
    ("name", "accumulate"),
    first(
        [
            ("adamw", 3),
            ("muon", 1),
            ("schedule_free", 1),
            *((name, 1) for name in optim.RULES if name not in ("muon", "schedule_free")),
        ],
        3,
    ),
)
def test_frozen_parameters_keep_their_bits_and_have_no_state(name, accumulate):
    params, grads = to_float32(draw(0)), to_float32(draws(6))
    for g in grads:
        g["query"]["kernel"] = jnp.full_like(
            g["query"]["kernel"], jnp.nan
        )  # gradients of frozen parameters are ignored
    options = {"weight_decay": 0.1, "clip_norm": 0.5, "accumulate": accumulate}
    after, state = follow(optim.optimizer(name, 0.1, freeze="query/k|Norm", **options), params, grads)
    for path in (("query", "kernel"), ("LayerNorm_0", "scale"), ("LayerNorm_0", "bias")):
        assert np.asarray(after[path[0]][path[1]]).tobytes() == np.asarray(params[path[0]][path[1]]).tobytes()
    assert not {(5, 2, 7)} & {leaf.shape for leaf in jax.tree.leaves(state)}

    def rest(tree):
        return {"Dense_0": tree["Dense_0"], "query": {"bias": tree["query"]["bias"]}}

    alone, _ = follow(optim.optimizer(name, 0.1, **options), rest(params), [rest(g) for g in grads])
    assert_close(rest(after), alone, 1e-7)  # the clipped norm excludes frozen parameters


def test_muon_orthogonalises_matrices_and_is_nadam_for_the_rest():
    params, grads = to_float32(draw(0)), to_float32(draw(1))
    tx = optim.optimizer("muon", 1.0, momentum=0.9)
    updates, _ = tx.update(grads, tx.init(params), params)
    kernel = np.asarray(updates["Dense_0"]["kernel"])
    u, _, vt = np.linalg.svd(np.asarray(grads["Dense_0"]["kernel"]), full_matrices=False)
    cosine = -np.sum(kernel * (u @ vt)) / np.linalg.norm(kernel) / np.linalg.norm(u @ vt)
    assert cosine > 0.95  # five Newton-Schulz steps give singular values between 0.7 and 1.2
    # the first step of Adam with Nesterov momentum is (γ m/(1 - γ²) + (1 - γ) g/(1 - γ)) / |g|, m = (1 - γ) g
    first = -np.sign(grads["Dense_0"]["bias"]) * (0.9 * 0.1 / 0.19 + 1)
    np.testing.assert_allclose(updates["Dense_0"]["bias"], first, rtol=1e-5)


@pytest.mark.parametrize("freeze", [None, "query/k|Norm"])
def test_schedule_free_against_the_paper(freeze):
    """z <- z - η Adam's step, x <- (1 - c) x + c z with c = 1 / t, y = (1 - γ) z + γ x, gradients at y."""
    start, grads, rate, momentum = draw(0), draws(7), 2**-4, 0.9
    tx = optim.optimizer("schedule_free", rate, momentum=momentum, freeze=freeze)
    with jax.enable_x64(True):
        params, state = follow(tx, start, grads)
        found = optim.averaged(state, params)
    frozen = lambda path: (
        bool(freeze) and (path[0].key == "LayerNorm_0" or [k.key for k in path] == ["query", "kernel"])
    )

    def expect(path, w):
        if frozen(path):
            return w, w
        z, x, s = w.copy(), w.copy(), np.zeros_like(w)
        for t, g in enumerate((g[path[0].key][path[1].key] for g in grads), start=1):
            s = 0.999 * s + 0.001 * g * g
            z = z - rate * g / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
            x = x + (z - x) / t
        return (1 - momentum) * z + momentum * x, x

    both = jax.tree.map_with_path(expect, start)
    pick = lambda i: jax.tree.map(lambda pair: pair[i], both, is_leaf=lambda pair: isinstance(pair, tuple))
    assert_close(params, pick(0), 1e-9)
    assert_close(found, pick(1), 1e-9)


@pytest.mark.parametrize("options", first([{}, {"freeze": "query"}, {"accumulate": 2}]))
def test_a_moving_average_follows_the_updates(options):
    start, grads = draw(0), draws(6)
    tx = optim.optimizer("momentum", 2**-4, ema=0.7, **options)
    with jax.enable_x64(True):
        params, state = start, tx.init(start)
        average, seen = start, start
        for i, g in enumerate(grads, start=1):
            updates, state = tx.update(g, state, params)
            params = optax.apply_updates(params, updates)
            if i % options.get("accumulate", 1) == 0:
                average = jax.tree.map(lambda e, w: 0.7 * e + 0.3 * w, average, params)
        found = optim.averaged(state, params)
    assert_close(found, average, 1e-12)
    assert not np.allclose(found["Dense_0"]["kernel"], params["Dense_0"]["kernel"])
    assert optim.averaged(optim.optimizer("sgd", 1.0).init(seen), seen) is seen


def test_rates_by_path_scale_the_whole_step():
    start, grads = draw(0), draws(5)
    options = {"weight_decay": 0.1, "momentum": 0.9}
    plain, _ = follow(optim.optimizer("adamw", 2**-4, **options), to_float32(start), to_float32(grads))
    tx = optim.optimizer("adamw", 2**-4, rates="query/kernel:0,Dense_0:0.5,kernel:7", **options)
    some, _ = follow(tx, to_float32(start), to_float32(grads))
    moved = lambda tree, *path: np.asarray(tree[path[0]][path[1]]) - start[path[0]][path[1]]
    assert_equal(some["query"]["kernel"], to_float32(start)["query"]["kernel"])
    np.testing.assert_allclose(moved(some, "LayerNorm_0", "bias"), moved(plain, "LayerNorm_0", "bias"))
    # the first step, whose gradient does not depend on earlier steps, is exactly halved
    one, _ = follow(tx, to_float32(start), to_float32(grads)[:1])
    whole, _ = follow(optim.optimizer("adamw", 2**-4, **options), to_float32(start), to_float32(grads)[:1])
    np.testing.assert_allclose(moved(one, "Dense_0", "kernel"), moved(whole, "Dense_0", "kernel") / 2, atol=1e-6)


@pytest.mark.parametrize("rates", ["Dense", "Dense:", "Dense:x", ":0.1", "Dense:-1", "(:1", "Dense:inf", "Dense:0.1,"])
def test_malformed_rates(rates):
    with pytest.raises(ValueError, match=r"^rates=.*EXPRESSION:FACTOR.*$"):
        optim.optimizer("sgd", 0.1, rates=rates)


def test_rates_that_match_no_parameter():
    with pytest.raises(ValueError, match=r"rates='Conv:0\.1': 'Conv' .*: Dense_0/bias, Dense_0/kernel"):
        optim.optimizer("sgd", 0.1, rates="Conv:0.1").init(draw(0))


def test_norms_of_every_third_call_by_module():
    start, grads = draw(0), draws(7)
    tx = optim.optimizer("sgd", 0.5, norms=3)
    params, state, found = to_float32(start), tx.init(to_float32(start)), []
    for g in to_float32(grads):
        before = params
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        found.append(optim.norms({"learner": state}))
        if len(found) in (3, 6):
            for module in start:
                whole = lambda tree: np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(tree[module])))
                three = [found[-1][f"norm/{kind}/{module}"] for kind in ("params", "grads", "updates")]
                np.testing.assert_allclose(three, [whole(before), whole(g), 0.5 * whole(g)], rtol=1e-5)
    assert found[0]["norm/grads/query"] == found[1]["norm/grads/query"] == 0
    assert found[2] == found[3] == found[4] != found[5] == found[6]
    assert optim.norms({"a": optim.optimizer("sgd", 0.1).init(start)}) == {}


def test_a_custom_rule_and_a_custom_transformation(monkeypatch):
    monkeypatch.setitem(optim.RULES, "halved", lambda numbers: optax.scale(0.5))
    params, grads = to_float32(draw(0)), to_float32(draws(1))
    after, _ = follow(optim.optimizer("halved", 0.5, transforms=[optax.scale(3.0)]), params, grads)
    expected = jax.tree.map(lambda w, g: w - 0.75 * g, params, grads[0])
    assert_close(after, expected, 1e-6)


def test_freeze_that_matches_no_parameter_or_all():
    params = {f"Dense_{i}": {"kernel": jnp.ones(3)} for i in range(11)}
    for pattern, matched in (("Conv", "no parameter"), ("Dense", "every parameter")):
        with pytest.raises(ValueError, match=f"freeze='{pattern}' .*{matched} .*: Dense_0/kernel, .* 3 more$"):
            optim.optimizer("sgd", 0.1, freeze=pattern).init(params)
    assert optim.learning_rate(optim.optimizer("sgd", 0.5, freeze="").init(params)) == 0.5


COUNTS = (7.0, 2.0, 4.0)


def one_batch(grads, counts):
    return jax.tree.map(lambda *g: sum(n * x for n, x in zip(counts, g, strict=True)) / sum(counts), *grads)


@pytest.mark.parametrize("name", first(["sgd", "nesterov", "adagrad", "adamw"]))
def test_accumulated_batches_equal_one_batch(name):
    params, groups = to_float32(draw(0)), [to_float32(draws(3)), to_float32([draw(s) for s in (11, 12, 13)])]
    options = {
        "weight_decay": 0.1,
        "clip_norm": 0.7,
        "clip_value": 0.3,
    }  # clipping applies to the mean, not to its parts
    schedule = optim.schedule("exponential", 0.1, decay_every=1)
    expected, _ = follow(optim.optimizer(name, schedule, **options), params, [one_batch(g, COUNTS) for g in groups])

    traces = []
    tx = optim.optimizer(name, schedule, accumulate=3, **options)

    @jax.jit
    def update(grads, state, params, count):
        traces.append(1)
        updates, state = tx.update(grads, state, params, count=count, value=0.0, grad=grads)
        return updates, optax.apply_updates(params, updates), state

    actual, state = params, tx.init(params)
    for group in groups:
        for i, (grads, count) in enumerate(zip(group, COUNTS, strict=True)):
            updates, actual, state = update(grads, state, actual, jnp.float32(count))
            assert any(np.any(u) for u in jax.tree.leaves(updates)) == (i == 2)
            assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
            state = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), state)  # to a checkpoint and back, mid-group
    assert_close(actual, expected, 1e-5 if name == "adamw" else 2e-6)
    assert len(traces) == 1
    assert float(optim.learning_rate(state)) == pytest.approx(
        0.01
    )  # the rate of the second update, not of the sixth call


def test_accumulation_by_hand_differs_from_equal_weights():
    params, grads = {"w": jnp.zeros(())}, [{"w": jnp.float32(g)} for g in (1, 2, 6)]
    tx, equal = optim.optimizer("sgd", 1.0, accumulate=3), optax.MultiSteps(optax.sgd(1.0), 3)
    state, other = tx.init(params), equal.init(params)
    for g, count in zip(grads, (4, 3, 1), strict=True):
        updates, state = tx.update(g, state, params, count=count)
        theirs, other = equal.update(g, other, params)
    assert float(updates["w"]) == -2.0
    assert float(theirs["w"]) == pytest.approx(-3.0)


def test_batches_with_count_0_are_ignored():
    params, (g1, g2, *_) = to_float32(draw(0)), to_float32(draws())
    nan = jax.tree.map(lambda g: jnp.full_like(g, jnp.nan), g1)
    tx = optim.optimizer("adamw", optim.schedule("cosine", 0.1, steps=5), weight_decay=0.1, accumulate=2)
    update, start = jax.jit(tx.update), tx.init(params)
    _, state = update(g1, start, params, count=3)
    _, state = update(g2, state, params, count=5)
    before = state
    for _ in range(2):
        updates, state = update(nan, state, params, count=0)
        assert not any(np.any(u) for u in jax.tree.leaves(updates))
    assert_equal(state, before)

    _, half = update(nan, start, params, count=0)
    padded, _ = update(g1, half, params, count=3)
    plain = optim.optimizer("adamw", 0.1, weight_decay=0.1)
    assert_close(padded, plain.update(g1, plain.init(params), params)[0], 1e-6)


def test_accumulation_under_vmap():
    params, grads = to_float32(draw(0)), to_float32(draws(3))
    tx = optim.optimizer("adam", 0.1, accumulate=3, clip_norm=0.7, freeze="query")
    counts = jnp.float32([[7, 2, 4], [0, 0, 0], [0, 5, 0], [3, 1, 2], [0, 0, 1]])

    def run(counts):
        state, w = tx.init(params), params
        for g, count in zip(grads, counts, strict=True):
            updates, state = tx.update(g, state, w, count=count)
            w = optax.apply_updates(w, updates)
        return w

    actual = jax.jit(jax.vmap(run))(counts)
    assert_close(actual, jax.tree.map(lambda *w: jnp.stack(w), *map(jax.jit(run), counts)), 1e-6)
    assert_equal(jax.tree.map(lambda w: w[1], actual), params)


def test_one_call_per_update_has_no_accumulator():
    params, grads = to_float32(draw(0)), to_float32(draw(1))
    tx = optim.optimizer("momentum", 0.1)
    state = tx.init(params)
    assert not any(isinstance(part, optim.accumulation.AccumulateState) for part in state)
    assert_equal(tx.update(grads, state, params, count=5), tx.update(grads, state, params))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("freeze", [None, "query"])
def test_learning_rate_is_that_of_the_last_update(accumulate, freeze):
    schedule = optim.schedule("cosine", 0.3, steps=7, warmup=2)
    tx = optim.optimizer("adamw", schedule, weight_decay=0.1, clip_norm=1.0, accumulate=accumulate, freeze=freeze)
    params, update = to_float32(draw(0)), jax.jit(tx.update)
    state = tx.init(params)
    assert float(optim.learning_rate(state)) == pytest.approx(float(schedule(0)))
    for call in range(7 * accumulate):
        _, state = update(params, state, params)
        last = max(0, (call + 1) // accumulate - 1)
        assert float(optim.learning_rate(state)) == pytest.approx(float(schedule(last)), rel=1e-6)
    rate = optim.learning_rate(state)
    assert (rate.shape, rate.dtype, rate.weak_type) == ((), jnp.float32, False)


def test_learning_rate_of_other_states():
    params = {"learning_rate": jnp.ones(3)}  # a parameter with this name is not a rate
    assert float(optim.learning_rate(optim.optimizer("adam", 0.5).init(params))) == 0.5
    assert optim.learning_rate(optax.adam(0.1).init(params)) is None
    assert optim.learning_rate(()) is None

    def first_rate(rate):
        tx = optim.optimizer("sgd", lambda count: rate)
        return tx.update({"w": jnp.ones(())}, tx.init({"w": jnp.ones(())}))

    updates, states = jax.vmap(first_rate)(jnp.float32([0.1, 0.2, 0.7]))
    np.testing.assert_allclose(updates["w"], [-0.1, -0.2, -0.7])
    np.testing.assert_allclose(optim.learning_rate(states), [0.1, 0.2, 0.7])


def test_configured_rate_overrides_that_of_a_restored_state():
    params = {"w": jnp.ones(())}
    old = optim.optimizer("sgd", 0.1).init(params)
    assert float(optim.optimizer("sgd", 0.5).update(params, old, params)[0]["w"]) == -0.5


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("freeze", [None, "query"])
def test_peak_is_a_factor_of_the_rate_in_the_state(accumulate, freeze):
    options = {"weight_decay": 0.1, "clip_norm": 1.0, "accumulate": accumulate, "freeze": freeze}
    shape = lambda rate: optim.schedule("exponential", rate, decay_every=2)
    params, grads = to_float32(draw(0)), [to_float32(g) for g in draws(6)]
    expected, before = follow(optim.optimizer("momentum", shape(0.3), **options), params, grads)
    one, other = (optim.optimizer("momentum", shape(1.0), peak=peak, **options) for peak in (0.3, 0.7))
    actual, state = follow(one, params, grads)
    assert_close(actual, expected, 1e-6)
    rate = optim.learning_rate(state)
    assert (rate.shape, rate.dtype, rate.weak_type) == ((), jnp.float32, False)
    assert float(rate) == pytest.approx(float(optim.learning_rate(before)), rel=1e-6)

    start = params, one.init(params), params
    assert str(jax.make_jaxpr(one.update)(*start)) == str(jax.make_jaxpr(other.update)(*start))  # one program for both
    assert_equal(optim.with_peak_of(other.init(params), one.init(params)), other.init(params))
    after = optim.with_peak_of(other.init(params), {"inner": state})["inner"]
    assert float(optim.learning_rate(after)) == pytest.approx(float(rate) * 7 / 3, rel=1e-6)
    assert_equal(optim.with_peak_of(one.init(params), after), state)  # only the peak has changed


def test_with_peak_of_does_not_change_other_states():
    params = {"peak": jnp.ones(3)}
    state = optax.inject_hyperparams(optax.sgd)(0.1).init(params), optax.adam(0.1).init(params), params
    assert_equal(optim.with_peak_of(optim.optimizer("sgd", 0.1, peak=5).init(params), state), state)


def test_with_peak_of_needs_equal_numbers_of_peaks():
    one = optim.optimizer("sgd", 0.1).init({"w": jnp.ones(())})
    for new, state, numbers in ((one, (one, one), "1 .* 2"), ((one, one), one, "2 .* 1")):
        with pytest.raises(ValueError, match=f"^state .*{numbers};"):
            optim.with_peak_of(new, state)


@pytest.mark.parametrize(
    ("name", "accumulate", "dtype"),
    first(
        [
            ("adam", 3, jnp.bfloat16),
            ("rmsprop", 1, jnp.bfloat16),
            ("adamw", 1, jnp.float32),
            *((name, 3, jnp.float32) for name in optim.RULES),
        ],
    ),
)
def test_chain_runs_donated_and_scanned_with_fixed_types(name, accumulate, dtype):
    tx = optim.optimizer(name, 0.1, weight_decay=0.1, clip_norm=1.0, accumulate=accumulate, freeze="query")
    params = frozen_dict(jax.tree.map(lambda x: jnp.asarray(x, dtype), draw(0)))
    grads = jax.tree.map(lambda *g: jnp.asarray(np.stack(g), dtype), *map(frozen_dict, draws(5)))

    def step(carry, g):
        updates, state = tx.update(g, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    carry = params, tx.init(params)
    scanned, _ = jax.jit(lambda carry: lax.scan(step, carry, grads))(carry)
    traces = []

    def one(carry, g):
        traces.append(1)
        return step(carry, g)[0]

    one = jax.jit(one, donate_argnums=0)
    for i in range(5):
        carry = one(carry, jax.tree.map(lambda g: g[i], grads))
    assert len(traces) == 1
    assert_close(to_float32(carry), to_float32(scanned), 1e-6 if dtype == jnp.float32 else 0.02)
    assert {leaf.dtype for leaf in jax.tree.leaves(carry[0])} == {jnp.dtype(dtype)}
