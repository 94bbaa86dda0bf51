import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.nn import TORCH_RECURRENT, Recurrent
from jaxdl.nn.cells import CELLS, scan, unroll

B, T, D_IN, D = 5, 7, 3, 11
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
LENGTHS = np.array([7, 2, 5, 1, 3])


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def random_carry(model, seed=1):
    leaves, treedef = jax.tree.flatten(model.initial_carry(B))
    return treedef.unflatten([draw(*leaf.shape, seed=seed + i) for i, leaf in enumerate(leaves)])


def variables_of(model, D_in=D_IN):
    """As large as PyTorch's, with no bias at 0; drawn by NumPy, because an eager init takes a second."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, D_in)))
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda s: np.float32(generator.uniform(-1, 1, s.shape) * D**-0.5), shapes)


def assert_close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), actual, expected)


def torch_net(model, params):
    """PyTorch's module with these parameters, and a function from it to its gradients in a tree like params."""
    import torch

    kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[model.cell]
    net = kind(D_IN, D, model.layers, batch_first=True, bidirectional=model.bidirectional)
    suffix = {name: name.replace("layer_", "_l") for name in params}
    state = {}
    for name, p in params.items():
        part = draw(len(p["bias"]), seed=3)  # PyTorch's bias_hh, where only the sum of its two biases counts
        if "recurrent_bias" in p:
            part[2 * D :] = 0
        ih, hh = np.asarray(p["bias"]) - part, part.copy()
        if "recurrent_bias" in p:
            hh[2 * D :] = p["recurrent_bias"]
        values = {"weight_ih": p["kernel"].T, "weight_hh": p["recurrent_kernel"].T, "bias_ih": ih, "bias_hh": hh}
        state |= {key + suffix[name]: torch.tensor(np.array(value)) for key, value in values.items()}
    net.load_state_dict(state)

    def gradients():
        def of(name, p):
            ih, hh, b, bh = (
                getattr(net, key + suffix[name]).grad.numpy()
                for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            tree = {"kernel": ih.T, "recurrent_kernel": hh.T, "bias": b}
            return tree | ({"recurrent_bias": bh[2 * D :]} if "recurrent_bias" in p else {})

        return {name: of(name, p) for name, p in params.items()}

    return net, gradients


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("packed", [False, True])
def test_outputs_states_and_gradients_against_torch(cell, packed):
    """One layer of whole sequences; two layers and directions of packed ones, with a start and NaN in the padding."""
    torch = pytest.importorskip("torch")
    model = Recurrent(cell, D, layers=2, bidirectional=True) if packed else Recurrent(cell, D)
    params = variables_of(model)["params"]
    carry = random_carry(model)
    x, weights, state_weights = draw(B, T, D_IN), draw(B, T, 22 if packed else 11), random_carry(model, seed=11)
    mask = (np.arange(T) < LENGTHS[:, None]).astype(np.int32) if packed else None

    def loss(params, x, carry):
        y, last = model.apply({"params": params}, x, carry, mask=mask)
        return (y * weights).sum() + sum(
            jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), last, state_weights))
        ), (
            y,
            last,
        )

    padded = x if mask is None else np.where(mask[..., None], x, np.nan).astype(np.float32)
    (_, (y, last)), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(params, padded, carry)

    net, gradients = torch_net(model, params)
    tx = torch.tensor(x, requires_grad=True)
    start = [torch.tensor(np.stack(leaves), requires_grad=True) for leaves in zip(*carry, strict=True)]
    pack, unpack = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
    given = pack(tx, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False) if packed else tx
    ty, end = net(given, tuple(start) if cell == "lstm" else start[0])
    ty = unpack(ty, batch_first=True)[0] if packed else ty
    end = end if cell == "lstm" else (end,)
    total = (ty * torch.tensor(weights)).sum()
    for leaf, leaves in zip(end, zip(*state_weights, strict=True), strict=True):
        total = total + (leaf * torch.tensor(np.stack(leaves))).sum()
    total.backward()

    assert_close(y, ty.detach().numpy())
    assert_close(tuple(map(jnp.stack, zip(*last, strict=True))), tuple(leaf.detach().numpy() for leaf in end))
    assert_close(grads[0], gradients())
    assert_close(grads[1], tx.grad.numpy())
    assert_close(tuple(map(jnp.stack, zip(*grads[2], strict=True))), tuple(leaf.grad.numpy() for leaf in start))
    if packed:
        np.testing.assert_array_equal(np.asarray(y)[mask == 0], 0)


def loop(cell, p, x, state):
    """States [T, D] of one sequence x [T, D_in], one time after the other."""
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


@pytest.mark.parametrize("cell", CELLS)
def test_a_masked_step_does_not_happen(cell):
    """Against a loop over each row's real steps alone; the mask has holes anywhere, and one row has no step at all."""
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
    """What `unroll` does, with the gradient that autodiff makes of it."""
    last, states, _ = scan(*arguments)
    return states[0], last


@pytest.mark.parametrize(("cell", "reverse"), [("rnn", False), ("gru", True), ("lstm", False), ("lstm", True)])
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


def test_second_derivatives_by_reverse_mode_alone():
    zx, kernel, state = draw(3, 2, 4), draw(1, 4), (draw(2, 1), draw(2, 1, seed=1))

    def loss(unroll):
        return lambda kernel: (unroll(CELLS["lstm"], False, zx, kernel, None, state, None)[0] ** 2).sum()

    assert_close(*(jax.jit(jax.jacrev(jax.grad(loss(f))))(kernel) for f in (unroll, plain)))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(loss(unroll), (kernel,), (kernel,))


def test_without_jit_and_with_vmap():
    model = Recurrent("gru", D)
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


@pytest.mark.parametrize("cell", CELLS)
def test_carry_goes_on(cell):
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
    assert jax.tree.structure(carry) == jax.tree.structure(model.initial_carry(B))
    assert_close(apply(variables, x), apply(variables, x, model.initial_carry(B), mask=np.ones((B, T))))
    # Rows are independent of each other, so that a carry can be split over devices by its leading axis.
    assert_close(apply(variables, x[2:], jax.tree.map(lambda s: s[2:], start))[0], apply(variables, x, start)[0][2:])


def test_dropout_is_between_layers_in_training():
    width, rate = 23, 0.3
    model = Recurrent("rnn", width, layers=2, dropout=rate)
    x = draw(29, T, D_IN)
    params = model.init(jax.random.key(0), x)["params"]
    # The second layer is tanh of its input, so that its outputs show what the dropout between the layers did.
    params["layer_1"] |= {
        "kernel": np.eye(width, dtype=np.float32),
        "recurrent_kernel": np.zeros((width, width), np.float32),
    }
    h, _ = Recurrent("rnn", width).apply({"params": {"layer_0": params["layer_0"]}}, x)

    def train(seed):
        return model.apply({"params": params}, x, train=True, rngs={"dropout": jax.random.key(seed)})[0]

    y = np.asarray(train(0))
    kept = y != 0
    np.testing.assert_allclose(y[kept], np.tanh(h[kept] / (1 - rate)), atol=1e-5)
    assert abs(kept.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / y.size) ** 0.5
    assert (kept[:, 0] != kept[:, 1]).any(), "each time has its own draw"
    np.testing.assert_array_equal(y, train(0))
    assert (y != train(1)).any()
    np.testing.assert_allclose(model.apply({"params": params}, x)[0], np.tanh(h), atol=1e-5)
    # One layer has nothing to drop, and needs no key.
    one = {"params": {"layer_0": params["layer_0"]}}
    np.testing.assert_array_equal(Recurrent("rnn", width, dropout=rate).apply(one, x, train=True)[0], h)


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


@pytest.mark.parametrize("cell", CELLS)
def test_initialisation(cell):
    D, D_in = 37, 19
    x = jnp.zeros((1, 1, D_in))
    p = Recurrent(cell, D).init(jax.random.key(0), x)["params"]["layer_0"]
    bound = (6 / (D_in + D)) ** 0.5  # of each gate alone
    assert 0.98 * bound < abs(p["kernel"]).max() <= bound
    for gate in jnp.split(p["recurrent_kernel"], GATES[cell], -1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(D), atol=1e-5)
    assert len(np.unique(p["recurrent_kernel"][0])) == GATES[cell] * D, "each gate has its own draw"
    np.testing.assert_array_equal(p["bias"], np.repeat([0, 1, 0, 0], D) if cell == "lstm" else 0)
    assert not np.any(p.get("recurrent_bias", 0))

    p = Recurrent(cell, D, **TORCH_RECURRENT).init(jax.random.key(0), x)["params"]["layer_0"]
    for leaf in p.values():
        assert 0.8 * D**-0.5 < abs(leaf).max() <= D**-0.5
        assert abs(leaf.mean()) < 4 * D**-0.5 / (3 * leaf.size) ** 0.5
        assert (leaf != 0).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cell": "LSTM"}, "must be one of rnn, gru, lstm"),
        ({"cell": "gru", "layers": 0}, "layers is 0"),
        ({"cell": "gru", "dropout": 1.0}, "dropout is 1.0"),
        ({"cell": "gru", "dropout": -0.1}, "dropout is -0.1"),
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
