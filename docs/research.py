"""Fine-tunes a finished run with an update rule, learning rates, data and a metric of your own.

python -m experiments.image_classifier --model=mlp --augment=none --seeds=1 --epochs=20 --workdir=runs/upright
python docs/research.py runs/upright
"""

import sys

import jax
import numpy as np
import optax

import jaxdl
from jaxdl import losses, metrics, optim
from jaxdl.data import Batches, Data, load_images

optim.RULES["sign_momentum"] = lambda n: optax.chain(optax.trace(n.momentum), optax.scale_by_sign())
digits = load_images("digits")
turned = {"x": np.rot90(digits.test["x"], axes=(1, 2)), "y": digits.test["y"]}


class Turned:
    """Any object with [t] is training data: here digits, rotated by 90 degrees in half of the batches."""

    def __getitem__(self, t):  # noqa: D105
        draw = np.random.default_rng(t)
        rows, angle = draw.integers(len(digits.train["y"]), size=64), draw.integers(2)
        return {"x": np.rot90(digits.train["x"][rows], angle, axes=(1, 2)).copy(), "y": digits.train["y"][rows]}


run = jaxdl.load(sys.argv[1])
tx = optim.optimizer("sign_momentum", optim.schedule("cosine", 1e-3, steps=600), rates="Dense_0:0.3", clip_norm=1.0)
train = Data(Turned(), test={"upright": Batches(digits.test, 360), "turned": Batches(turned, 360)})
loss = lambda logits, batch: losses.softmax_cross_entropy(logits, batch["y"])
top_2 = lambda logits, batch: {"top_2": metrics.top_k_accuracy(logits, batch["y"], 2)}
inputs = run.experiment.inputs  # the run's preprocessing of pixels
experiment = jaxdl.supervised(run.model, tx, example=train.example, inputs=inputs, loss=loss, metrics=top_2)
start = experiment.init(jax.random.key(0)).replace(learner=jaxdl.Learner.create(run.variables["params"], tx))
before, after = (jaxdl.fit(experiment, train, state=start, steps=n, progress=False).metrics for n in (0, 600))
print({name: f"{before[name]:.3f} -> {after[name]:.3f}" for name in before})
