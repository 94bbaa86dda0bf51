from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import peer
import pytest
from flax import linen as nn
from test_attention import PADDING, torch_attention

from jaxdl.nn import GPT, Block, DecoderBlock, EncoderBlock, FeedForward, TransformerDecoder, TransformerEncoder
from tests.budget import first

B, T, S, H, D, F, V = 2, 5, 11, 3, 21, 29, 37
RNG = np.random.default_rng(7)
KEY_MASK = np.arange(T)[None] < np.array([[T], [3]])
MEMORY_MASK = np.arange(S)[None] < np.array([[S], [4]])
EXACT_GELU = partial(nn.gelu, approximate=False)
ACTIVATIONS = {"relu": nn.relu, "gelu": EXACT_GELU}


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # two threads take a second for a small gradient on a busy machine
    return torch


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


X, MEMORY = normal(B, T, D), normal(B, S, D)
TOKENS = RNG.integers(0, V, (B, 7))


def random_variables(model, *inputs):
    return peer.random_variables(SimpleNamespace(init=lambda key, inputs: model.init(key, *inputs)), inputs)


def count(model, *inputs):
    params = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    return sum(p.size for p in jax.tree.leaves(params))


def torch_block(p, name=""):
    """Converts our parameters to those of torch.nn.TransformerEncoderLayer or TransformerDecoderLayer."""
    theirs = {"attention": "self_attn", "self_attention": "self_attn", "cross_attention": "multihead_attn"}
    found = {}
    for ours in theirs.keys() & p.keys():
        found |= torch_attention(p[ours], f"{name}{theirs[ours]}.")
    for i in range(3):
        if f"residuals_{i}" in p:
            found[f"{name}norm{i + 1}.weight"] = p[f"residuals_{i}"]["norm"]["scale"]
            found[f"{name}norm{i + 1}.bias"] = p[f"residuals_{i}"]["norm"]["bias"]
    for i in range(2):
        found[f"{name}linear{i + 1}.weight"] = p["feed_forward"][f"Dense_{i}"]["kernel"].T
        found[f"{name}linear{i + 1}.bias"] = p["feed_forward"][f"Dense_{i}"]["bias"]
    return found


def torch_stack(p):
    found = {"norm.weight": p["norm"]["scale"], "norm.bias": p["norm"]["bias"]} if "norm" in p else {}
    for i in range(sum(name.startswith("blocks_") for name in p)):
        found |= torch_block(p[f"blocks_{i}"], f"layers.{i}.")
    return found


def compare(model, layer, parameters, *inputs, train=False, **masks):
    """Compares outputs outside padding, and the gradients of their mean square by parameters and inputs."""
    import torch

    variables = random_variables(model, *inputs)
    counts = np.float32(masks.get("key_mask", np.ones((B, T))))[:, :, None]

    def loss(params, inputs):
        y = model.apply({"params": params}, *inputs, train, **masks) * counts
        return (y**2).mean(), y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(variables["params"], inputs)
    p = peer.tensors((variables["params"], inputs), requires_grad=True)
    names = {"key_mask": "src_key_padding_mask" if len(inputs) == 1 else "tgt_key_padding_mask"}
    names |= {"memory_mask": "memory_key_padding_mask"}
    theirs = {names[name]: torch.tensor(~masks[name]) for name in names.keys() & masks.keys()}
    mask = torch.tensor(~masks["mask"]) if "mask" in masks else None
    if masks.get("causal", len(inputs) == 2):
        mask = torch.ones(T, T, dtype=torch.bool).triu(1)
    expected = torch.func.functional_call(layer, parameters(p[0]), (*p[1], mask), theirs) * torch.tensor(counts)
    expected.square().mean().backward()
    np.testing.assert_allclose(y, expected.detach(), atol=1e-5)
    jax.tree.map(lambda g, t: np.testing.assert_allclose(g, t.grad, atol=1e-6, rtol=1e-4), grads, p)


@pytest.mark.parametrize(("pre_norm", "activation", "causal"), first([(False, "relu", True), (True, "gelu", False)]))
def test_encoder_block_against_torch(pre_norm, activation, causal, torch):
    model = EncoderBlock(Block(H, D, F, ACTIVATIONS[activation], pre_norm=pre_norm))
    layer = torch.nn.TransformerEncoderLayer(D, H, F, 0.0, activation, batch_first=True, norm_first=pre_norm)
    compare(model, layer, torch_block, X, key_mask=KEY_MASK, causal=causal)


class Broadcast:
    """Adapts a module to PyTorch's mask [T, T]."""

    def __init__(self, model):
        self.init = model.init
        self.apply = lambda *args, mask, **masks: model.apply(*args, mask=mask[None, None], **masks)


@pytest.mark.parametrize(("pre_norm", "activation", "causal"), first([(False, "relu", True), (True, "gelu", False)]))
def test_decoder_block_against_torch(pre_norm, activation, causal, torch):
    model = DecoderBlock(Block(H, D, F, ACTIVATIONS[activation], pre_norm=pre_norm))
    layer = torch.nn.TransformerDecoderLayer(D, H, F, 0.0, activation, batch_first=True, norm_first=pre_norm)
    masks = {"key_mask": KEY_MASK, "memory_mask": MEMORY_MASK, "causal": causal}
    compare(model, layer, torch_block, X, MEMORY, **masks)


@pytest.mark.claims
def test_stacks_against_torch(torch):
    mask = RNG.random((T, T)) < 0.5
    mask[:, 0] = True  # PyTorch gives NaN for a query without visible keys
    options = {"dropout": 0.0, "batch_first": True}
    layer = torch.nn.TransformerEncoderLayer(D, H, F, **options, norm_first=True)
    layers = torch.nn.TransformerEncoder(layer, 2, torch.nn.LayerNorm(D), enable_nested_tensor=False)
    model = Broadcast(TransformerEncoder(2, Block(H, D, F, pre_norm=True)))
    compare(model, layers, torch_stack, X, mask=mask, key_mask=np.ones((B, T), bool))
    layers = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(D, H, F, **options), 2)
    compare(TransformerDecoder(2, Block(H, D, F)), layers, torch_stack, X, MEMORY)


def torch_gpt(p, tokens, dropout=0.0):
    """GPT in PyTorch, with biases and tied embeddings, in training."""
    import torch
    from torch.nn import functional

    x = p["embedding"]["embedding"][tokens] + p["positions"]["embedding"][: tokens.shape[1]]
    gelu = partial(functional.gelu, approximate="tanh")
    layer = torch.nn.TransformerEncoderLayer(D, H, 4 * D, dropout, gelu, batch_first=True, norm_first=True)
    layers = torch.nn.TransformerEncoder(layer, 2, torch.nn.LayerNorm(D), enable_nested_tensor=False)
    mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
    x = torch.func.functional_call(
        layers, torch_stack(p["blocks"]), (functional.dropout(x, dropout, True, False), mask)
    )
    return x @ p["embedding"]["embedding"].T


def test_gpt_against_torch(torch):
    model = GPT(V, 11, 2, H, D)
    params = random_variables(model, TOKENS)["params"]

    def loss(params):
        logits = model.apply({"params": params}, TOKENS)
        return (logits**2).mean(), logits

    (_, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    p = peer.tensors(params, requires_grad=True)
    expected = torch_gpt(p, peer.tensors(TOKENS))
    expected.square().mean().backward()
    np.testing.assert_allclose(logits, expected.detach(), atol=1e-5, rtol=1e-5)
    jax.tree.map(lambda g, t: np.testing.assert_allclose(g, t.grad, atol=1e-5, rtol=1e-4), grads, p)


@pytest.mark.parametrize("position", ["sinusoidal", "none"])
def test_gpt_with_other_positions_against_torch(torch, position):
    model = GPT(V, 11, 2, H, D, position=position)
    params = random_variables(model, TOKENS)["params"]
    assert "positions" not in params
    t, i = np.arange(11)[:, None], np.arange(D)[None]
    angles = t / 10_000 ** ((i - i % 2) / D)
    table = 0.02 * np.sqrt(2) * np.where(i % 2, np.cos(angles), np.sin(angles)) * (position == "sinusoidal")
    p = peer.tensors({**params, "positions": {"embedding": np.float32(table)}})
    logits = jax.jit(model.apply)({"params": params}, TOKENS)
    np.testing.assert_allclose(logits, torch_gpt(p, peer.tensors(TOKENS)), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"position .*learned, sinusoidal or none.*'learnt'"):
        GPT(V, 11, 2, H, D, position="learnt").init(jax.random.key(0), TOKENS)


@pytest.fixture
def doubling(torch, monkeypatch):
    """Replaces dropout by multiplication by 2 in both libraries; GELU, softmax and norms reveal its places."""
    functional = torch.nn.functional

    def ours(self, x, deterministic=None):
        return x if (self.deterministic if deterministic is None else deterministic) else 2 * x

    def attention(q, k, v, mask, dropout, causal=False):
        logits = q @ k.mT / q.shape[-1] ** 0.5
        if causal:
            mask = torch.full(logits.shape[-2:], -torch.inf).triu(1)
        return (2 if dropout > 0 else 1) * torch.softmax(logits if mask is None else logits + mask, -1) @ v

    monkeypatch.setattr(nn.Dropout, "__call__", ours)
    monkeypatch.setattr(functional, "dropout", lambda x, p, train, inplace: 2 * x if train and p > 0 else x)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention)


@pytest.mark.claims
def test_places_of_dropout_against_torch(torch, doubling):
    options = {"dropout": 0.1, "activation": "gelu", "batch_first": True}
    layer = torch.nn.TransformerEncoderLayer(D, H, F, **options)
    layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    compare(TransformerEncoder(2, Block(H, D, F, EXACT_GELU, 0.1)), layers, torch_stack, X, train=True)
    layers = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(D, H, F, **options), 2)
    compare(TransformerDecoder(2, Block(H, D, F, EXACT_GELU, 0.1)), layers, torch_stack, X, MEMORY, train=True)
    model = GPT(V, 11, 2, H, D, dropout=0.1)
    variables = random_variables(model, TOKENS)
    logits = jax.jit(lambda variables: model.apply(variables, TOKENS, True))(variables)
    expected = torch_gpt(peer.tensors(variables["params"]), peer.tensors(TOKENS), 0.1)
    np.testing.assert_allclose(logits, expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.claims
def test_a_later_token_changes_nothing_before():
    model = GPT(V, 7, 2, H, D)
    apply, variables = jax.jit(model.apply), random_variables(model, TOKENS)
    changed = np.concatenate([TOKENS[:, :4], (TOKENS[:, 4:] + 1) % V], 1)
    y, z = apply(variables, TOKENS), apply(variables, changed)
    np.testing.assert_array_equal(y[:, :4], z[:, :4])
    assert (np.abs(y[:, 4:] - z[:, 4:]).max((0, 2)) > 0.01).all()

    model = TransformerDecoder(2, Block(H, D, F))
    apply, variables = jax.jit(model.apply), random_variables(model, X, MEMORY)
    y, z = apply(variables, X, MEMORY), apply(variables, np.concatenate([X[:, :3], X[:, 3:] + 1], 1), MEMORY)
    np.testing.assert_array_equal(y[:, :3], z[:, :3])
    assert (np.abs(y[:, 3:] - z[:, 3:]).max((0, 2)) > 0.01).all()
    y = jax.jit(partial(model.apply, causal=False))(variables, X, MEMORY)
    assert (np.abs(y - z)[:, 0] > 0.01).any()


def test_permuting_tokens_permutes_outputs():
    model, order = TransformerEncoder(2, Block(H, D, F)), RNG.permutation(T)
    apply, variables = jax.jit(model.apply), random_variables(model, X)
    np.testing.assert_allclose(apply(variables, X[:, order]), apply(variables, X)[:, order], atol=1e-5)


@pytest.mark.claims
@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
def test_gpt_decodes_a_prompt_and_token_by_token(position):
    model = GPT(V, 7, 2, H, D, tied=False, position=position)
    variables = random_variables(model, TOKENS)
    logits = jax.jit(model.apply)(variables, TOKENS)

    @jax.jit
    def decode(prompt, rest):
        def step(caches, token):
            y, caches = model.apply(variables, token[:, None], caches, method="decode")
            return caches, y[:, 0]

        y, caches = model.apply(variables, prompt, model.empty_cache(B), method="decode")
        caches, z = jax.lax.scan(step, caches, rest.T)
        return jnp.concatenate([y, z.swapaxes(0, 1)], 1), caches, step(caches, rest[:, 0])[1]

    y, caches, beyond = decode(TOKENS[:, :3], TOKENS[:, 3:])
    np.testing.assert_allclose(y, logits, atol=1e-5, rtol=1e-5)
    assert [cache.length.tolist() for cache in caches] == [[7, 7]] * 2
    assert np.isnan(beyond).all()


@pytest.mark.claims
def test_encoder_decodes_as_it_is_called():
    model = TransformerEncoder(2, Block(H, D, F))
    variables = random_variables(model, X)
    decode = jax.jit(partial(model.apply, method="decode"))
    y, caches = decode(variables, X[:, :3], model.empty_cache(B, T))
    z, _ = decode(variables, X[:, 3:], caches)
    expected = jax.jit(partial(model.apply, causal=True))(variables, X)
    np.testing.assert_allclose(np.concatenate([y, z], 1), expected, atol=1e-5)


@pytest.mark.claims
def test_decoder_decodes_token_by_token():
    model = TransformerDecoder(2, Block(H, D, F, pre_norm=True))
    variables = random_variables(model, X, MEMORY)
    start = jax.jit(lambda memory: model.apply(variables, memory, T, MEMORY_MASK, method="start"))
    decode = jax.jit(partial(model.apply, method="decode"))
    caches, outputs = start(MEMORY), []
    assert {len(leaf) for leaf in jax.tree.leaves(caches)} == {B}
    for t in range(T):
        y, caches = decode(variables, X[:, t : t + 1], caches)
        outputs.append(y)
        # Reorders rows, as beam search does, and back.
        caches = jax.tree.map(lambda a: a[::-1][::-1], caches)
    expected = jax.jit(model.apply)(variables, X, MEMORY, memory_mask=MEMORY_MASK)
    np.testing.assert_allclose(np.concatenate(outputs, 1), expected, atol=1e-5)


def test_padding_cannot_leak():
    encoder, decoder = (
        TransformerEncoder(1, Block(H, D, F, pre_norm=True)),
        TransformerDecoder(1, Block(H, D, F, pre_norm=True)),
    )
    params = random_variables(encoder, MEMORY)["params"], random_variables(decoder, X, MEMORY)["params"]
    source, target = MEMORY.copy(), X.copy()
    source[1, 4:], target[1, 3:] = PADDING[:, None], np.array([[np.nan], [3e38]])

    @jax.jit
    def grad(params, source, target, mask=None, key_mask=None):
        def loss(params):
            memory = encoder.apply({"params": params[0]}, source, key_mask=mask)
            y = decoder.apply({"params": params[1]}, target, memory, memory_mask=mask, key_mask=key_mask)
            return (y[-1, :3] ** 2).mean()

        return jax.value_and_grad(loss)(params)

    ours = grad(params, source, target, MEMORY_MASK, KEY_MASK)
    expected = grad(params, MEMORY[1:, :4], X[1:, :3])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), ours, expected)


@pytest.mark.claims
def test_number_of_parameters():
    assert count(FeedForward(D, F), X) == 2 * D * F + F + D
    assert count(EncoderBlock(Block(H, D, F)), X) == 4 * D**2 + 2 * D * F + 9 * D + F
    assert count(DecoderBlock(Block(H, D, F)), X, MEMORY) == 8 * D**2 + 2 * D * F + 15 * D + F
    x = jnp.zeros((2, 3, 512))
    assert count(TransformerEncoder(6, Block(8, 512, 2048)), x) == 18_914_304
    assert count(TransformerEncoder(6, Block(8, 512, 2048, pre_norm=True)), x) == 18_914_304 + 2 * 512
    assert count(TransformerDecoder(6, Block(8, 512, 2048)), x, x) == 25_224_192
    assert count(TransformerDecoder(6, Block(8, 512, 2048, pre_norm=True)), x, x) == 25_224_192 + 2 * 512
    tokens = jnp.zeros((2, 3), jnp.int32)
    assert count(GPT(65, 64, use_bias=False), tokens) == 804_096 == 65 * 128 + 64 * 128 + 4 * (12 * 128**2 + 256) + 128
    assert count(GPT(65, 64), tokens) == 809_856 == 804_096 + 4 * 11 * 128 + 128
    assert count(GPT(65, 64, tied=False), tokens) == 809_856 + 65 * 128
    assert count(GPT(50_257, 1024, 12, 12, 768), tokens) == 124_439_808


@pytest.mark.claims
def test_initialisation_of_gpt():
    model = GPT(499, 101, 2, H, 63, tied=False)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    for path, p in jax.tree_util.tree_leaves_with_path(variables["params"]):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name.endswith("bias"):
            assert (p == 0).all(), name
        elif name.endswith("scale"):
            assert (p == 1).all(), name
        else:
            summed = "out.kernel" in name or "Dense_1" in name
            assert float(p.std()) == pytest.approx(0.02 / 2 if summed else 0.02, rel=0.05), name
    tokens = RNG.integers(0, 499, (3, 101))
    logits = jax.nn.log_softmax(jax.jit(model.apply)(variables, tokens))
    assert -float(jnp.take_along_axis(logits, tokens[..., None], -1).mean()) == pytest.approx(np.log(499), abs=0.05)


def test_dropout_only_in_training():
    model = GPT(V, 7, 1, H, D, dropout=0.2)
    variables = random_variables(model, TOKENS)
    apply = jax.jit(model.apply, static_argnums=2)
    y = apply(variables, TOKENS, False)
    np.testing.assert_allclose(y, jax.jit(GPT(V, 7, 1, H, D).apply)(variables, TOKENS), atol=1e-6)
    trained = [apply(variables, TOKENS, True, rngs={"dropout": jax.random.key(seed)}) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert all((np.abs(a - b).max((0, 2)) > 0.01).all() for a, b in [(trained[0], y), (trained[0], trained[2])])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (GPT(V, 3, 1, H, D), "3 tokens.* 7"),
        (GPT(V, 7, 1, 4, D), "features .*heads.*21 and 4"),
        (GPT(V, 7, 1, H, D, dropout=1.5), r"dropout .*1\.5"),
    ],
)
def test_bad_fields(model, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), TOKENS)
