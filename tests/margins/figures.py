"""Results of one run: claims of an experiment, bounds of the tests, values asserted by the tutorial."""

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jaxdl import run
from tests.margins.judge import Bound, bounds_of
from tests.test_shapes_of_experiments import leaves
from tests.test_tutorial import script

ROOT = Path(__file__).parents[2]
TUTORIAL = {  # expressions in variables of the tutorial, and the bounds that it asserts
    "test_accuracy": (">", 0.96),
    "on_features - on_pixels": (">", 0.05),
    "scores.min()": (">", 0.93),
    "scores.std()": ("<", 0.02),
    'rows[-1]["test/accuracy"]': (">", 0.9),
}


def named(bounds):
    """Returns {name or position: bound as a list}; repeated names get their position appended."""
    out = {}
    for i, bound in enumerate(bounds, 1):
        name = bound.name or str(i)
        plain = bound._replace(value=float(bound.value), limit=float(bound.limit))
        out[f"{name} ({i})" if name in out else name] = list(plain)
    return out


def of_experiment(module, seed):
    """Returns the claims of an experiment at its small scale, and a digest of the final states of its fits."""
    digest, fit = hashlib.sha256(), run.fit
    seeds = module.Config(**module.SMALL).seeds

    def watched(*args, **options):
        result = fit(*args, **options)
        for one in result.runs:
            for leaf in leaves(one.state).values():
                digest.update(leaf.tobytes())
        return result

    quiet = {"progress": False, "tensorboard": False, "devices": 1, "seed": seed * seeds}  # so that runs share no seed
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "fit", watched)
        claims = run.findings(module, module.Config(**{**module.SMALL, **quiet, "workdir": folder}), "")
    found = {}
    for one in claims:
        found[one.name] = {
            "expected": not one.claim.fails,
            "holds": one.holds,
            "bounds": named(bounds_of(one.quantities, alone=seeds == 1)),
        }
    return {"claims": found, "digest": digest.hexdigest()}


def of_figures(figures):
    """Returns the same for {test or expression: bounds}; the digest is that of the values."""
    claims = {key: {"expected": True, "holds": None, "bounds": named(bounds)} for key, bounds in figures.items()}
    return {"claims": claims, "digest": hashlib.sha256(repr(claims).encode()).hexdigest()}


def of_tests(seed):
    """Returns the bounds that the fixture `bound` recorded in the tests marked `trained`."""
    # only these files, because collecting all tests takes longer than running these
    files = [str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.trained" in path.read_text("utf-8")]
    if not files:
        return of_figures({})
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as file:
        os.environ.update(JAXDL_MARGINS=file.name, JAXDL_MARGIN_SEED=str(seed))
        status = pytest.main(["-m", "trained", "-q", "-p", "no:xdist", *sorted(files)])
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise SystemExit(f"pytest exited with status {status}")
        lines = [json.loads(line) for line in file]
    figures = {}
    for test, quantity in lines:
        figures.setdefault(test, []).extend(bounds_of([quantity]))
    return of_figures(figures)


def of_tutorial(seed):
    """Returns the values of TUTORIAL's expressions after the tutorial, run without its assertions."""
    first = 10 * seed  # the tutorial uses at most eight seeds, so runs share none
    text, count = re.subn("^SEED = 0$", f"SEED = {first}", script(), flags=re.M)
    if not count:
        raise SystemExit("docs/tutorial.md must have the line SEED = 0")
    text += f"\nimport json\njson.dump([float(eval(x)) for x in {list(TUTORIAL)!r}], open('figures.json', 'w'))\n"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tutorial.py").write_text(text, encoding="utf-8")
        world = os.environ.get("JAXDL_MARGIN_WORLD")
        if world:  # imported first by every process of the tutorial
            (folder / "sitecustomize.py").write_text(f"from tests.margins.worlds import nudge\n\nnudge({world})\n")
        env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "JAX_NUM_CPU_DEVICES": "1"}
        env["JAX_NUMPY_RANK_PROMOTION"] = "allow"
        env.pop("JAXDL_DATA_DIR", None)
        subprocess.run([sys.executable, "-O", "tutorial.py"], cwd=folder, env=env, check=True)
        values = json.loads((folder / "figures.json").read_text())
    return of_figures({x: [Bound(v, *TUTORIAL[x])] for x, v in zip(TUTORIAL, values, strict=True)})


def one(name, seed):
    """Returns the result of one run."""
    if name == "tests":
        return of_tests(seed)
    if name == "tutorial":
        return of_tutorial(seed)
    return of_experiment(importlib.import_module(f"experiments.{name}"), seed)
