"""docs/tutorial.md runs from top to bottom as written; its blocks assert what it claims."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIAL = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|console)\n(.*?)```", TUTORIAL, re.S)
FILES = re.findall(r"Save this as `(\w+\.py)`", TUTORIAL)


def is_file(code):
    return 'if __name__ == "__main__":' in code


def script():
    """One program: the blocks in order, files saved, commands run."""
    lines, names = ["import pathlib as _pathlib, subprocess as _subprocess, sys as _sys"], iter(FILES)
    for kind, code in BLOCKS:
        if kind == "python":
            lines.append(f"_pathlib.Path({next(names)!r}).write_text({code!r})" if is_file(code) else code)
        else:
            commands = re.findall(r"^\$ python (.*)$", code, re.M)
            assert len(commands) == len(code.splitlines()), f"commands begin with $ python: {code}"
            lines += [f"_subprocess.run([_sys.executable, *{command.split()!r}], check=True)" for command in commands]
    return "\n".join(lines).replace("'--seed=0'", "f'--seed={SEED}'")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "tutorial.py").write_text(script(), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    environment["JAX_NUMPY_RANK_PROMOTION"] = "allow"
    environment.pop("JAXDL_DATA_DIR", None)
    words, start = [sys.executable, "tutorial.py"], time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    print(f"{time.perf_counter() - start:.1f} s")
    return done, folder


@pytest.mark.claims
def test_it_runs_from_top_to_bottom(ended):
    done, folder = ended
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"ensemble.png", "curves.png", "summary.json"} <= {p.name for p in (folder / "runs/ensemble").iterdir()}
    assert (folder / "letters.png").exists()


def test_its_blocks_have_the_promised_length():
    codes = [code for kind, code in BLOCKS if kind == "python"]
    (own,) = filter(is_file, codes)
    assert len(FILES) == 1
    assert len([line for line in own.splitlines() if line]) <= 60
    assert len([line for line in codes[0].split("def loss")[1].splitlines() if line]) <= 15


def test_every_claim_is_asserted():
    sections = re.split(r"^## ", TUTORIAL, flags=re.M)[1:]
    assert [section[0] for section in sections] == ["1", "2", "3", "4", "5"]
    assert all("\nassert " in section for section in sections)
