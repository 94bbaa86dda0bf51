"""What the README shows runs as written."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from experiments.__main__ import listing

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def run(code, folder, *flags):
    (folder / "denoise.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    environment["JAX_NUMPY_RANK_PROMOTION"] = "allow"
    environment.pop("JAXDL_DATA_DIR", None)
    words = [sys.executable, "denoise.py", *flags]
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def test_there_are_two_blocks_of_the_promised_length():
    own, seeds = BLOCKS
    assert len(own.splitlines()) <= 60
    assert len([line for line in seeds.splitlines() if line]) <= 15


@pytest.mark.claims
@pytest.mark.trained
def test_an_experiment_of_your_own(tmp_path, seed, bound):
    done = run(BLOCKS[0], tmp_path, f"--seed={seed}")
    assert done.returncode == 0, done.stderr
    assert re.search("resume: .*python denoise.py .*--workdir=runs/denoise/", done.stderr)
    (folder,) = (tmp_path / "runs/denoise").iterdir()
    (claim,) = json.loads((folder / "summary.json").read_text())["claims"]
    assert claim["text"] == "codes keep more of a digit than as many principal components"
    (error,) = claim["quantities"]
    bound(error["values"][0] - error["limit"], "<", 0.0, "error under that of components")
    assert claim["reference"] == {"principal components": [error["limit"]]}
    assert claim["holds"]
    assert {"rebuilt.png", "curves.png", "summary.json", "metrics.jsonl", "flags.txt"} <= {
        p.name for p in folder.iterdir()
    }


@pytest.mark.claims
@pytest.mark.trained
def test_three_seeds_in_one_program(tmp_path, seed, bound):
    assert "jnp.arange(3)" in BLOCKS[1]
    done = run(BLOCKS[1].replace("jnp.arange(3)", f"jnp.arange({3 * seed}, {3 * seed + 3})"), tmp_path)
    assert done.returncode == 0, done.stderr
    accuracies = [float(word) for word in re.findall(r"0\.\d+", done.stdout)]
    assert len(accuracies) == 3
    bound(min(accuracies), ">", 0.95)


def test_the_experiment_of_your_own_keeps_the_contract(tmp_path):
    path = tmp_path / "denoise.py"
    path.write_text(BLOCKS[0], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("denoise", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.Config(steps=2)
    parts = module.data(config)
    experiment = module.build(config, parts)
    state = jax.eval_shape(experiment.init, jax.random.key(0))
    _, metrics = jax.eval_shape(experiment.step, state, parts.train.batch(0, 0))
    assert metrics["loss"].shape == ()
    compile(BLOCKS[1], "README.md", "exec")


def test_the_commands_it_names_exist():
    for name in re.findall(r"python -m experiments\.([a-z_]+)", README):
        assert name in listing(), name
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert path.startswith("http") or (ROOT / path).exists(), path


@pytest.mark.parametrize(
    "command",
    [
        "pip install -e . && python -m experiments.image_classifier",
        'pip install -e ".[test]" && python -m pytest -n 2 --dist worksteal',
    ],
)
def test_the_two_commands(command):
    assert f"$ {command}\n" in README


@pytest.mark.claims
@pytest.mark.trained
def test_a_finished_run_is_trained_further_in_forty_lines(tmp_path, seed, bound):
    path = ROOT / "docs/research.py"
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    words = re.search(r"python -m experiments\.image_classifier (.*) --workdir=runs/upright", text)[1].split()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1", "JAX_NUMPY_RANK_PROMOTION": "allow"}
    start = lambda *words: subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=tmp_path, env=env, check=False
    )
    more = (f"--seed={seed}", "--workdir=r", "--progress=false", "--tensorboard=false")
    assert start("-m", "experiments.image_classifier", *words, *more).returncode == 0
    done = start(path, "r")
    assert done.returncode == 0, done.stderr
    before, after = (float(x) for x in re.search(r"'turned/top_2': '([\d.]+) -> ([\d.]+)'", done.stdout).groups())
    bound(before, "<", 0.6, "turned digits before")
    bound(after, ">", 0.9, "turned digits after")
