"""Every experiment enters these tests by existing; a study, which has no `build`, enters those that need none."""

import dataclasses
import importlib
import math
import pkgutil

import jax
import numpy as np
import pytest
from absl import flags as absl_flags

import experiments
from experiments.__main__ import summaries
from jaxdl.run import fit
from jaxdl.run.feed import Feed
from jaxdl.run.flags import help_text, parse
from jaxdl.run.parallel import make_mesh
from tests.test_shapes_of_experiments import leaves

NAMES = sorted(m.name for m in pkgutil.iter_modules(experiments.__path__) if m.name[0] != "_")
REPRESENTATIVES = ("image_classifier", "linear_regression", "robust_regression")
LONG = [pytest.param(n, marks=() if n in REPRESENTATIVES else pytest.mark.full) for n in NAMES]
OP_BY_OP = [pytest.param(n, marks=() if "regression" in n else pytest.mark.full) for n in NAMES]  # slow for a deep net
QUIET = {"progress": False, "tensorboard": False, "devices": 1, "seeds": 1}

every = pytest.mark.parametrize("name", NAMES)
longer = pytest.mark.parametrize("name", LONG)


class Setting:
    """An experiment at its small scale: module, configuration, data, and the experiment itself."""

    def __init__(self, name, **changes):
        self.module = importlib.import_module(f"experiments.{name}")
        if not hasattr(self.module, "build"):
            pytest.skip(f"{name} is a study: it has no experiment of its own")
        self.config = self.module.Config(**{**self.module.SMALL, **QUIET, "epochs": None, "steps": 8, **changes})
        self.train, self.valid, self.test = self.module.data(self.config)
        feed = Feed(self.train, make_mesh(1))
        rows = jax.tree.map(lambda x: x[0], feed.rows(0, 0, 1))
        self.batch = feed.take(feed.arrays, rows)
        self.experiment = self.module.build(self.config, feed.example)

    def fit(self, **changes):
        config = dataclasses.replace(self.config, **changes)
        return fit(self.experiment, Data(self.train, self.valid, self.test), config)


def finite(tree):
    return all(np.isfinite(x).all() for x in leaves(tree).values() if x.dtype.kind == "f")


@every
def test_import_defines_no_flags(name):
    before = set(absl_flags.FLAGS)
    importlib.import_module(f"experiments.{name}")
    assert set(absl_flags.FLAGS) == before


@every
def test_flags_parse_and_teach(name):
    module = importlib.import_module(f"experiments.{name}")
    config = parse(module.Config, [])
    assert config == module.Config()
    assert module.Config(**module.SMALL)
    assert len(help_text(module.Config, module.__doc__, "x").splitlines()) > 60


@every
def test_docstring_is_complete(name):
    module = importlib.import_module(f"experiments.{name}")
    first = module.__doc__.splitlines()[0]
    assert 20 < len(first) <= 120
    assert first == summaries()[name]
    assert f"python -m experiments.{name}" in module.__doc__
    assert "Mission row" in module.__doc__
    assert module.main.__doc__


@every
def test_one_step(name):
    """Finite, traced twice the same program, and a loss that falls on a batch shown again.

    A step that drew from NumPy, or kept something in Python, would be another one when it is traced again.
    """
    setting = Setting(name)
    init, step = setting.experiment.init, setting.experiment.step
    state = jax.jit(init)(jax.random.key(0))
    assert finite(state)
    program = lambda: str(jax.make_jaxpr(lambda state, batch: step(state, batch))(state, setting.batch))
    assert program() == program()
    jitted = jax.jit(step)
    new, metrics = jitted(state, setting.batch)
    assert finite(new)
    for _ in range(30):
        new, last = jitted(new, setting.batch)
    assert last["loss"] < metrics["loss"]


@pytest.mark.parametrize("name", OP_BY_OP)
def test_a_step_is_the_same_without_jit(name):
    setting = Setting(name)
    state = jax.jit(setting.experiment.init)(jax.random.key(0))
    compiled = jax.jit(setting.experiment.step)(state, setting.batch)
    with jax.disable_jit():
        plain = leaves(setting.experiment.step(state, setting.batch))
    for path, value in leaves(compiled).items():
        np.testing.assert_allclose(value, plain[path], rtol=2e-4, atol=2e-5, err_msg=path)


@longer
def test_two_runs_and_resume_are_bitwise(name, tmp_path):
    setting = Setting(name)
    whole, again = setting.fit(), setting.fit()
    setting.fit(workdir=str(tmp_path), steps=4)
    resumed = setting.fit(workdir=str(tmp_path))
    other = setting.fit(seed=1)
    for run in (again, resumed):
        for path, value in leaves(whole.state).items():
            np.testing.assert_array_equal(leaves(run.state)[path], value, err_msg=path)
    assert resumed.metrics == whole.metrics
    assert any((leaves(other.state)[path] != value).any() for path, value in leaves(whole.state).items())


@longer
@pytest.mark.parametrize(("parallel", "devices"), [("jit", 8), ("pmap", 8)])
def test_one_and_eight_devices_agree(name, parallel, devices):
    """Under SGD, because Adam turns the rounding noise of a vanishing gradient into whole steps."""
    size = importlib.import_module(f"experiments.{name}").Config().batch_size
    setting = Setting(name, optimizer="sgd", batch_size=math.ceil(size / 8) * 8, log_every=1, steps=3)
    one, many = setting.fit(), setting.fit(parallel=parallel, devices=devices)
    assert one.curve("train/loss")[1] == pytest.approx(many.curve("train/loss")[1], rel=1e-4)
    assert one.metrics == pytest.approx(many.metrics, rel=1e-3, abs=1e-5)


@longer
def test_claims_at_small_scale(name, tmp_path):
    """What was measured held or not as expected; what was not says so and how to measure it."""
    module = importlib.import_module(f"experiments.{name}")
    claims = module.main(
        module.Config(**module.SMALL, progress=False, tensorboard=False, devices=1, workdir=str(tmp_path))
    )
    assert claims
    for claim in claims:
        assert claim.row
        assert claim.claim
        if claim.holds is None:
            assert claim.measured == "not measured"
            assert claim.command.startswith(("python -m experiments.", "pip install "))
        else:
            assert bool(claim.holds) == claim.expected, claim
    assert any(claim.holds is not None for claim in claims)
    assert list(tmp_path.glob("**/*.png"))
