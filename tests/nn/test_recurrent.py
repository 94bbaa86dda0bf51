import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.nn import TORCH_RECURRENT, Recurrent
from jaxdl.nn.cells import CELLS, scan, unroll
from tests.budget import first

B, T, D_IN, D = 5, 7, 3, 11
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
LENGTHS = np.array([7, 2, 5, 1, 3])


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def random_carry(model, seed=1):
    leaves, treedef = jax.tree.flatten(model.initial_carry(B))
    return treedef.unflatten([draw(*leaf.shape, seed=seed + i) for i, leaf in enumerate(leaves)])


def variables_of(model, D_in=D_IN):
    """Random variables in PyTorch's range, also biases; drawn with NumPy, because an eager init takes a second."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, D_in)))
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda s: np.float32(generator.uniform(-1, 1, s.shape) * D**-0.5), shapes)


def assert_close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), actual, expected)


def stacked(carry):
    """PyTorch's layout: h_n (and c_n) [layers and directions, B, D]."""
    return tuple(np.stack(leaves) for leaves in zip(*carry, strict=True))


def torch_net(model, params):
    """PyTorch's module with these parameters, and a function that returns its gradients as a tree like params."""
    import torch

    kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[model.cell]
    net = kind(D_IN, D, model.layers, batch_first=True, bidirectional=model.bidirectional)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    state = {}
    for name, p in params.items():
        # The split of b into PyTorch's two biases is arbitrary, except for the GRU's candidate.
        ih, hh = p["bias"] + 0.3, np.full_like(p["bias"], -0.3)
        if "recurrent_bias" in p:
            ih[2 * D :], hh[2 * D :] = p["bias"][2 * D :], p["recurrent_bias"]
        values = (p["kernel"].T.copy(), p["recurrent_kernel"].T.copy(), ih, hh)
        state |= {k + name.replace("layer_", "_l"): torch.tensor(v) for k, v in zip(kinds, values, strict=True)}
    net.load_state_dict(state)

    def gradients():
        trees = {}
        for name, p in params.items():
            ih, hh, b, b2 = (getattr(net, k + name.replace("layer_", "_l")).grad.numpy() for k in kinds)
            trees[name] = {"kernel": ih.T, "recurrent_kernel": hh.T, "bias": b, "recurrent_bias": b2[2 * D :]}
            trees[name] = {k: trees[name][k] for k in p}
        return trees

    return net, gradients


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("packed", [False, True])
def test_outputs_states_and_gradients_against_torch(cell, packed):
    """One layer on whole sequences; two layers and directions on packed sequences with NaN in the padding."""
    torch = pytest.importorskip("torch")
    model = Recurrent(cell, D, layers=2, bidirectional=True) if packed else Recurrent(cell, D)
    params, carry, x = variables_of(model)["params"], random_carry(model), draw(B, T, D_IN)
    y_weights, last_weights = draw(B, T, 22 if packed else 11), random_carry(model, seed=11)
    mask = np.arange(T) < (LENGTHS[:, None] if packed else T)
    mask = np.broadcast_to(mask, (B, T)).astype(np.int32)

    def loss(params, x, carry):
        y, last = model.apply({"params": params}, x, carry, mask=mask if packed else None)
        products = jax.tree.map(lambda a, w: (a * w).sum(), (y, last), (y_weights, last_weights))
        return sum(jax.tree.leaves(products)), (y, last)

    padded = np.where(mask[..., None] == 1, x, np.float32("nan"))
    (_, (y, last)), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(params, padded, carry)

    net, gradients = torch_net(model, params)
    given = tx = torch.tensor(x, requires_grad=True)
    start = [torch.tensor(leaf, requires_grad=True) for leaf in stacked(carry)]
    if packed:
        given = torch.nn.utils.rnn.pack_padded_sequence(tx, LENGTHS, batch_first=True, enforce_sorted=False)
    ty, end = net(given, tuple(start) if cell == "lstm" else start[0])
    if packed:
        ty, _ = torch.nn.utils.rnn.pad_packed_sequence(ty, batch_first=True)
    end = end if cell == "lstm" else (end,)
    weights = map(torch.tensor, (y_weights, *stacked(last_weights)))
    sum((a * w).sum() for a, w in zip((ty, *end), weights, strict=True)).backward()

    assert_close(y, ty.detach().numpy())
    assert_close(stacked(last), tuple(leaf.detach().numpy() for leaf in end))
    assert_close(grads[0], gradients())
    assert_close(grads[1], tx.grad.numpy())
    assert_close(stacked(grads[2]), tuple(leaf.grad.numpy() for leaf in start))
    np.testing.assert_array_equal(np.asarray(y)[mask == 0], 0)


def loop(cell, p, x, state):
    """States [T, D] of one sequence x [T, D_in], computed step by step."""
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), p)
    h, *c = (np.float64(s) for s in state)
    hs = []
    for x_t in x:
        zx, zh = x_t @ p["kernel"] + p["bias"], h @ p["recurrent_kernel"]
        if cell == "rnn":
            h = np.tanh(zx + zh)
        elif cell == "gru":
            r, u = sigmoid((zx + zh)[:D]), sigmoid((zx + zh)[D : 2 * D])
            n = np.tanh(zx[2 * D :] + r * (zh[2 * D :] + p["recurrent_bias"]))
            h = (1 - u) * n + u * h
        else:
            i, f, g, o = np.split(zx + zh, 4)
            c = [sigmoid(f) * c[0] + sigmoid(i) * np.tanh(g)]
            h = sigmoid(o) * np.tanh(c[0])
        hs.append(h)
    return np.reshape(hs, (-1, D)), (h, *c)


@pytest.mark.parametrize("cell", first(CELLS))
def test_a_masked_step_is_skipped(cell):
    """Compares with a loop over the real steps of each row; the mask has holes anywhere, and one row has no step."""
    model = Recurrent(cell, D, bidirectional=True)
    variables, carry, x = variables_of(model), random_carry(model), draw(B, T, D_IN)
    mask = np.random.default_rng(2).random((B, T)) < 0.6
    mask[3] = False
    y, last = jax.jit(model.apply)(variables, np.where(mask[..., None], x, np.inf), carry, mask=mask)
    for b in range(B):
        row = x[b, mask[b]]
        for k, (name, order) in enumerate([("layer_0", slice(None)), ("layer_0_reverse", slice(None, None, -1))]):
            hs, end = loop(cell, variables["params"][name], row[order], [s[b] for s in carry[k]])
            assert_close(y[b, mask[b], k * D : (k + 1) * D], hs[order])
            assert_close(tuple(s[b] for s in last[k]), end)
    np.testing.assert_array_equal(np.asarray(y)[~mask], 0)


def plain(*arguments):
    """`unroll` with the gradient of autodiff."""
    last, states, _ = scan(*arguments)
    return states[0], last


@pytest.mark.parametrize(
    ("cell", "reverse"), first([("lstm", True), ("rnn", False), ("gru", True), ("lstm", False)], 2)
)
def test_gradient_over_time_is_that_of_the_plain_scan(cell, reverse):
    cell, gates = CELLS[cell], GATES[cell]
    state = tuple(draw(B, D, seed=2 + i) for i in range(cell.states))
    arguments = (draw(T, B, gates * D), draw(D, gates * D) / 3, draw(1, gates * D, seed=1), state)
    real = np.random.default_rng(0).random((T, B, 1)) < 0.7

    def gradients(unroll):
        def loss(arguments, real):
            h, last = unroll(cell, reverse, *arguments, real)
            return (h * draw(T, B, D, seed=5)).sum() + sum((leaf * draw(B, D, seed=6)).sum() for leaf in last)

        no_bias = (*arguments[:2], None, state)
        return [jax.grad(loss)(arguments, real), jax.grad(loss)(arguments, None), jax.grad(loss)(no_bias, None)]

    assert_close(*(jax.jit(gradients, static_argnums=0)(f) for f in (unroll, plain)))


@pytest.mark.claims
def test_second_derivatives_in_reverse_mode_only():
    zx, kernel, state = draw(3, 2, 4), draw(1, 4), (draw(2, 1), draw(2, 1, seed=1))

    def loss(unroll):
        return lambda kernel: (unroll(CELLS["lstm"], False, zx, kernel, None, state, None)[0] ** 2).sum()

    assert_close(*(jax.jit(jax.jacrev(jax.grad(loss(f))))(kernel) for f in (unroll, plain)))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(loss(unroll), (kernel,), (kernel,))


@pytest.mark.claims
def test_without_jit_and_with_vmap():
    model = Recurrent("rnn", D)
    x, mask = draw(2, 3, D_IN), np.array([[1, 1, 1], [1, 1, 0]])
    both = jax.tree.map(lambda a: np.stack([a, a[::-1]]), variables_of(model))
    gradient = jax.grad(lambda variables, x: (model.apply(variables, x, mask=mask)[0] ** 2).mean(), (0, 1))
    first, second = (jax.tree.map(lambda a: a[i], both) for i in range(2))
    jitted = jax.jit(gradient)
    expected = jitted(first, x)
    with jax.disable_jit():
        assert_close(gradient(first, x), expected)
    together = jax.jit(jax.vmap(gradient, (0, None)))(both, x)
    assert_close(together, jax.tree.map(lambda *leaves: np.stack(leaves), expected, jitted(second, x)))


@pytest.mark.parametrize("cell", first(CELLS))
def test_calls_that_pass_on_the_carry_equal_one_call(cell):
    model = Recurrent(cell, D, layers=2)
    variables, x, start = variables_of(model), draw(B, T, D_IN), random_carry(model)
    mask = np.arange(T) < LENGTHS[:, None]
    apply = jax.jit(model.apply)
    whole, last = apply(variables, x, start, mask=mask)
    outputs, carry = [], start
    for part in (slice(0, 3), slice(3, 4), slice(4, T)):
        y, carry = apply(variables, x[:, part], carry, mask=mask[:, part])
        outputs.append(y)
    assert_close((jnp.concatenate(outputs, 1), carry), (whole, last))
    assert jax.tree.structure(carry) == jax.tree.structure(start)


def test_defaults_are_a_zero_carry_and_no_mask():
    model = Recurrent("lstm", D, bidirectional=True)
    variables, x, zeros = variables_of(model), draw(B, T, D_IN), model.initial_carry(B)
    assert jax.tree.map(np.shape, zeros) == (((B, D), (B, D)),) * 2
    assert not any(leaf.any() for leaf in jax.tree.leaves(zeros))
    jax.jit(lambda carry: carry, donate_argnums=0)(model.initial_carry(B))
    expected = jax.jit(model.apply)(variables, x, zeros, mask=np.ones((B, T), np.float32))
    assert_close(jax.jit(model.apply)(variables, x), expected)


@pytest.mark.parametrize("cell", CELLS)
def test_dtypes(cell):
    model = Recurrent(cell, D)
    half = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), tree)
    variables, x, carry = half(variables_of(model)), half(draw(B, T, D_IN)), half(model.initial_carry(B))

    def gradient(variables, x, carry):
        return jax.grad(lambda v: model.apply(v, x, carry)[0].sum())(variables), model.apply(variables, x, carry)

    dtypes = lambda tree: {leaf.dtype.name for leaf in jax.tree.leaves(tree)}
    for start, expected in ((None, "float32"), (carry, "bfloat16")):
        grads, result = jax.eval_shape(gradient, variables, x, start)
        assert dtypes(grads) == {"bfloat16"}
        assert dtypes(result) == {expected}


def test_dropout_is_between_layers_in_training():
    width, rate = 23, 0.3
    model, one = Recurrent("rnn", width, layers=2, dropout=rate), Recurrent("rnn", width, dropout=rate)
    x = draw(29, T, D_IN)
    # The second layer is tanh of its input, so that its outputs show the dropout between the layers.
    tanh = {"kernel": np.eye(width), "recurrent_kernel": np.zeros((width, width)), "bias": np.zeros(width)}
    below = variables_of(one)["params"]["layer_0"]
    variables = {"params": {"layer_0": below, "layer_1": jax.tree.map(np.float32, tanh)}}
    h, _ = jax.jit(one.apply)({"params": {"layer_0": below}}, x)

    @jax.jit
    def train(seed):
        return model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(seed)})[0]

    y = np.asarray(train(0))
    kept = y != 0
    np.testing.assert_allclose(y[kept], np.tanh(h[kept] / (1 - rate)), atol=1e-5)
    assert abs(kept.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / y.size) ** 0.5
    assert (kept[:, 0] != kept[:, 1]).any(), "each time has its own draw"
    np.testing.assert_array_equal(y, train(0))
    assert (y != train(1)).any()
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x)[0], np.tanh(h), atol=1e-5)
    # One layer has no dropout and needs no key.
    alone = jax.jit(lambda: one.apply({"params": {"layer_0": below}}, x, train=True)[0])
    np.testing.assert_allclose(alone(), h, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_number_of_parameters(cell):
    def count(**fields):
        params = jax.eval_shape(Recurrent(cell, D, **fields).init, jax.random.key(0), jnp.zeros((1, 1, D_IN)))
        return sum(p.size for p in jax.tree.leaves(params))

    def layer(D_in):
        return GATES[cell] * D * (D_in + D + 1) + (D if cell == "gru" else 0)

    assert count() == layer(D_IN) == {"rnn": 165, "gru": 506, "lstm": 660}[cell]
    assert count(layers=3) == layer(D_IN) + 2 * layer(D)
    assert count(layers=2, bidirectional=True) == 2 * layer(D_IN) + 2 * layer(2 * D)


@pytest.mark.parametrize("cell", first(CELLS))
def test_initialisation(cell):
    D, D_in = 37, 19
    x = jnp.zeros((1, 1, D_in))
    p = jax.jit(Recurrent(cell, D).init)(jax.random.key(0), x)["params"]["layer_0"]
    bound = (6 / (D_in + D)) ** 0.5  # of each gate alone
    assert 0.98 * bound < abs(p["kernel"]).max() <= bound
    for gate in np.split(p["recurrent_kernel"], GATES[cell], -1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(D), atol=1e-5)
    assert len(np.unique(p["recurrent_kernel"][0])) == GATES[cell] * D, "each gate has its own draw"
    np.testing.assert_array_equal(p["bias"], np.repeat([0, 1, 0, 0], D) if cell == "lstm" else 0)
    assert not np.any(p.get("recurrent_bias", 0))

    p = jax.jit(Recurrent(cell, D, **TORCH_RECURRENT).init)(jax.random.key(0), x)["params"]["layer_0"]
    for leaf in map(np.asarray, p.values()):
        assert 0.8 * D**-0.5 < abs(leaf).max() <= D**-0.5
        assert abs(leaf.mean()) < 4 * D**-0.5 / (3 * leaf.size) ** 0.5
        assert (leaf != 0).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cell": "LSTM"}, "cell .*rnn, gru, lstm.*'LSTM'"),
        ({"cell": "gru", "layers": 0}, "layers .* 0"),
        ({"cell": "gru", "dropout": 1.0}, r"dropout .*1\.0"),
        ({"cell": "gru", "dropout": -0.1}, r"dropout .*-0\.1"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(features=D, **fields).init(jax.random.key(0), draw(B, T, D_IN))


def test_bad_arguments():
    model = Recurrent("gru", D)
    variables = variables_of(model)
    for x, options in [
        (draw(B, D_IN), {}),
        (draw(B, T, D_IN), {"mask": np.ones((T, B))}),
        (draw(B, T, D_IN), {"carry": Recurrent("lstm", D).initial_carry(B)}),
        (draw(B, T, D_IN), {"carry": model.initial_carry(1)}),
    ]:
        with pytest.raises(AssertionError):
            model.apply(variables, x, **options)
