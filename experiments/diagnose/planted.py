"""Small training runs with one planted fault each: networks, data and the faults."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from jaxdl.data import Batches, Data, load_images, pixels01, shuffled
from jaxdl.data.batches import take_rows
from jaxdl.methods import diagnosis as d
from jaxdl.nn import CNN, MLP

Part = dict[str, np.ndarray]
STEPS, FEW = 300, 48
SIZES = {"train": 0.5, "valid": 0.25, "test": 0.25}


class Residual(nn.Module):
    """Dense layer, k blocks h <- h + W relu(V norm(h)), layer norm, dense layer.

    stop: no gradient reaches the layers before the last one.
    """

    blocks: int = 1
    width: int = 64
    classes: int = 3
    kernel_init: Any = nn.initializers.lecun_uniform()
    bias_init: Any = nn.initializers.zeros
    stop: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns logits [B, N] for x [B, ...]."""
        dense = lambda width: nn.Dense(width, kernel_init=self.kernel_init, bias_init=self.bias_init)
        h = dense(self.width)(x.reshape(len(x), -1))
        for _ in range(self.blocks):
            h = h + dense(self.width)(nn.relu(dense(self.width)(nn.LayerNorm()(h))))
        h = nn.LayerNorm()(h)
        return dense(self.classes)(lax.stop_gradient(h) if self.stop else h)


class Setting(NamedTuple):
    """A data set, an architecture, and flags with which it trains well in STEPS steps.

    rows: seed -> all rows in random order. net: hidden width or None, deep, stop, classes, other fields -> network.
    frozen: regular expression of all parameters but the last bias.
    """

    rows: Callable[[int], Part]
    net: Callable[..., nn.Module]
    frozen: str
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


def stopped(x: Array) -> Array:
    """Returns relu(x) without its gradient."""
    return lax.stop_gradient(nn.relu(x))


def perceptron(hidden: tuple[int, ...], classes: int, stop: bool = False, **fields: Any) -> nn.Module:
    """Returns an MLP; with `stop` no gradient reaches its hidden layers."""
    return MLP((*hidden, classes), **fields | ({"activation": stopped} if stop else {}))


def mlp(width: int | None = None, deep: bool = False, **fields: Any) -> nn.Module:
    """Returns an MLP 64-64; or with one hidden layer of `width`, none for 0; or with six of 32."""
    hidden = (64, 64) if width is None else (width,) * bool(width)
    return perceptron((32,) * 6 if deep else hidden, **fields)


def convolutional(width: int | None = None, deep: bool = False, stop: bool = False, **fields: Any) -> nn.Module:
    """Returns a CNN 8-16-64; or with one channel and `width` units, linear for 0; or an MLP with six layers."""
    if width == 0 or deep:
        return mlp(width, deep, **fields)
    features, units = ((8, 16), 64) if width is None else ((width,), width)
    return CNN(features, units, **fields | ({"activation": stopped} if stop else {}))


def residual(width: int | None = None, deep: bool = False, **fields: Any) -> nn.Module:
    """Returns a residual network with layer norm; or an MLP as `mlp`."""
    return Residual(**fields) if width is None and not deep else mlp(width, deep, **fields)


ADAM: dict[str, Any] = {"optimizer": "adam", "batch_size": 64}
SGD: dict[str, Any] = {"optimizer": "momentum", "batch_size": 64}
DENSE, COSINE = "kernel|Dense_[01]/", {"learning_rate": 0.05, "schedule": "cosine"}
SETTINGS = {
    # the thresholds were set on these
    "mlp_digits": Setting(images, mlp, DENSE, SGD | {"learning_rate": 0.05}),
    "mlp_spirals": Setting(spirals, mlp, DENSE, ADAM | {"learning_rate": 1e-2}),
    # and these test them
    "cnn_digits": Setting(images, convolutional, "kernel|Conv|Dense_0/", ADAM | {"learning_rate": 1e-2}),
    "residual_spirals": Setting(spirals, residual, "kernel|Norm|Dense_[012]/", SGD | COSINE),
}


class Fault(NamedTuple):
    """A planted fault. named: its diagnosis. rate, steps: factors of the setting's. net: fields of the network."""

    named: str
    flags: dict[str, Any] = {}
    rate: float = 1.0
    steps: float = 1.0
    net: dict[str, Any] = {}


class Weights(NamedTuple):
    """An initialiser: scale times LeCun's uniform, plus shift.

    The numbers are arrays, so they are arguments and not constants of the compiled program, which all runs share.
    """

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, key: Any, shape: Any, dtype: Any = jnp.float32) -> Array:
        """Returns the initial kernel, or a constant bias for one dimension."""
        with jax.ensure_compile_time_eval():
            scale, shift = jnp.asarray(self.scale, dtype), jnp.asarray(self.shift, dtype)
        if len(shape) == 1:
            return jnp.zeros(shape, dtype) + shift
        bound = (3 / math.prod(shape[:-1])) ** 0.5
        drawn = jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound)  # compiles faster than in its shape
        return scale * drawn.reshape(shape) + shift


HEALTHY, FROZEN = "healthy", "the setting's"
FAULTS = {
    "linear_model": Fault(d.MODEL_BIAS, net={"width": 0}),
    "one_hidden_unit": Fault(d.MODEL_BIAS, net={"width": 1, "activation": nn.tanh}),
    "few_steps": Fault(d.OPTIMISATION, steps=1 / 30),
    "schedule_ends_early": Fault(d.OPTIMISATION, {"schedule": "step", "decay_every": 8, "decay_rate": 0.01}),
    "few_noisy_rows": Fault(d.OVERFITTING, steps=4),
    "test_inverted": Fault(d.MISMATCH),
    "test_noised": Fault(d.MISMATCH),
    "rate_x3000": Fault(d.RATE_HIGH, rate=3000),
    "rate_x100": Fault(d.RATE_HIGH, rate=100),
    "rate_x0.001": Fault(d.RATE_LOW, rate=1e-3),
    "dead_relus": Fault(d.DEAD, net={"bias_init": Weights(shift=-20.0)}),
    "labels_shuffled": Fault(d.LABELS),
    "inputs_x1000": Fault(d.SCALES),
    "columns_x1000": Fault(d.SCALES),
    "stop_gradient": Fault(d.GRADIENT, net={"stop": True}),
    "frozen_layers": Fault(d.GRADIENT, {"freeze": FROZEN}),
    "zero_weights": Fault(d.EQUAL, net={"kernel_init": Weights(0.0)}),
    "constant_weights": Fault(d.EQUAL, net={"kernel_init": Weights(0.0, 0.05)}),
    "large_weights": Fault(d.INITIAL, net={"kernel_init": Weights(40.0)}),
    "deep_sigmoids": Fault(d.VANISHING, net={"deep": True, "activation": nn.sigmoid}),
}
KINDS = (HEALTHY, *FAULTS)


def like(kind: str, initial: bool = False) -> str:
    """Returns a kind whose steps are the same program, or with `initial` whose initial state is drawn alike."""
    fault = FAULTS.get(kind, Fault(""))
    own = "freeze" in fault.flags or (bool(fault.net) if initial else bool({"width", "deep", "stop"} & set(fault.net)))
    return kind if own else HEALTHY


def network(setting: str, kind: str, classes: int) -> nn.Module:
    """Returns the network of a setting with the planted fault."""
    fields = {"kernel_init": Weights(), "bias_init": Weights()} | (FAULTS[kind].net if kind in FAULTS else {})
    return SETTINGS[setting].net(classes=classes, **fields)


def changes(setting: str, kind: str, steps: int) -> dict[str, Any]:
    """Returns the flags of a setting with the planted fault, for a run of `steps` steps without one."""
    fault, flags = FAULTS.get(kind, Fault("")), SETTINGS[setting].flags
    frozen: dict[str, Any] = {"freeze": SETTINGS[setting].frozen} if "freeze" in fault.flags else {}
    frozen |= {"steps": max(1, round(steps * fault.steps))}
    return flags | fault.flags | frozen | {"learning_rate": flags["learning_rate"] * fault.rate}


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
    cut = [{name: x[a:b] for name, x in rows.items()} for a, b in itertools.pairwise(ends)]
    train, valid, test = cut
    if kind == "few_noisy_rows":
        wrong = np.arange(len(train["y"])) % 10 < 3
        other = (train["y"] + random.integers(1, classes, size=len(wrong))) % classes
        train["y"] = np.where(wrong, other, train["y"]).astype(np.int32)
    if kind == "test_inverted":
        test["x"] = test["x"].max(0, keepdims=True).max() + test["x"].min() - test["x"]
    if kind == "test_noised":
        test["x"] = (test["x"] + random.normal(size=test["x"].shape) * 1.5 * test["x"].std()).astype(np.float32)
    few = FEW if kind == "few_noisy_rows" else len(train["y"])  # the others stay in memory: the program is the same
    batches = Batches(train, size, shuffled(few, size), take=take_rows, length=few)
    return Data(batches, Batches(valid, 256), Batches(test, 256), facts={"classes": classes})
