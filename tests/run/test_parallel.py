"""Parameters split over devices, rematerialised blocks, and bfloat16."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from experiments import image_classifier, language_model
from jaxdl.core import Learner, cast, make_update
from jaxdl.data import Data, load_text, windows
from jaxdl.losses import softmax_cross_entropy
from jaxdl.nn import GPT, ResNet
from jaxdl.run import FlagError, fit
from jaxdl.run.engine.parallel import LEAST, make_mesh, place_state, shardings
from jaxdl.supervision import supervised

CONFIG = language_model.Config(
    parameters=60_000, layers=1, context=8, batch_size=8, steps=11, optimizer="sgd", learning_rate=0.3,
    schedule="constant", warmup=0, weight_decay=0.0, progress=False, tensorboard=False, eval_every=11,
)  # fmt: skip


@pytest.fixture(scope="module")
def text():
    """Windows of a short text."""
    whole = load_text()
    T, B = CONFIG.context, CONFIG.batch_size
    valid, test = (windows(part[:1009], T, B, stride=T) for part in (whole.valid, whole.test))
    return Data(windows(whole.train[:5003], T, B), valid, test, facts={"vocabulary": whole.vocabulary})


def trained(config, parts):
    return fit(language_model.build(config, parts), parts, config)


@pytest.fixture(scope="module")
def one(text):
    """The result on one device."""
    return trained(dataclasses.replace(CONFIG, devices=1), text)


def test_fsdp_keeps_an_eighth_of_the_state_on_each_device(text):
    config = dataclasses.replace(CONFIG, optimizer="adam", features=64, parameters=200_000)
    experiment = language_model.build(config, text)
    mesh, state = make_mesh(8), jax.jit(experiment.init)(jax.random.key(0))
    held = {}
    for parallel in ("jit", "fsdp"):
        placed = place_state(state, mesh, parallel).learner
        shards = [s for x in jax.tree.leaves(placed) for s in x.addressable_shards]
        held[parallel] = [sum(s.data.nbytes for s in shards if s.device == device) for device in mesh.devices.flat]
    whole = sum(x.nbytes for x in jax.tree.leaves(state.learner))
    assert held["jit"] == [whole] * 8
    small = sum(
        x.nbytes for x in jax.tree.leaves(state.learner) if x.size < LEAST or not any(n % 8 == 0 for n in x.shape)
    )
    assert held["fsdp"] == [small + (whole - small) // 8] * 8
    assert small < 0.1 * whole


def test_fsdp_splits_the_longest_axis_that_the_devices_divide():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Fields:
        wide: jax.Array
        odd: jax.Array
        small: jax.Array
        rows: jax.Array = dataclasses.field(metadata={"per_example": True})

    fields = Fields(jnp.ones((16, 3, 64)), jnp.ones((37, 101)), jnp.ones(8), jnp.ones((8, 3)))
    found = shardings(fields, make_mesh(8), "fsdp")
    assert (found.wide.spec, found.odd.spec, found.small.spec) == (P(None, None, "devices"), P(), P())
    assert found.rows.spec == P("devices")


@pytest.mark.claims
@pytest.mark.parametrize(("parallel", "devices"), [("fsdp", 2), ("pmap", 2), ("jit", 8), ("pmap", 8), ("fsdp", 8)])
def test_all_modes_train_alike(text, one, parallel, devices):
    many = trained(dataclasses.replace(CONFIG, parallel=parallel, devices=devices), text)
    assert many.metrics["loss"] == pytest.approx(one.metrics["loss"], rel=1e-5)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5)
    jax.tree.map(close, jax.device_get(many.state.learner.params), jax.device_get(one.state.learner.params))


@pytest.mark.claims
def test_fsdp_resumes_from_a_checkpoint_of_other_devices(text, tmp_path):
    config = dataclasses.replace(CONFIG, workdir=str(tmp_path), parallel="fsdp", checkpoint_every=5, eval_every=5)
    trained(dataclasses.replace(config, devices=8, steps=5), text)
    resumed = trained(dataclasses.replace(config, devices=2, steps=11), text)
    whole = trained(dataclasses.replace(CONFIG, devices=1, eval_every=5), text)
    assert resumed.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-5)
    assert [row["step"] for row in resumed.history if "valid/loss" in row] == [5, 10, 11]


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (GPT(13, 32, layers=3, heads=2, features=32), np.ones((5, 32), np.int32)),
        pytest.param(ResNet(8, 3, 5), np.ones((3, 16, 16, 3), np.float32), marks=pytest.mark.full),
    ],
)
@pytest.mark.claims
def test_remat_gives_the_same_gradient_from_fewer_numbers_kept(net, x):
    variables = jax.jit(net.init)(jax.random.key(0), x[:1])
    again = net.clone(remat=True)
    assert jax.tree.structure(jax.eval_shape(again.init, jax.random.key(0), x[:1])) == jax.tree.structure(variables)

    def gradient(net):
        def loss(variables):
            y, _ = net.apply(variables, x, True, mutable=["batch_stats"])
            return jnp.mean(jax.nn.log_softmax(y)[..., 0] ** 2)

        backward = jax.eval_shape(lambda variables: jax.vjp(loss, variables)[1], variables)
        kept = sum(a.size for a in jax.tree.leaves(backward)) - sum(a.size for a in jax.tree.leaves(variables))
        return jax.jit(jax.grad(loss))(variables), kept

    (plain, much), (anew, less) = gradient(net), gradient(again)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), anew, plain)
    assert less < 0.5 * much


def test_remat_is_refused_where_there_are_no_blocks():
    with pytest.raises(FlagError, match="--remat=true: has no effect with --cell=gru"):
        language_model.Config(cell="gru", remat=True)
    with pytest.raises(FlagError, match=r"--remat: .*--model=cnn"):
        image_classifier.Config(remat=True)
    config = image_classifier.Config(model="resnet20", remat=True, steps=1)
    example = {"x": np.zeros((2, 8, 8, 1), np.float32), "y": np.zeros(2, np.int32)}
    known = Data(example=example, facts={"names": ["a", "b"]})
    assert image_classifier.build(config, known).model.remat


@pytest.mark.claims
def test_bfloat16_computes_so_and_keeps_float32():
    batch = {
        "x": np.random.default_rng(0).normal(size=(7, 8, 8, 1)).astype(np.float32),
        "y": np.arange(7, dtype=np.int32),
    }
    loss = lambda logits, batch: softmax_cross_entropy(logits, batch["y"])
    make = lambda precision: supervised(
        ResNet(8, 11, 5), optax.sgd(0.1), example=batch, loss=loss, precision=precision
    )  # fmt: skip
    state = jax.jit(make("float32").init)(jax.random.key(0))
    text = str(jax.make_jaxpr(make("bfloat16").step)(state, batch))
    assert "bf16[7,8,8,5]" in text
    assert "bf16" not in str(jax.make_jaxpr(make("float32").step)(state, batch))
    assert "bf16" not in str(jax.make_jaxpr(make("bfloat16").evaluate)(state, batch | {"mask": np.ones(7, np.float32)}))
    full, half = (jax.jit(make(p).step)(state, batch) for p in ("float32", "bfloat16"))
    assert jax.tree.map(lambda x: x.dtype, half[0]) == jax.tree.map(lambda x: x.dtype, full[0])
    assert half[1]["loss"].dtype == jnp.float32
    assert float(half[1]["loss"]) == pytest.approx(float(full[1]["loss"]), rel=2e-2)
    difference = lambda a, b: float(jnp.linalg.norm((a - b).ravel()))
    size = [
        sum(jax.tree.leaves(jax.tree.map(difference, s[0].learner.params, state.learner.params))) for s in (full, half)
    ]
    assert size[1] == pytest.approx(size[0], rel=0.1)


def test_rounded_leaves_integers_and_keys():
    tree = {"x": jnp.ones(3), "n": jnp.int32(2), "key": jax.random.key(0), "h": jnp.ones(2, jnp.float16)}
    found = cast(tree, "bfloat16")
    assert [found[name].dtype for name in ("x", "n", "h")] == [jnp.bfloat16, jnp.int32, jnp.float16]
    assert found["key"].dtype == tree["key"].dtype


def test_descend_in_bfloat16_has_float32_gradients():
    seen = {}

    def loss(w, x):
        seen["dtype"] = w.dtype
        return jnp.sum((w * x.astype(w.dtype)).astype(jnp.float32)), ()

    tx = optax.sgd(1.0)
    learner = Learner.create(jnp.ones(5), tx)
    learner, _ = make_update(loss, tx, precision="bfloat16")(learner, jnp.full(5, 1 + 2.0**-10))
    assert seen["dtype"] == jnp.bfloat16
    assert learner.params.dtype == jnp.float32
    np.testing.assert_array_equal(learner.params, np.zeros(5))  # 1 + 2^-10 is 1 in bfloat16
