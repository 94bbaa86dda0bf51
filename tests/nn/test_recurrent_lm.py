import jax
import numpy as np
import peer
import pytest

from jaxdl.nn import RecurrentLM
from tests.budget import first

B, T, V, D, LAYERS = 3, 5, 11, 7, 2
TOKENS = np.random.default_rng(0).integers(V, size=(B, T))
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("cell", first(GATES))
def test_number_of_parameters_and_carry(cell):
    model = RecurrentLM(V, cell, D, LAYERS)
    variables = peer.random_variables(model, TOKENS)
    extra = LAYERS * D if cell == "gru" else 0
    assert count(variables) == V * D + LAYERS * GATES[cell] * D * (2 * D + 1) + D * V + V + extra
    apply = jax.jit(model.apply)
    logits, last = apply(variables, TOKENS)
    assert logits.shape == (B, T, V)
    first, carry = apply(variables, TOKENS[:, :2], model.initial_carry(B))
    second, carry = apply(variables, TOKENS[:, 2:], carry)
    np.testing.assert_allclose(np.concatenate([first, second], 1), logits, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), carry, last)


def test_against_torch():
    torch = pytest.importorskip("torch")
    model = RecurrentLM(V, "lstm", D, LAYERS)
    variables = peer.random_variables(model, TOKENS)
    logits, _ = jax.jit(model.apply)(variables, TOKENS)
    p, lstm = peer.tensors(variables["params"]), torch.nn.LSTM(D, D, LAYERS, batch_first=True)
    with torch.no_grad():
        for layer in range(LAYERS):
            ours = p["Recurrent_0"][f"layer_{layer}"]
            names = ("kernel", "recurrent_kernel")
            for ours_name, torch_name in zip(names, ("weight_ih", "weight_hh"), strict=True):
                getattr(lstm, f"{torch_name}_l{layer}").copy_(ours[ours_name].T)
            getattr(lstm, f"bias_ih_l{layer}").copy_(ours["bias"])
            getattr(lstm, f"bias_hh_l{layer}").zero_()
        x, _ = lstm(p["Embed_0"]["embedding"][torch.tensor(TOKENS)])
        expected = peer.dense(p["Dense_0"], x)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.claims
def test_dropout_only_in_training():
    model = RecurrentLM(V, "gru", D, LAYERS, dropout=0.5)
    variables = peer.random_variables(model, TOKENS)
    run = lambda seed, train: model.apply(variables, TOKENS, None, train, rngs={"dropout": jax.random.key(seed)})[0]
    np.testing.assert_array_equal(run(0, False), run(1, False))
    assert (np.abs(run(0, True) - run(1, True)) > 1e-3).any()
