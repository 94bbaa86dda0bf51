import jax
import jax.numpy as jnp
import numpy as np
import peer
import pytest

from jaxdl.nn import (
    KeyValueCache,
    LearnedPositions,
    MultiHeadAttention,
    add_positions,
    attention_weights,
    dot_product_attention,
    sinusoidal_positions,
)

B, T, S, H, D, E = 2, 5, 11, 3, 7, 13
RNG = np.random.default_rng(5)


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # two threads take a second for a small gradient on a busy machine
    return torch


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


QUERIES, KEYS, VALUES, BIAS = normal(B, T, H, D), normal(B, S, H, D), normal(B, S, H, E), normal(B, H, T, S)
MASK = RNG.random((B, 1, T, S)) < 0.7
KEY_MASK = np.arange(S)[None] < np.array([[S], [4]])
X, Y = normal(B, T, 17), normal(B, S, 19)


def loop(queries, keys, values, sees, bias):
    """Weights [B, H, T, S] and sums [B, T, H, E], computed query by query in float64."""
    weights, sums = np.zeros((B, H, T, S)), np.zeros((B, T, H, E))
    for b, h, t in np.ndindex(B, H, T):
        unnormalised = {
            s: np.exp(np.float64(queries[b, t, h]) @ keys[b, s, h] / np.sqrt(D) + bias[b, h, t, s])
            for s in range(S)
            if sees(b, t, s)
        }
        for s, weight in unnormalised.items():
            weights[b, h, t, s] = weight / sum(unnormalised.values())
            sums[b, t, h] += weights[b, h, t, s] * values[b, s, h]
    return weights, sums


CASES = {
    "plain": ({}, lambda b, t, s: True),
    "bias": ({"bias": BIAS}, lambda b, t, s: True),
    "causal": ({"causal": True}, lambda b, t, s: s <= t),
    "mask": ({"mask": MASK}, lambda b, t, s: MASK[b, 0, t, s]),
    "all": ({"bias": BIAS, "causal": True, "mask": MASK}, lambda b, t, s: s <= t and MASK[b, 0, t, s]),
}


@pytest.mark.parametrize("case", CASES)
def test_attention_against_a_loop(case):
    options, sees = CASES[case]
    weights, sums = loop(QUERIES, KEYS, VALUES, sees, options.get("bias", np.zeros((B, H, T, S))))
    ours = jax.jit(lambda q, k, v: (attention_weights(q, k, **options), dot_product_attention(q, k, v, **options)))(
        QUERIES, KEYS, VALUES
    )
    np.testing.assert_allclose(ours[0], weights, atol=1e-6)
    np.testing.assert_allclose(ours[1], sums, atol=1e-5)
    if case == "all":  # the random mask hides all keys from some queries
        assert (weights.sum(-1) == 0).any()


def test_attention_against_jax():
    values = VALUES[..., :D]
    lengths = jnp.array([S, 4])
    expected, ours = jax.jit(
        lambda q, k, v: (
            jax.nn.dot_product_attention(q, k, v, BIAS, MASK, key_value_seq_lengths=lengths),
            dot_product_attention(q, k, v, bias=BIAS, mask=MASK, key_mask=KEY_MASK),
        )
    )(QUERIES, KEYS, values)
    seen = (MASK[:, 0] & KEY_MASK[:, None]).any(-1)
    assert seen.sum() > 5
    np.testing.assert_allclose(ours[seen], expected[seen], atol=1e-5)


def test_a_query_without_visible_keys_has_output_and_gradient_0():
    mask = np.ones((B, 1, T, S), bool)
    mask[1, 0, 3] = False

    def loss(inputs):
        y = dot_product_attention(*inputs, mask=mask)
        return (y**2).sum() + y.sum(), y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))((QUERIES, KEYS, VALUES))
    np.testing.assert_array_equal(y[1, 3], 0)
    np.testing.assert_array_equal(grads[0][1, 3], 0)
    assert all(np.isfinite(g).all() for g in grads)


PADDING = np.array(
    [np.nan, np.inf, -np.inf, 3e38, -3e38, np.nan, 0], np.float32
)  # in the last 7 keys of the second row


def test_padding_cannot_leak():
    @jax.jit
    def grad(inputs, key_mask=None):
        def loss(inputs):
            return (dot_product_attention(*inputs, key_mask=key_mask)[-1] ** 2).sum()

        return jax.value_and_grad(loss)(inputs)

    keys, values = KEYS.copy(), VALUES.copy()
    keys[1, 4:], values[1, 4:] = PADDING[:, None, None], PADDING[:, None, None]
    loss, grads = grad((QUERIES, keys, values), KEY_MASK)
    expected_loss, expected = grad((QUERIES[1:], KEYS[1:, :4], VALUES[1:, :4]))
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    for ours, theirs in zip(grads, expected, strict=True):
        np.testing.assert_allclose(ours[1:, : theirs.shape[1]], theirs, atol=1e-5)
        np.testing.assert_array_equal(ours[1:, theirs.shape[1] :], 0)
        np.testing.assert_array_equal(ours[0], 0)


def test_half_precision_has_a_float32_softmax():
    half = [jnp.asarray(a, jnp.bfloat16) for a in (QUERIES, KEYS, VALUES)]
    assert attention_weights(*half[:2]).dtype == jnp.float32
    y = dot_product_attention(*half)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y), dot_product_attention(QUERIES, KEYS, VALUES), atol=0.03)


def torch_attention(p, name=""):
    """Converts our parameters to those of torch.nn.MultiheadAttention with equal input widths."""
    import torch

    return {
        f"{name}in_proj_weight": torch.cat([p[n]["kernel"].T for n in ("query", "key", "value")]),
        f"{name}in_proj_bias": torch.cat([p[n]["bias"] for n in ("query", "key", "value")]),
        f"{name}out_proj.weight": p["out"]["kernel"].T,
        f"{name}out_proj.bias": p["out"]["bias"],
    }


def call(model, variables, *inputs, **options):
    return jax.jit(lambda variables, *inputs: model.apply(variables, *inputs, **options))(variables, *inputs)


def random_attention(*inputs, **options):
    model = MultiHeadAttention(H, 21, **options)
    return model, peer.random_variables(Bound(model), inputs)


class Bound:
    """Adapts a module with several inputs to one tuple, for `peer.random_variables`."""

    def __init__(self, model):
        self.init = lambda key, inputs: model.init(key, *inputs)


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_multi_head_attention_against_torch(kind, torch):
    inputs = (normal(B, T, 21),) if kind == "self" else (normal(B, T, 21), normal(B, S, 21), normal(B, S, 21))
    length = inputs[-1].shape[1]
    key_mask, mask = KEY_MASK[:, :length], RNG.random((1, 1, T, length)) < 0.7
    mask[..., 0] = True  # PyTorch gives NaN for a query without visible keys
    model, variables = random_attention(*inputs)

    counts = np.float32(key_mask if kind == "self" else np.ones((B, T)))[:, :, None]  # our padded queries are zeros

    def loss(params, *inputs):
        variables = {"params": params}
        y, seen = model.apply(variables, *inputs, key_mask=key_mask, mask=mask, mutable=["intermediates"])
        y *= counts
        return (y**2).mean(), (y, seen["intermediates"]["weights"][0] * counts[:, None])

    grad = jax.jit(jax.value_and_grad(loss, tuple(range(1 + len(inputs))), has_aux=True))
    (_, (y, weights)), grads = grad(variables["params"], *inputs)
    counts = torch.tensor(counts)
    p = peer.tensors((variables["params"], *inputs), requires_grad=True)
    layer = torch.nn.MultiheadAttention(21, H, batch_first=True)
    q, k, v = p[1:] * 3 if kind == "self" else p[1:]
    masks = {"key_padding_mask": torch.tensor(~key_mask), "attn_mask": torch.tensor(~mask[0, 0])}
    options = {**masks, "average_attn_weights": False}
    expected, expected_weights = torch.func.functional_call(layer, torch_attention(p[0]), (q, k, v), options)
    (expected * counts).square().mean().backward()
    np.testing.assert_allclose(y, (expected * counts).detach(), atol=1e-5)
    np.testing.assert_allclose(weights, (expected_weights * counts[:, None]).detach(), atol=1e-5)
    jax.tree.map(lambda g, t: np.testing.assert_allclose(g, t.grad, atol=1e-6, rtol=1e-4), grads, p)


def test_inputs_of_three_widths_against_torch(torch):
    inputs = normal(B, T, 21), normal(B, S, 19), normal(B, S, 23)
    model, variables = random_attention(*inputs, use_bias=False)
    p = peer.tensors(variables["params"])
    weights = {f"{name[0]}_proj_weight": p[name]["kernel"].T for name in ("query", "key", "value")}
    layer = torch.nn.MultiheadAttention(21, H, bias=False, kdim=19, vdim=23, batch_first=True)
    weights["out_proj.weight"] = p["out"]["kernel"].T
    expected, _ = torch.func.functional_call(layer, weights, tuple(peer.tensors(inputs)))
    y = call(model, variables, *inputs)
    np.testing.assert_allclose(y, expected.detach(), atol=1e-5)
    projected = call(model, variables, *inputs[1:], method="project")
    np.testing.assert_allclose(call(model, variables, inputs[0], projected), y, atol=1e-6)


def test_heads_side_by_side():
    """H heads equal H attentions of one head each, concatenated and multiplied by W_o."""
    x = normal(B, T, 17)
    model, variables = random_attention(x)
    p = variables["params"]
    one, single = jax.jit(MultiHeadAttention(1, 7).apply), []
    for h in range(H):
        part = {n: jax.tree.map(lambda a: a[..., 7 * h : 7 * h + 7], p[n]) for n in ("query", "key", "value")}
        part["out"] = {"kernel": np.eye(7, dtype=np.float32), "bias": np.zeros(7, np.float32)}
        single.append(one({"params": part}, x))
    expected = np.concatenate(single, -1) @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(call(model, variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("cross", [False, True])
def test_padded_inputs_cannot_leak(cross):
    x = normal(B, S, 17)
    broken, cut = x.copy(), x[1:, :4]
    broken[1, 4:] = PADDING[:, None]
    model, variables = random_attention(*((X, x, x) if cross else (x,)))

    @jax.jit
    def grad(params, *inputs, key_mask=None):
        def loss(params):
            y = model.apply({"params": params}, *inputs, key_mask=key_mask)
            return (y[-1, : T if cross else 4] ** 2).mean()

        return jax.value_and_grad(loss)(params)

    ours = grad(variables["params"], *((X, broken, broken) if cross else (broken,)), key_mask=KEY_MASK)
    expected = grad(variables["params"], *((X[1:], cut, cut) if cross else (cut,)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-4), ours, expected)


def test_permuting_tokens_permutes_outputs():
    x, order = normal(B, S, 17), RNG.permutation(S)
    model, variables = random_attention(x)
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(apply(variables, x[:, order]), apply(variables, x)[:, order], atol=1e-5)


def test_a_later_token_changes_nothing_before():
    x = normal(B, S, 17)
    model, variables = random_attention(x)
    apply = jax.jit(lambda x: model.apply(variables, x, causal=True))
    changed = x.copy()
    changed[:, 7:] += 3
    y, z = apply(x), apply(changed)
    np.testing.assert_array_equal(y[:, :7], z[:, :7])
    assert (np.abs(y[:, 7:] - z[:, 7:]).max((0, 2)) > 0.1).all()


@pytest.mark.parametrize("chunks", [[1] * S, [5, 1, 5]])
def test_decoding_is_the_causal_call(chunks):
    x = normal(B, S, 21)
    model, variables = random_attention(x)
    decode = jax.jit(lambda x, cache: model.apply(variables, x, cache, method="decode"))
    cache, outputs = model.empty_cache(B, 13), []
    assert {a.shape for a in cache} == {(B, 13, H, 7), (B,)}
    for start, size in zip(np.cumsum([0, *chunks]), chunks, strict=False):
        y, cache = decode(x[:, start : start + size], cache)
        outputs.append(y)
    np.testing.assert_array_equal(cache.length, [S, S])
    np.testing.assert_allclose(np.concatenate(outputs, 1), call(model, variables, x, causal=True), atol=1e-5)


def test_decoding_rows_of_different_lengths():
    x, lengths = normal(B, S, 21), np.array([5, 3])
    model, variables = random_attention(x)
    decode = jax.jit(lambda x, cache: model.apply(variables, x, cache, method="decode"))
    _, cache = decode(x[:, :5], model.empty_cache(B, S))
    y, cache = decode(x[:, 5:7], cache._replace(length=jnp.asarray(lengths)))
    np.testing.assert_array_equal(cache.length, lengths + 2)
    rows = np.stack([x[0, :7], np.concatenate([x[1, :3], x[1, 5:7], x[1, :2]])])
    expected = call(model, variables, rows, causal=True)
    np.testing.assert_allclose(y, [expected[0, 5:7], expected[1, 3:5]], atol=1e-5)


def test_a_full_cache_gives_nan():
    x = normal(B, T, 21)
    model, variables = random_attention(x)
    cache = model.empty_cache(B, T)._replace(length=jnp.array([3, 0]))
    y, _ = call(model, variables, x[:, :4], cache, method="decode")
    np.testing.assert_array_equal(np.isnan(y).all(-1), [[True] * 4, [False] * 4])
    with pytest.raises(ValueError, match=r"cache .*5 tokens.* 3"):
        model.apply(variables, x, model.empty_cache(B, 3), method="decode")


def test_dropout():
    n, rate = 211, 0.3
    model = MultiHeadAttention(1, n, dropout=rate, use_bias=False)
    eye = np.eye(n, dtype=np.float32)
    variables = {"params": {name: {"kernel": eye} for name in ("query", "key", "value", "out")}}
    y, seen = call(model, variables, eye[None], mutable=["intermediates"])
    np.testing.assert_allclose(y, seen["intermediates"]["weights"][0][0], rtol=1e-6)  # the values are the identity

    @jax.jit
    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, eye[None], train=True, rngs=rngs, mutable=["intermediates"])

    z, trained = jax.tree.map(np.asarray, train(0))
    np.testing.assert_allclose(trained["intermediates"]["weights"][0][0], y, rtol=1e-6)
    dropped = z == 0
    np.testing.assert_allclose(z[~dropped], y[~dropped] / (1 - rate), rtol=1e-5)
    assert abs(dropped.mean() - rate) < 4 * (rate * (1 - rate) / z.size) ** 0.5
    np.testing.assert_array_equal(z, train(0)[0])
    assert (z != np.asarray(train(1)[0])).any()


def test_initialisation():
    ones, sevens = jax.nn.initializers.ones, jax.nn.initializers.constant(7)
    model = MultiHeadAttention(H, 21, kernel_init=ones, out_init=sevens)
    params = jax.jit(model.init)(jax.random.key(0), X)["params"]
    assert {n: np.unique(p["kernel"]).tolist() for n, p in params.items()} == {
        "query": [1], "key": [1], "value": [1], "out": [7]
    }  # fmt: skip
    assert all((p["bias"] == 0).all() for p in params.values())
    params = jax.eval_shape(MultiHeadAttention(H, 21).init, jax.random.key(0), normal(B, T, 21))["params"]
    assert sum(p.size for p in jax.tree.leaves(params)) == 4 * 21 * 21 + 4 * 21


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (MultiHeadAttention(3, 22), "features .*22"),
        (MultiHeadAttention(0, 21), "heads"),
        (MultiHeadAttention(3, 21, dropout=1.0), r"dropout .*1\.0"),
    ],
)
def test_bad_fields(model, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), X)


def test_bad_calls():
    model, variables = random_attention(X, Y, Y)
    projected = call(model, variables, Y, method="project")
    with pytest.raises(ValueError, match="key_mask"):
        model.apply(variables, X, projected, key_mask=KEY_MASK)
    with pytest.raises(AssertionError):
        model.apply(variables, X, Y, key_mask=KEY_MASK[:, :7])
    with pytest.raises(AssertionError):
        attention_weights(QUERIES, KEYS, mask=MASK[:, 0])
    with pytest.raises(AssertionError):
        attention_weights(QUERIES, VALUES)


@pytest.mark.parametrize("features", [7, 12])
def test_sinusoidal_positions(features):
    table = sinusoidal_positions(131, features, base=100.0)
    expected = [
        [(np.cos if j % 2 else np.sin)(t / 100 ** ((j - j % 2) / features)) for j in range(features)]
        for t in range(131)
    ]
    np.testing.assert_allclose(table, expected, atol=1e-6)


def test_sinusoidal_positions_of_the_paper():
    table = np.asarray(sinusoidal_positions(10_007, 512))
    np.testing.assert_allclose(
        table[7, [0, 1, 256, 257]], np.array([np.sin(7), np.cos(7), np.sin(0.07), np.cos(0.07)]), atol=1e-6
    )
    np.testing.assert_allclose(table[10_000, :2], [np.sin(10_000), np.cos(10_000)], atol=1e-6)
    # PE[t + 3] is the same linear map of PE[t] for every t; the first 6 columns and 40 rows determine it.
    few = table[:, :6].astype(np.float64)
    linear = np.linalg.lstsq(few[:40], few[3:43], rcond=None)[0]
    np.testing.assert_allclose(few[9_000:9_040] @ linear, few[9_003:9_043], atol=1e-5)


def test_positions_are_added_from_each_rows_start():
    table, start = normal(13, 17), np.array([2, 9])
    np.testing.assert_array_equal(add_positions(X, table), X + table[None, :T])
    y = add_positions(X, jnp.asarray(table), jnp.asarray(start))
    np.testing.assert_array_equal(y[0], X[0] + table[2:7])
    np.testing.assert_array_equal(y[1, :4], X[1, :4] + table[9:])
    assert np.isnan(y[1, 4]).all()
    with pytest.raises(ValueError, match=r"3 tokens.* 5"):
        add_positions(X, table[:3])


def test_learned_positions():
    model = LearnedPositions(13)
    params = jax.jit(model.init)(jax.random.key(0), X)["params"]
    table = np.asarray(params["embedding"])
    assert table.shape == (13, 17)
    assert float(table.std()) == pytest.approx(0.02, rel=0.15)
    np.testing.assert_array_equal(call(model, {"params": params}, X), X + table[None, :T])
    with pytest.raises(ValueError, match=r"3 tokens.* 5"):
        LearnedPositions(3).init(jax.random.key(0), X)


def test_a_cache_has_no_buffer_twice():
    """Arrays that share a buffer cannot be donated to a compiled function."""
    leaves = jax.tree.leaves(KeyValueCache.empty(2, 3, 5, 35))
    assert len({a.unsafe_buffer_pointer() for a in leaves}) == 3
