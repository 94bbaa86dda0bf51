"""Every experiment at its small scale. `-m claims`: its claims, and one and eight devices; for a few, killed and
stopped runs and seeds. `-m full`: those for all, the other ways of splitting, bfloat16, a step without jit.
"""

import json
import math

import jax
import numpy as np
import pytest

from experiments.__main__ import listing
from jaxdl.extras import absent
from tests.reliability.nursery import Nursery, quick_to_compile
from tests.test_experiments import Setting, module_of, recorded
from tests.test_shapes_of_experiments import leaves


def claims_of(*names):
    """Marks for `parametrize`: -m claims tries these experiments, -m full the others."""
    return [pytest.param(n, marks=pytest.mark.claims if n in names else pytest.mark.full) for n in listing()]


every = pytest.mark.parametrize("name", listing())
# seven networks take minutes, and smaller ones rank otherwise
commands = pytest.mark.parametrize("name", claims_of(*(n for n in listing() if n != "language_model_comparison")))
studies = pytest.mark.parametrize("name", claims_of("robust_regression", "tabular"))  # three runs of the whole report
NEVER = 10**9  # no run makes so many changes to the file system
TIMES = ("s", "ms", "times", "examples/s")  # units of what was timed
IMPORTS = ("matplotlib.pyplot", "scipy.stats", "sklearn.datasets", "sklearn.linear_model", "sklearn.svm")


@pytest.fixture(scope="module")
def nursery():
    """Commands without the time that imports take: one process imports all experiments, and forks."""
    made = Nursery(*IMPORTS, *(f"experiments.{name}" for name in listing()), devices=2, XLA_FLAGS=quick_to_compile())
    yield made
    made.close()


@pytest.fixture
def command(nursery, tmp_path):
    """command(name, place, kill_at, **flags): an experiment's command in a folder -> its exit status and its words."""

    def run(name, place, kill_at=NEVER, **flags):
        module, changes = f"experiments.{name}", {"progress": False, "tensorboard": False, "devices": 1, **flags}
        words = [f"--{flag}={value}" for flag, value in changes.items()] + [f"--workdir={tmp_path / place}"]
        process = nursery.start(words, tmp_path / f"{place}.txt", kill_at=kill_at, module=module)
        return process.wait(900), process.said()

    return run


def summary(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


@commands
def test_claims_at_small_scale(name, command, tmp_path):
    """What was measured holds, or fails where that is expected; what was not names its typed reason or its command."""
    module = module_of(name)
    status, said = command(name, "run", **module.SMALL)
    assert status == 0, said
    found = summary(tmp_path / "run")["claims"]
    assert [one["name"] for one in found] == list(module.CLAIMS)
    assert any(one["holds"] is not None for one in found)
    for one in found:
        claim = module.CLAIMS[one["name"]]
        if one["holds"] is None:
            assert one["command"].startswith(("python -m experiments.", "./launch.sh "))
            assert claim.needs == "gpu" or one["name"] in recorded(name)
            wanted = [need.removeprefix("extra:") for need in claim.needs.split() if need.startswith("extra:")]
            assert not wanted or any(absent(extra) for extra in wanted)
        else:
            assert one["holds"] != bool(claim.fails), one
    assert list((tmp_path / "run").glob("**/*.png"))


@studies
def test_killed_inside_a_study(name, command, tmp_path):
    """Killed half-way and started again, a short run of two seeds finds what one finds that was left alone."""
    flags = {name: value for name, value in module_of(name).SMALL.items() if name != "epochs"}
    flags |= {"steps": 16, "seeds": 2}
    status, said = command(name, "whole", **flags)
    assert status == 0, said
    status, ended = command(name, "again", int(said.rpartition("calls: ")[2]) // 2, **flags)
    assert status == -9, ended
    assert not (tmp_path / "again/summary.json").exists()
    status, said = command(name, "again", **flags)
    assert status == 0, said
    assert result(summary(tmp_path / "again")) == result(summary(tmp_path / "whole"))


def result(summary):
    """What must not depend on whether a run was killed: every fit's metrics, and what was found but for times."""
    fits = {fit: (found["step"], found["metrics"], found["valid"]) for fit, found in summary["fits"].items()}
    claims = []
    for one in summary["claims"]:
        values = [
            (q["name"], q["values"]) for q in one["quantities"] if q["unit"] not in TIMES and "share" not in q["name"]
        ]
        claims.append((one["name"], one["holds"], values))
    return fits, claims


@pytest.mark.parametrize("name", claims_of("language_model", "robust_regression", "vae"))  # of different shapes
def test_seeds_and_resume_are_bitwise(name, tmp_path):
    """The second of two seeds is a run of that seed alone; one that was stopped half-way ends like the first."""
    setting = Setting(name)
    both = setting.fit(seeds=2)
    alone = setting.fit(seed=1)
    setting.fit(workdir=str(tmp_path), steps=4)
    resumed = setting.fit(workdir=str(tmp_path))
    first, second = both.runs
    for one, other in ((first, resumed), (second, alone)):
        for path, value in leaves(one.state).items():
            np.testing.assert_array_equal(leaves(other.state)[path], value, err_msg=path)
        assert one.metrics == other.metrics
    assert any((leaves(second.state)[path] != value).any() for path, value in leaves(first.state).items())


@every
@pytest.mark.parametrize(
    "parallel",
    [
        pytest.param(way, marks=pytest.mark.claims if way == "pmap" else pytest.mark.full)
        for way in ("pmap", "jit", "fsdp")
    ],
)
def test_one_and_eight_devices_agree(name, parallel):
    """Under SGD, because Adam turns the rounding noise of a vanishing gradient into whole steps."""
    size = module_of(name).Config().batch_size
    setting = Setting(name, optimizer="sgd", batch_size=math.ceil(size / 8) * 8, log_every=1, steps=3)
    one, many = setting.fit(), setting.fit(parallel=parallel, devices=8)
    assert one.curve("train/loss")[1] == pytest.approx(many.curve("train/loss")[1], rel=1e-4)
    assert one.metrics == pytest.approx(many.metrics, rel=1e-3, abs=1e-5)


@pytest.mark.full
@every
def test_the_loss_of_a_batch_shown_again_falls(name):
    setting = Setting(name)
    step, state = jax.jit(setting.experiment.step), jax.jit(setting.experiment.init)(jax.random.key(0))
    batch = setting.batch(0)
    losses = []
    for _ in range(31):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in listing() if hasattr(module_of(name).Config, "precision")])
def test_bfloat16(name):
    """Close to float32 at first; the weights stay float32."""
    one, half = (
        Setting(name, precision=precision, steps=3, log_every=1).fit() for precision in ("float32", "bfloat16")
    )
    assert all(x.dtype != jax.numpy.bfloat16 for x in jax.tree.leaves(half.state))
    assert one.curve("train/loss")[1] == pytest.approx(half.curve("train/loss")[1], rel=0.05)
    assert one.curve("train/loss")[1] != half.curve("train/loss")[1]


@pytest.mark.full
@every
def test_a_step_is_the_same_without_jit(name):
    setting = Setting(name)
    state, batch = jax.jit(setting.experiment.init)(jax.random.key(0)), setting.batch(0)
    compiled = jax.jit(setting.experiment.step)(state, batch)
    with jax.disable_jit():
        plain = leaves(setting.experiment.step(state, batch))
    for path, value in leaves(compiled).items():
        np.testing.assert_allclose(value, plain[path], rtol=2e-4, atol=2e-5, err_msg=path)
