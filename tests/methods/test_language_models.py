import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.methods import nearest_width, of_recurrent, of_transformer, parameter_count
from jaxdl.nn import GPT, RecurrentLM
from tests.budget import first

V, T = 11, 7
TOKENS = np.random.default_rng(0).integers(V, size=(3, T)).astype(np.int32)
MODELS = {"lstm": of_recurrent(RecurrentLM(V, "lstm", 5)), "gpt": of_transformer(GPT(V, T, 2, 2, 6))}


@pytest.fixture(params=first(MODELS))
def model(request):
    model = MODELS[request.param]
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    return model, jax.tree.map(lambda x: 5 * x, variables)


@pytest.mark.claims
def test_decode_equals_read(model):
    model, variables = model
    logits, _ = model.read(variables, TOKENS, model.memory(3))
    first, cache = model.decode(variables, TOKENS[:, :4], model.cache(3))
    second, _ = model.decode(variables, TOKENS[:, 4:], cache)
    np.testing.assert_allclose(np.concatenate([first, second], 1), logits, atol=1e-4)
    logs = model.log_probabilities(variables, TOKENS)
    np.testing.assert_allclose(np.exp(logs).sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(logs, jax.nn.log_softmax(logits), atol=1e-6)


def test_samples(model):
    """At temperature 0 the next token is the most likely one; options reach `choose`."""
    model, variables = model
    draw = jax.jit(lambda key: model.sample(variables, TOKENS[:, :2], 19, key, temperature=0.0))
    text = np.asarray(draw(jax.random.key(0)))
    assert text.shape == (3, 19)
    want = model.log_probabilities(variables, np.concatenate([TOKENS[:, :2], text[:, :3]], 1))[:, 1:].argmax(-1)
    np.testing.assert_array_equal(text[:, :4], want)


@pytest.mark.claims
@pytest.mark.parametrize("parameters", [1, 5_000, 300, 200_000])
def test_nearest_width_is_the_nearest(parameters):
    make = lambda width: of_recurrent(RecurrentLM(V, "gru", width))
    size = lambda width: parameter_count(
        jax.eval_shape(make(width).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1), jnp.int32))
    )
    found = nearest_width(make, parameters)
    distances = {width: abs(size(width) - parameters) for width in range(4, found + 40, 4)}
    assert distances[found] == min(distances.values())
