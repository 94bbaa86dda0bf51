"""The code blocks of the README and docs/own_experiment.md run as written; what the pages name exists."""

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
from jaxdl import packaged
from jaxdl.run.command.flags import flags_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN = (ROOT / "docs/own_experiment.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"```python\n(.*?)```", re.S)
(SHORT, SEEDS), (DENOISE,) = FENCE.findall(README), FENCE.findall(OWN)


def run(code, folder, name, *flags):
    (folder / name).write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    environment["JAX_NUMPY_RANK_PROMOTION"] = "allow"
    environment.pop("JAXDL_DATA_DIR", None)
    words = [sys.executable, name, *flags]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done


def nonblank(code):
    return len([line for line in code.splitlines() if line])


def anchors(page):
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_lengths():
    assert len(README.splitlines()) <= 150
    assert nonblank(SHORT) <= 35
    assert nonblank(SEEDS) <= 15
    assert len(DENOISE.splitlines()) <= 60


@pytest.mark.claims
@pytest.mark.trained
def test_the_short_experiment(tmp_path, seed, bound):
    flags = re.search(r"`python mine\.py (.*?)`", README)[1].split()
    run(SHORT, tmp_path, "mine.py", *flags, f"--seed={seed}", "--workdir=r", "--tensorboard=false")
    (claim,) = json.loads((tmp_path / "r/summary.json").read_text())["claims"]
    (accuracy,) = claim["quantities"]
    assert len(accuracy["values"]) == 3
    bound(sum(accuracy["values"]) / 3, ">=", accuracy["limit"], "accuracy")
    assert claim["holds"]
    assert claim["reference"]


@pytest.mark.claims
@pytest.mark.trained
def test_the_denoising_autoencoder(tmp_path, seed, bound):
    done = run(DENOISE, tmp_path, "denoise.py", f"--seed={seed}")
    assert re.search("resume: .*python denoise.py .*--workdir=runs/denoise/", done.stderr)
    (folder,) = (tmp_path / "runs/denoise").iterdir()
    (claim,) = json.loads((folder / "summary.json").read_text())["claims"]
    (error,) = claim["quantities"]
    bound(error["values"][0] - error["limit"], "<", 0.0, "error under that of components")
    assert claim["reference"] == {"principal components": [error["limit"]]}
    assert claim["holds"]
    assert {"rebuilt.png", "curves.png", "summary.json", "metrics.jsonl", "flags.txt"} <= {
        p.name for p in folder.iterdir()
    }


@pytest.mark.full
@pytest.mark.trained
def test_three_seeds_in_one_program(tmp_path, seed, bound):
    assert "jnp.arange(3)" in SEEDS
    done = run(SEEDS.replace("jnp.arange(3)", f"jnp.arange({3 * seed}, {3 * seed + 3})"), tmp_path, "seeds.py")
    accuracies = [float(word) for word in re.findall(r"0\.\d+", done.stdout)]
    assert len(accuracies) == 3
    bound(min(accuracies), ">", 0.95)


@pytest.mark.parametrize("code", [SHORT, DENOISE], ids=["short", "denoise"])
def test_the_experiments_of_the_pages_build_and_trace(code, tmp_path):
    path = tmp_path / "shown.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("shown", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.Config(steps=2)
    parts = module.data(config)
    experiment = module.build(config, parts)
    state = jax.eval_shape(experiment.init, jax.random.key(0))
    _, metrics = jax.eval_shape(experiment.step, state, parts.train.batch(0, 0))
    assert metrics["loss"].shape == ()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_are_named_exist(page):
    for path in re.findall(r"`((?:jaxdl|experiments|tests|tools|docs)/[\w./-]+)", page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_experiments_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"python -m experiments\.([a-z_]+)|jaxdl run ([a-z_]+)\b(?!\.py)|`([a-z_]+) --", text)
    assert {name for names in named for name in names if name} - {"jaxdl", "srun"} <= set(listing())


@pytest.mark.parametrize("name", ["README.md", "docs/usage.md"])
def test_the_flags_that_are_named_exist(name):
    known = {flag.name for module in listing() for flag in flags_of(packaged.experiment(module).Config)}
    known |= {"width", "codes", "runs", "module", "kind", "help", "flagfile"}  # of the blocks, of the command jaxdl
    known |= set(re.findall(r"--([a-z-]+)", (ROOT / "launch.sh").read_text(encoding="utf-8")))
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if "pytest" not in line and not line.startswith("<!--")]
    for flag in re.findall(r"(?<![\w-])--([a-zA-Z][\w-]*)", "\n".join(lines)):
        assert flag in known or (flag.startswith("no") and flag[2:] in known), flag


@pytest.mark.parametrize(
    "command",
    [
        "pip install -e . && python -m experiments.image_classifier",
        'pip install -e ".[test]" && python -m pytest -n 2 --dist worksteal',
    ],
)
def test_the_two_commands(command):
    assert f"$ {command}\n" in README


@pytest.mark.full
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
