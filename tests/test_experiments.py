"""Tests of every experiment, found automatically; a study, which has no `build`, skips those that need one."""

import ast
import importlib
import inspect
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags as absl_flags

from experiments.__main__ import listing
from jaxdl.extras import EXTRAS
from jaxdl.run import Study, Trainable, Usable, fit
from jaxdl.run.command.flags import help_text, parse
from jaxdl.run.engine.feed import Feed
from jaxdl.run.engine.parallel import make_mesh
from tests.test_shapes_of_experiments import leaves

ROOT = Path(__file__).parents[1]
NAMES = list(listing())
QUIET = {"progress": False, "tensorboard": False, "devices": 1, "seeds": 1}
NUMBER = re.compile(r"(?<![\w^-])\d")  # except in names such as L1, z_1, LeNet-5

every = pytest.mark.parametrize("name", NAMES)


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
        self.feed = Feed(self.data.train, make_mesh(1))
        self.experiment = self.module.build(self.config, self.data)

    def batch(self, t):
        return self.feed.take(self.feed.arrays, jax.tree.map(lambda x: x[0], self.feed.rows(0, t, 1)))

    def tested(self):
        """The first batch of a part on which it is evaluated, with its mask; None where it plays its own episodes."""
        part = next((p for p in (self.data.test, self.data.valid, self.data.train) if p is not None), None)
        part = next(iter(part.values())) if isinstance(part, dict) else part
        if part is None:
            return None
        rows, valid = next(part.in_order(self.config.batch_size))
        batch = dict(part.take(part.arrays, rows))
        return {"mask": valid} | batch

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
def test_three_steps(name):
    """The step traces to the same program twice; three steps, evaluation, summary and predictions are finite.

    A step that draws from NumPy or keeps state in Python would trace to another program.
    """
    setting = Setting(name)
    experiment, key = setting.experiment, jax.random.key(0)
    batches, tested = [setting.batch(t) for t in range(3)], setting.tested()
    abstract = jax.eval_shape(experiment.init, key)
    trace = lambda: jax.jit(lambda state, batch: experiment.step(state, batch)).trace(abstract, batches[0])
    traced = trace()
    assert str(traced.jaxpr) == str(trace().jaxpr)
    step, state = traced.lower().compile(), jax.jit(experiment.init)(key)
    for batch in batches:
        state, metrics = step(state, batch)
        assert finite(metrics)
        assert metrics["loss"].shape == ()
    assert finite(state)
    sums = jax.device_get(jax.jit(experiment.evaluate)(state, tested))
    assert np.isfinite(list(experiment.summarize(sums).values())).all()
    if experiment.predict is not None:
        outputs = jax.eval_shape(experiment.predict, state, tested)
        assert {x.shape[0] for x in jax.tree.leaves(outputs)} == {setting.config.batch_size}
