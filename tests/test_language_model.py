"""Tests of the language model; test_experiments.py has those common to all experiments."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import language_model_comparison
from experiments.language_model import Config, build, data, make_model, summarize
from experiments.language_model_comparison import variants
from jaxdl.core import WeightedSum
from jaxdl.data import Text, streams
from jaxdl.run import FlagError, fit

V = 7
OTHERS = [("lstm", "jit"), ("transformer", "pmap")]
TOKENS = np.random.default_rng(0).integers(V, size=1501).astype(np.int32)
TEXT = Text(TOKENS[:1201], TOKENS[1201:1301], TOKENS[1301:], "abcdefg", "")
CONFIG = Config(
    cell="lstm", context=5, batch_size=8, features=12, layers=1, steps=8, optimizer="sgd", schedule="constant",
    warmup=0, learning_rate=0.5, clip_norm=None, weight_decay=0.0, progress=False, devices=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def text(monkeypatch):
    """Replaces every text by one of seven letters."""
    monkeypatch.setattr("experiments.language_model.load_text", lambda *_, **__: TEXT)


def make(config):
    parts = data(config)
    return build(config, parts), parts


def torch_losses(torch, state, train, steps):
    """Trains the same LSTM in PyTorch by truncated back-propagation, detaching between batches."""
    p = jax.device_get(state.learner.params)["params"]
    embedding, lstm, dense = torch.nn.Embedding(V, 12), torch.nn.LSTM(12, 12, batch_first=True), torch.nn.Linear(12, V)
    layer = p["Recurrent_0"]["layer_0"]
    with torch.no_grad():
        embedding.weight.copy_(torch.tensor(p["Embed_0"]["embedding"]))
        lstm.weight_ih_l0.copy_(torch.tensor(layer["kernel"].T))
        lstm.weight_hh_l0.copy_(torch.tensor(layer["recurrent_kernel"].T))
        lstm.bias_ih_l0.copy_(torch.tensor(layer["bias"]))
        lstm.bias_hh_l0.zero_()
        dense.weight.copy_(torch.tensor(p["Dense_0"]["kernel"].T))
        dense.bias.copy_(torch.tensor(p["Dense_0"]["bias"]))
    lstm.bias_hh_l0.requires_grad_(False)  # one bias here, two there
    weights = [w for module in (embedding, lstm, dense) for w in module.parameters() if w.requires_grad]
    descent, losses, hidden = torch.optim.SGD(weights, 0.5), [], None
    for t in range(steps):
        batch = train.batch(0, t)
        if batch["fresh"].any():
            hidden = None
        x, hidden = lstm(embedding(torch.tensor(batch["x"])), hidden)
        hidden = tuple(h.detach() for h in hidden)
        loss = torch.nn.functional.cross_entropy(dense(x).flatten(0, 1), torch.tensor(batch["y"]).flatten().long())
        descent.zero_grad()
        loss.backward()
        descent.step()
        losses.append(loss.item())
    return losses


@pytest.mark.claims
def test_truncated_back_propagation_against_torch():
    torch = pytest.importorskip("torch")
    experiment, parts = make(CONFIG)
    train = parts.train
    state = jax.jit(experiment.init)(jax.random.key(0))
    steps = 2 * train.length // 8 + 3  # through the text twice and on, so that the memory is emptied twice
    expected = torch_losses(torch, state, train, steps)
    step, losses = jax.jit(experiment.step), []
    for t in range(steps):
        state, metrics = step(state, train.batch(0, t))
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(losses, expected, rtol=2e-4)


@pytest.mark.claims
def test_memory_makes_batches_one_text():
    """Without learning, the losses of consecutive batches equal those of the whole text at once."""
    experiment, _ = make(dataclasses.replace(CONFIG, learning_rate=0.0))
    state = jax.jit(experiment.init)(jax.random.key(0))
    whole = streams(TEXT.train, 15, 8).batch(0, 0)
    short = streams(TEXT.train[: 8 * 15 * 10 + 1], 5, 8)
    step, losses = jax.jit(experiment.step), []
    for t in range(3):
        state, metrics = step(state, short.batch(0, t))
        losses.append(metrics["loss"])
    one, _ = make(dataclasses.replace(CONFIG, learning_rate=0.0, context=15))
    _, metrics = jax.jit(one.step)(jax.jit(one.init)(jax.random.key(0)), whole)
    assert np.mean(losses) == pytest.approx(float(metrics["loss"]), rel=1e-5)


@pytest.mark.parametrize("cell", ["gru", "transformer"])
@pytest.mark.claims
def test_evaluation_counts_every_character_once(cell):
    config = dataclasses.replace(CONFIG, cell=cell, steps=2)
    experiment, parts = make(config)
    result = fit(experiment, parts, config)
    length = 5 if cell == "transformer" else 80
    model = make_model(config, V)
    for tokens, found in ((TEXT.valid, result.valid), (TEXT.test, result.metrics)):
        losses = []
        for start in range(0, len(tokens) - 1, length):
            window = tokens[start : start + length + 1]
            logs = model.log_probabilities(result.state.learner.params, window[None, :-1])[0]
            losses += (-np.asarray(logs)[np.arange(len(window) - 1), window[1:]]).tolist()
        assert len(losses) == len(tokens) - 1
        assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
        assert found["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)


@pytest.mark.parametrize(
    ("cell", "parallel"),
    [("lstm", "pmap"), ("transformer", "jit"), *(pytest.param(*c, marks=pytest.mark.full) for c in OTHERS)],
)
@pytest.mark.claims
def test_one_and_eight_devices_and_resume(cell, parallel, tmp_path):
    config = dataclasses.replace(CONFIG, cell=cell, log_every=1, eval_every=4)
    experiment, parts = make(config)
    one = fit(experiment, parts, config)
    many = dataclasses.replace(config, parallel=parallel, devices=8, workdir=str(tmp_path))
    fit(experiment, parts, dataclasses.replace(many, steps=4))
    many = fit(experiment, parts, many)
    assert many.curve("train/loss")[1] == pytest.approx(one.curve("train/loss")[1], rel=1e-4)
    assert many.metrics == pytest.approx(one.metrics, rel=1e-3)


@pytest.mark.claims
def test_seeds_side_by_side():
    experiment, parts = make(CONFIG)
    train = parts.train
    step = jax.jit(experiment.step)
    states = jax.jit(jax.vmap(experiment.init))(jax.vmap(jax.random.key)(jnp.arange(3)))
    together, alone = jax.jit(jax.vmap(experiment.step, (0, None))), jax.tree.map(lambda x: x[2], states)
    for t in range(3):
        states, metrics = together(states, train.batch(0, t))
        alone, single = step(alone, train.batch(0, t))
    assert metrics["loss"][2] == pytest.approx(float(single["loss"]), rel=1e-4)
    assert len(set(np.asarray(metrics["loss"]).tolist())) == 3


def test_bad_flags_are_one_line():
    with pytest.raises(FlagError, match=r"--features=30: .*multiple of 4"):
        Config(features=30)
    with pytest.raises(FlagError, match=r"--context=50, --batch_size=32: 1,201 tokens .*32 windows of 50"):
        data(Config(cell="lstm", context=50))
    for flags, message in (
        ({"cell": "gru", "position": "none"}, "--position=none: has no effect with --cell=gru"),
        ({"cell": "lstm", "remat": True}, "--remat=true: has no effect with --cell=lstm"),
        ({"features": 8, "parameters": 5000}, "--parameters=5000: has no effect with --features=8"),
        ({"text": "t.txt", "dataset": "wikitext2"}, "--dataset=wikitext2: has no effect with --text=t.txt"),
    ):
        with pytest.raises(FlagError, match=message):
            Config(**flags)


def test_the_comparison_varies_cells_and_positions():
    chosen = variants(language_model_comparison.Config(remat=True, steps=50, dataset="tinyshakespeare"))
    assert {config.cell for config in chosen.values()} == {"rnn", "gru", "lstm", "transformer"}
    transformers = [config for config in chosen.values() if config.cell == "transformer"]
    assert [config.position for config in transformers] == ["learned", "sinusoidal", "none"]
    assert [config.remat for config in chosen.values()] == [False] * 4 + [True] * 3
    assert {(config.steps, config.dataset) for config in chosen.values()} == {(50, "tinyshakespeare")}


def test_a_text_without_a_validation_part(monkeypatch):
    monkeypatch.setattr("experiments.language_model.load_text", lambda *_, **__: TEXT._replace(valid=None))
    assert data(CONFIG).valid is None


def test_perplexity_beyond_the_greatest_number_is_infinite():
    sums = {"loss": WeightedSum(np.float32(9321), 1), "accuracy": WeightedSum(0, 1)}
    assert summarize(sums)["perplexity"] == math.inf
