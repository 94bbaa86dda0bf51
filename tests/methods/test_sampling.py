import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.methods import choose, generate
from jaxdl.nn import GPT

V, CONTEXT = 13, 7


class TestChoose:
    def test_frequencies_are_the_softmax(self):
        logits = jnp.log(jnp.array([0.5, 0.25, 0.125, 0.125]))
        drawn = choose(jax.random.key(0), jnp.tile(logits, (20_011, 1)), 0.5)
        want = np.array([16, 4, 1, 1]) / 22  # squares of the probabilities
        np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20_011, want, atol=0.01)

    def test_top_k(self):
        logits = jax.random.normal(jax.random.key(1), (5003, V))
        drawn = choose(jax.random.key(2), logits, 3.0, top_k=3)
        ranks = np.argsort(np.argsort(-logits, -1), -1)[np.arange(5003), drawn]
        assert sorted(set(ranks.tolist())) == [0, 1, 2]
        np.testing.assert_array_equal(choose(jax.random.key(3), logits, 3.0, top_k=1), logits.argmax(-1))

    def test_a_temperature_per_row_and_zero(self):
        logits = jnp.tile(jnp.array([[0.0, 1.0, 0.5]]), (3001, 1))
        temperature = jnp.where(jnp.arange(3001) < 1000, 0.0, 1e6)
        drawn = np.asarray(choose(jax.random.key(4), logits, temperature))
        assert (drawn[:1000] == 1).all()
        np.testing.assert_allclose(np.bincount(drawn[1000:]) / 2001, 1 / 3, atol=0.05)

    def test_bad_k(self):
        with pytest.raises(ValueError, match=r"top_k .*\[1, 13\].* 14"):
            choose(jax.random.key(0), jnp.zeros((2, V)), top_k=14)


@pytest.fixture(scope="module")
def gpt():
    model = GPT(V, CONTEXT, 2, 2, 6)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, CONTEXT), jnp.int32))
    return model, jax.tree.map(lambda x: 20 * x, params)  # scaled, so that logits differ clearly


def last_logits(apply, params, tokens):
    """The logits [B, V] after tokens [B, n]: padded, so that all n share one program; the network is causal."""
    n = tokens.shape[1]
    return apply(params, np.pad(tokens, ((0, 0), (0, CONTEXT - n))))[:, n - 1]


class TestGenerate:
    """A GPT with its cache against the same model without a cache."""

    @pytest.mark.claims
    @pytest.mark.parametrize("length", [6, 1, 5, 23])
    def test_equals_sampling_without_a_cache(self, gpt, length):
        model, params = gpt
        decode = lambda tokens, caches: model.apply(params, tokens, caches, method="decode")
        prompt = jnp.array([[1, 2], [3, 4], [5, 11]])
        got = jax.jit(
            lambda key: generate(decode, model.empty_cache(3), prompt, length, key, temperature=0.0, context=CONTEXT)
        )(jax.random.key(0))
        text, start, apply = np.asarray(prompt), 0, jax.jit(model.apply)
        for _ in range(length):
            if text.shape[1] - start > CONTEXT:
                start = text.shape[1] - CONTEXT // 2
            logits = last_logits(apply, params, text[:, start:])
            text = np.concatenate([text, np.asarray(logits.argmax(-1))[:, None]], 1)
        np.testing.assert_array_equal(got, text[:, 2:])
        assert got.dtype == jnp.int32

    @pytest.mark.claims
    def test_a_memory_without_limit(self):
        """The model predicts the sum of all tokens so far, modulo V."""

        def decode(tokens, total):
            totals = total[:, None] + jnp.cumsum(tokens, 1)
            return jax.nn.one_hot(totals % V, V) * 100, totals[:, -1]

        prompt = jnp.array([[1, 2, 3], [5, 0, 1]])
        got = generate(decode, jnp.zeros(2, jnp.int32), prompt, 9, jax.random.key(0))
        for row, tokens in zip(got, prompt, strict=True):
            text = tokens.tolist()
            for _ in range(9):
                text.append(sum(text) % V)
            assert row.tolist() == text[3:]

    @pytest.mark.claims
    def test_keys_and_rows_differ(self, gpt):
        model, params = gpt
        decode = lambda tokens, caches: model.apply(params, tokens, caches, method="decode")
        prompt = jnp.ones((2, 1), jnp.int32)
        run = jax.jit(
            lambda seed: generate(
                decode, model.empty_cache(2), prompt, 29, jax.random.key(seed), temperature=9.0, context=CONTEXT
            )
        )
        one, same, other = run(0), run(0), run(1)
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()
        assert (one[0] != one[1]).any()
        assert 0 <= one.min() <= one.max() < V

    def test_prompt_beyond_the_context(self, gpt):
        with pytest.raises(ValueError, match=r"prompt .*7 tokens.* 8"):
            generate(lambda *a: a, (), jnp.zeros((1, 8), jnp.int32), 3, jax.random.key(0), context=CONTEXT)

    @pytest.mark.claims
    @pytest.mark.parametrize("length", [19])
    def test_given_tokens_are_not_drawn(self, gpt, length):
        """Prompts of 1, 2 and 5 tokens in one batch, beyond the end of the cache, against greedy decoding of each."""
        model, params = gpt
        prompts = [np.array([3]), np.array([5, 1]), np.array([2, 2, 9, 11, 4])]
        tokens = np.stack([np.pad(p, (0, 5 - len(p))) for p in prompts])
        where = np.arange(4 + length)[None] < np.array([[len(p) - 1] for p in prompts])
        given = np.pad(tokens[:, 1:], ((0, 0), (0, length))), where
        decode = lambda x, cache: model.apply(params, x, cache, method="decode")
        options = {"temperature": 0.0, "context": CONTEXT}
        together = generate(
            decode, model.empty_cache(3), tokens[:, :1], 4 + length, jax.random.key(0), given=given, **options
        )
        apply = jax.jit(model.apply)
        for i, prompt in enumerate(prompts):
            text, start = list(prompt), 0
            while len(text) < len(prompt) + length:
                start = len(text) - CONTEXT // 2 if len(text) - start > CONTEXT else start
                text.append(int(last_logits(apply, params, np.array([text[start:]]))[0].argmax()))
            assert list(np.asarray(together)[i, len(prompt) - 1 :][:length]) == text[len(prompt) :]
