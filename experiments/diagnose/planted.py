"""Small training runs with one planted fault each: networks, data and the faults."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from jaxdl.data import Batches, Data, load_images, load_table, pixels01, standardize
from jaxdl.methods import diagnosis as d
from jaxdl.nn import CNN, MLP

Part = dict[str, np.ndarray]
STEPS = 300
SIZES = {"train": 0.5, "valid": 0.25, "test": 0.25}


class Residual(nn.Module):
    """Dense layer, k blocks h <- h + W relu(V norm(h)), layer norm, dense layer; plain: h <- relu(V h), no skips."""

    blocks: int = 2
    width: int = 32
    classes: int = 3
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Any = nn.initializers.lecun_normal()
    bias_init: Any = nn.initializers.zeros
    plain: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns logits [B, N] for x [B, ...]."""
        dense = lambda width: nn.Dense(width, kernel_init=self.kernel_init, bias_init=self.bias_init)
        h = dense(self.width)(x.reshape(len(x), -1))
        for _ in range(self.blocks):
            if self.plain:
                h = self.activation(dense(self.width)(h))
            else:
                h = h + dense(self.width)(self.activation(dense(self.width)(nn.LayerNorm()(h))))
        return dense(self.classes)(h if self.plain else nn.LayerNorm()(h))


class Setting(NamedTuple):
    """A data set, an architecture, and flags with which it trains well in STEPS steps."""

    rows: Callable[[int], Part]  # seed -> all rows in random order
    net: Callable[..., nn.Module]  # hidden width or None, deep, classes, other fields of the module -> network
    flags: dict[str, Any]


def images(seed: int) -> Part:
    """Returns the 1,797 digits, 0..1, in random order."""
    found = load_images("digits", valid=0)
    x, y = (np.concatenate([found.train[name], found.test[name]]) for name in "xy")
    order = np.random.default_rng(seed).permutation(len(y))
    return {"x": pixels01(x)[order].astype(np.float32), "y": y[order]}


def spirals(seed: int, count: int = 1800, arms: int = 3, noise: float = 0.03) -> Part:
    """Returns points on interleaved spirals, x [n, 2] with root mean square near 1, y: the arm."""
    random = np.random.default_rng(seed)
    y = random.integers(arms, size=count)
    t = np.sqrt(random.uniform(0.02, 1, size=count))
    angle = 2 * np.pi * (t + y / arms)
    x = 1.5 * t[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + noise * random.normal(size=(count, 2))
    return {"x": x.astype(np.float32), "y": y.astype(np.int32)}


def table(seed: int) -> Part:
    """Returns the 569 rows of breast_cancer in random order, standardised."""
    found = load_table("breast_cancer")
    order = np.random.default_rng(seed).permutation(len(found.y))
    (x,) = standardize(found.x)
    return {"x": x[order], "y": found.y[order]}


def dense(hidden: tuple[int, ...], classes: int, **fields: Any) -> nn.Module:
    """Returns an MLP."""
    return MLP((*hidden, classes), **fields)


def mlp(width: int | None = None, deep: bool = False, classes: int = 2, **fields: Any) -> nn.Module:
    """Returns an MLP 64-64; or with one hidden layer of `width`, of none for 0; or eight layers."""
    hidden = (64, 64) if width is None else (width,) * bool(width)
    return dense((32,) * 8 if deep else hidden, classes, **fields)


def convolutional(width: int | None = None, deep: bool = False, classes: int = 10, **fields: Any) -> nn.Module:
    """Returns a CNN 8-16-64; or one channel and `width` units; or a linear model; or a CNN with six dense layers."""
    if width == 0:
        return dense((), classes, **fields)
    if deep:
        return Deep(classes, **fields)
    return CNN((8, 16), 64, classes, **fields) if width is None else CNN((width,), width, classes, **fields)


class Deep(nn.Module):
    """One convolution and seven dense layers of 32 units."""

    classes: int
    activation: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns logits [B, N] for images [B, H, W, C]."""
        return MLP((32,) * 7 + (self.classes,), activation=self.activation)(self.activation(nn.Conv(8, (3, 3))(x)))


def residual(width: int | None = None, deep: bool = False, classes: int = 3, **fields: Any) -> nn.Module:
    """Returns a residual network with layer norm; with one hidden layer of `width`, linear for 0; or eight layers."""
    if width is not None:
        return dense((width,) * bool(width), classes, **fields)
    return Residual(8 if deep else 2, 32, classes, plain=deep, **fields)


ADAM: dict[str, Any] = {"optimizer": "adam", "batch_size": 64}
SGD: dict[str, Any] = {"optimizer": "momentum", "batch_size": 64}
SETTINGS = {
    # the thresholds were set on these
    "mlp_digits": Setting(images, mlp, SGD | {"learning_rate": 0.05}),
    "mlp_table": Setting(table, mlp, ADAM | {"learning_rate": 3e-3}),
    "mlp_spirals": Setting(spirals, mlp, ADAM | {"learning_rate": 1e-2}),
    # and these test them
    "cnn_digits": Setting(images, convolutional, ADAM | {"learning_rate": 3e-3}),
    "residual_spirals": Setting(spirals, residual, SGD | {"learning_rate": 0.05}),
}


class Fault(NamedTuple):
    """A planted fault. named: its diagnosis. rate: factor of the learning rate. net: fields of the network."""

    named: str
    flags: dict[str, Any] = {}
    rate: float = 1.0
    net: dict[str, Any] = {}


def stopped(x: Array) -> Array:
    """Returns relu(x) without its gradient."""
    return lax.stop_gradient(nn.relu(x))


constant = nn.initializers.constant
HEALTHY = "healthy"
FAULTS = {
    "linear_model": Fault(d.MODEL_BIAS, net={"width": 0}),
    "one_hidden_unit": Fault(d.MODEL_BIAS, net={"width": 1, "activation": nn.tanh}),
    "few_steps": Fault(d.OPTIMISATION, {"steps": 10}),
    "schedule_ends_early": Fault(d.OPTIMISATION, {"schedule": "step", "decay_every": 8, "decay_rate": 0.01}),
    "few_noisy_rows": Fault(d.OVERFITTING),
    "test_inverted": Fault(d.MISMATCH),
    "test_noised": Fault(d.MISMATCH),
    "rate_x1000": Fault(d.RATE_HIGH, rate=1000),
    "rate_x30": Fault(d.RATE_HIGH, rate=30),
    "rate_x0.001": Fault(d.RATE_LOW, rate=1e-3),
    "dead_relus": Fault(d.DEAD, net={"bias_init": constant(-20.0)}),
    "labels_shuffled": Fault(d.LABELS),
    "inputs_x1000": Fault(d.SCALES),
    "columns_x1000": Fault(d.SCALES),
    "stop_gradient": Fault(d.GRADIENT, net={"activation": stopped}),
    "frozen_layers": Fault(d.GRADIENT, {"freeze": "kernel"}),
    "zero_weights": Fault(d.EQUAL, net={"kernel_init": nn.initializers.zeros}),
    "constant_weights": Fault(d.EQUAL, net={"kernel_init": constant(0.05)}),
    "large_weights": Fault(d.INITIAL, net={"kernel_init": nn.initializers.normal(10.0)}),
    "deep_sigmoids": Fault(d.VANISHING, net={"deep": True, "activation": nn.sigmoid}),
}
KINDS = (HEALTHY, *FAULTS)


def like(kind: str, initial: bool = False) -> str:
    """Returns a kind whose steps are the same program, or with `initial` whose initial state is drawn alike."""
    fault = FAULTS.get(kind, Fault(""))
    own = "freeze" in fault.flags or (bool(fault.net) if initial else bool({"width", "deep", "activation"} & set(fault.net)))
    return kind if own else HEALTHY


def network(setting: str, kind: str, classes: int) -> nn.Module:
    """Returns the network of a setting with the planted fault."""
    fields = FAULTS[kind].net if kind in FAULTS else {}
    return SETTINGS[setting].net(classes=classes, **fields)


def changes(setting: str, kind: str) -> dict[str, Any]:
    """Returns the flags of a setting with the planted fault."""
    fault, flags = FAULTS.get(kind, Fault("")), SETTINGS[setting].flags
    return flags | fault.flags | {"learning_rate": flags["learning_rate"] * fault.rate}


def parts(setting: str, kind: str, seed: int, size: int) -> Data:
    """Returns the three parts of a setting with the planted fault: a half, a quarter and a quarter of the rows."""
    rows, random = SETTINGS[setting].rows(seed), np.random.default_rng((seed, 1))
    classes = int(rows["y"].max()) + 1
    if kind == "labels_shuffled":
        rows["y"] = random.permutation(rows["y"])
    if kind == "linear_model" and rows["x"].ndim == 4:  # a task that no linear model solves: either polarity
        sign = random.choice([-1, 1], size=(len(rows["y"]), 1, 1, 1)).astype(np.float32)
        rows["x"] = sign * (2 * rows["x"] - 1)
    if kind == "inputs_x1000":
        rows["x"] = 1000 * rows["x"]
    if kind == "columns_x1000":
        flat = rows["x"].reshape(len(rows["x"]), -1)
        factors = np.where(np.arange(flat.shape[1]) % 2, 1000, 1).astype(np.float32)
        rows["x"] = (flat * factors).reshape(rows["x"].shape)
    ends = np.cumsum([0, *(int(len(rows["y"]) * share) for share in SIZES.values())])
    cut = [{name: x[a:b] for name, x in rows.items()} for a, b in zip(ends[:-1], ends[1:], strict=True)]
    train, valid, test = cut
    if kind == "few_noisy_rows":
        train = {name: x[:48] for name, x in train.items()}
        wrong = random.random(48) < 0.2
        train["y"] = np.where(wrong, random.integers(classes, size=48), train["y"]).astype(np.int32)
    if kind == "test_inverted":
        test["x"] = test["x"].max(0, keepdims=True).max() + test["x"].min() - test["x"]
    if kind == "test_noised":
        test["x"] = (test["x"] + random.normal(size=test["x"].shape) * 1.5 * test["x"].std()).astype(np.float32)
    return Data(Batches(train, size), Batches(valid, 256), Batches(test, 256), facts={"classes": classes})
