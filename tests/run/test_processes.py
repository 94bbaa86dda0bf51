"""Several processes train what one trains, and one goes on where they ended."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from jaxdl.run.show.report import CLOCK

ROOT = Path(__file__).parents[2]
IMAGES = ("image_classifier", "--model=mlp", "--augment=none", "--seeds=1", "--optimizer=sgd", "--learning_rate=0.05")
TEXT = (
    "language_model", "--cell=transformer", "--layers=1", "--features=64", "--context=16", "--batch_size=8",
    "--optimizer=sgd", "--learning_rate=0.1", "--warmup=0", "--text=text.txt",
)  # fmt: skip
COMMON = ("--schedule=constant", "--eval_every=8", "--log_every=4", "--noprogress", "--notensorboard")


@pytest.fixture
def launch(tmp_path):
    """Runs launch.sh with the words given -> the rows of metrics.jsonl, without the clock."""
    environment = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "JAX_NUMPY_RANK_PROMOTION")}

    def run(options, *words, name):
        workdir = tmp_path / name
        command = [str(ROOT / "launch.sh"), *options, *words, *COMMON, f"--workdir={workdir}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("reference (source)") == 1  # one process speaks
        rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in rows]

    return run


def close(found, expected, rel):
    assert [sorted(row) for row in found] == [sorted(row) for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, rel=rel)


TWO = ("--processes=2", "--cpu-devices=2")


@pytest.mark.full
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_images_by_two_processes_of_two_devices(launch, parallel):
    one = launch(["--cpu-devices=1"], *IMAGES, "--steps=16", name="one")
    two = launch(TWO, *IMAGES, "--steps=16", f"--parallel={parallel}", name="two")
    close(two, one, rel=1e-4)


@pytest.mark.full
@pytest.mark.parametrize("words", [IMAGES, pytest.param(TEXT, marks=pytest.mark.full)])
def test_two_processes_by_fsdp_and_one_process_goes_on(launch, tmp_path, words):
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog; 0123456789.\n" * 400)
    one = launch(["--cpu-devices=1"], *words, "--steps=16", name="one")
    launch(TWO, *words, "--steps=8", "--parallel=fsdp", name="two")
    resumed = launch(["--cpu-devices=1"], *words, "--steps=16", name="two")
    close(resumed, one, rel=1e-4)
