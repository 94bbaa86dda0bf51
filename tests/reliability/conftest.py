"""Fixtures of the gates: processes of the small program, the results of a run, and the record of passed and tried."""

import hashlib
import json
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdl.run.show.report import CLOCK
from jaxdl.run.store.checkpoint import Checkpoints
from tests.reliability import program
from tests.reliability.figures import record
from tests.reliability.nursery import Nursery, start_fresh


@pytest.fixture
def promise(request):
    """promise(id, passed, tried, note): prints and records the numbers, and fails unless all have passed."""
    gate = "full" if request.node.get_closest_marker("full") else "fast"

    def told(name, passed, tried, note=""):
        passed = int(passed)
        print(f"{name}: {passed} of {tried}" + (f" ({note})" if note else ""))
        record(name, gate, request.node.nodeid, passed, tried, "" if tempfile.gettempdir() in note else note)
        assert tried > 0
        assert passed == tried, note

    return told


@pytest.fixture(scope="session")
def warm():
    """start(words, said, file_limit=0) -> Process, without the time for imports."""
    nursery = Nursery()
    yield nursery.start
    nursery.close()


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A finished run and a killed one, to be damaged."""
    from tests.reliability.runs import Runs

    made = Runs(tmp_path_factory.mktemp("folder"))
    yield made
    made.nursery.close()


@pytest.fixture
def start(request, warm):
    """Starts the program: forked in a fast gate, `python -m tests.reliability.program` in a full one."""
    return start_fresh if request.node.get_closest_marker("full") else warm


@pytest.fixture(scope="session")
def like():
    """A state of the program, for the structure of its checkpoints."""
    config = program.Config()
    return jax.jit(program.build(config, program.data(config)).init)(jax.random.key(0))


def digests(tree) -> dict[str, str]:
    """path -> SHA-256 of the leaf's dtype, shape and bytes."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        content = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        found[jax.tree_util.keystr(path)] = hashlib.sha256(content).hexdigest()
    return found


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """{path: content} of everything in a folder; None for what is not a file."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def rows(workdir: Path) -> list[dict]:
    """metrics.jsonl without its clock fields."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCK} for line in lines]


def restored(workdir: Path, like):
    """(step, state) of the latest intact checkpoint, or None; changes nothing."""
    checkpoints = Checkpoints(workdir / "checkpoints", write=False)
    try:
        return checkpoints.restore(like)
    finally:
        checkpoints.close()


def outcome(workdir: Path, like):
    """Everything that must be equal after a run: the step, every leaf of the final checkpoint, the log, the result."""
    step, state = restored(workdir, like)
    result = json.loads((workdir / "result.json").read_text())
    return step, digests(state), rows(workdir), result["metrics"]
