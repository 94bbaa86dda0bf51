"""Tests of every experiment, found automatically; a study, which has no `build`, skips those that need one."""

import ast
import importlib
import inspect
import json
import math
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags as absl_flags

from experiments.__main__ import listing
from jaxdl.extras import EXTRAS, absent
from jaxdl.run import Study, Trainable, Usable, findings, fit
from jaxdl.run.command.flags import help_text, parse
from jaxdl.run.engine.feed import Feed
from jaxdl.run.engine.parallel import make_mesh
from tests.test_shapes_of_experiments import leaves

ROOT = Path(__file__).parents[1]
NAMES = list(listing())
REPRESENTATIVES = ("image_classifier", "linear_regression", "robust_regression")
LONG = [pytest.param(n, marks=() if n in REPRESENTATIVES else pytest.mark.full) for n in NAMES]
OP_BY_OP = [pytest.param(n, marks=() if "regression" in n else pytest.mark.full) for n in NAMES]  # slow for a deep net
QUIET = {"progress": False, "tensorboard": False, "devices": 1, "seeds": 1}
NUMBER = re.compile(r"(?<![\w^-])\d")  # except in names such as L1, z_1, LeNet-5

every = pytest.mark.parametrize("name", NAMES)
longer = pytest.mark.parametrize("name", LONG)


def module_of(name: str) -> Study:
    """Imports an experiment; mypy checks it against the contract."""
    module: Study = importlib.import_module(f"experiments.{name}")  # type: ignore[assignment]
    return module


def recorded(name: str) -> set[str]:
    """Returns the claims of an experiment that a recorded command has measured."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "docs/claims").glob("*.json")]
    return {claim for record in records if record["experiment"] == name for claim in record["claims"]}


class Setting:
    """An experiment at its small scale: module, configuration, data, and the experiment itself."""

    def __init__(self, name, **changes):
        self.module = module_of(name)
        if not hasattr(self.module, "build"):
            pytest.skip(f"{name} is a study: it has no experiment of its own")
        self.config = self.module.Config(**{**self.module.SMALL, **QUIET, "epochs": None, "steps": 8, **changes})
        self.data = self.module.data(self.config)
        feed = Feed(self.data.train, make_mesh(1))
        rows = jax.tree.map(lambda x: x[0], feed.rows(0, 0, 1))
        self.batch = feed.take(feed.arrays, rows)
        self.experiment = self.module.build(self.config, self.data)

    def fit(self, **changes):
        return fit(self.experiment, self.data, self.config, **changes)


def finite(tree):
    return all(np.isfinite(x).all() for x in leaves(tree).values() if x.dtype.kind == "f")


@every
def test_import_defines_no_flags(name):
    before = set(absl_flags.FLAGS)
    importlib.import_module(f"experiments.{name}")
    assert set(absl_flags.FLAGS) == before


@every
def test_flags_parse_and_teach(name):
    module = module_of(name)
    config = parse(module.Config, [])
    assert config == module.Config()
    assert module.Config(**module.SMALL)
    assert len(help_text(module.Config, module.__doc__, "x").splitlines()) > 60


@every
def test_the_contract_is_kept(name):
    module = module_of(name)
    assert isinstance(module, Study)
    assert not hasattr(module, "build") or isinstance(module, Trainable)
    assert not hasattr(module, "inference") or isinstance(module, Usable)
    functions = [(module.data, 1), (module.report, 2), *((getattr(module, f, None), 2) for f in ("build", "inference"))]
    for function, count in functions:
        if function is not None:
            needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
            assert len(needed) == count, function


@every
def test_docstring_is_complete(name):
    module = module_of(name)
    first = module.__doc__.splitlines()[0]
    assert 20 < len(first) <= 120
    assert (module.FAMILY, first) == listing()[name]
    assert f"python -m experiments.{name}" in module.__doc__
    assert module.report.__doc__


@every
def test_claims_have_rows_and_texts_without_numbers(name):
    """Measured numbers and limits belong in quantities: a text with numbers would change with the run."""
    rows = {line.partition("\t")[0] for line in (ROOT / "docs/mission.tsv").read_text(encoding="utf-8").splitlines()}
    claims = module_of(name).CLAIMS
    assert claims
    assert any(claim.headline for claim in claims.values())
    for key, claim in claims.items():
        assert re.fullmatch(r"[a-z]\w*", key), key
        assert not NUMBER.search(claim.text), claim.text
        assert re.fullmatch(r"[A-Z].*[^.]", claim.text), claim.text
        assert set(claim.rows.split()) <= rows
        for need in claim.needs.split():
            extra = need.removeprefix("extra:")
            assert need in ("gpu", "hours") or re.fullmatch(r"files:\w+", need) or extra in EXTRAS, need


@every
def test_a_claim_that_the_tests_cannot_measure_is_recorded(name):
    """A claim that needs files or hours has a record."""
    beyond = {key for key, claim in module_of(name).CLAIMS.items() if re.search("files|hours", claim.needs)}
    assert beyond <= recorded(name)


@every
def test_an_experiment_imports_no_more_of_another_than_it_offers(name):
    """Only Config, data, build and fitted may be imported; shared code belongs in the library."""
    offered = {"Config", "data", "build", "fitted"}
    root = ROOT / "experiments"
    for path in [root / f"{name}.py", *(root / name).glob("*.py")]:
        if not path.exists():
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        others = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "experiments":
                others |= {alias.asname or alias.name for alias in node.names} - {name}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("experiments."):
                assert node.module.split(".")[1] == name or {a.name for a in node.names} <= offered, ast.unparse(node)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in others:
                assert node.attr in offered, f"{path.name}: {ast.unparse(node)}"


def test_the_folder_holds_only_experiments():
    names = {path.stem for path in (ROOT / "experiments").iterdir() if path.stem != "__pycache__"}
    assert names == {*NAMES, "__init__", "__main__"}


@every
def test_one_step(name):
    """The step is finite, traces to the same program twice, and lowers the loss of a repeated batch.

    A step that draws from NumPy or keeps state in Python would trace to another program.
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
    """Uses SGD, because Adam turns the rounding noise of a vanishing gradient into full steps."""
    size = module_of(name).Config().batch_size
    setting = Setting(name, optimizer="sgd", batch_size=math.ceil(size / 8) * 8, log_every=1, steps=3)
    one, many = setting.fit(), setting.fit(parallel=parallel, devices=devices)
    assert one.curve("train/loss")[1] == pytest.approx(many.curve("train/loss")[1], rel=1e-4)
    assert one.metrics == pytest.approx(many.metrics, rel=1e-3, abs=1e-5)


@longer
def test_claims_at_small_scale(name, tmp_path):
    """A measured claim holds, or fails as expected; an unmeasured claim names its reason or command."""
    module = module_of(name)
    config = module.Config(
        **{"progress": False, "tensorboard": False, "devices": 1, **module.SMALL}, workdir=str(tmp_path)
    )
    found = findings(module, config)
    assert [one.name for one in found] == list(module.CLAIMS)
    assert any(one.holds is not None for one in found)
    for one in found:
        if one.holds is None:
            assert one.command.startswith(("python -m experiments.", "./launch.sh "))
            assert one.claim.needs == "gpu" or one.name in recorded(name)
            wanted = [need.removeprefix("extra:") for need in one.claim.needs.split() if need.startswith("extra:")]
            assert not wanted or any(absent(extra) for extra in wanted)
        else:
            assert one.holds != bool(one.claim.fails), one
    assert list(tmp_path.glob("**/*.png"))
