"""R5: the same command gives the same bits, another seed gives others."""

import dataclasses

import pytest

from jaxdl.run import fit
from tests.reliability import program
from tests.reliability.conftest import digests, outcome

WAYS = {
    "jit": {"devices": 1},
    "jit, 4 devices, 3 steps a call": {"devices": 4, "scan": 3},
    "pmap, 2 devices": {"devices": 2, "parallel": "pmap"},
}


def fitted(**changes):
    """The digests of the last state, and the log without its clock."""
    config = dataclasses.replace(program.Config(steps=12, eval_every=6), **changes)
    parts = program.data(config)
    result = fit(program.build(config, parts), parts, config)
    return digests(result.state), [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def differ(a, b):
    """Whether the parameters differ, not only the keys."""
    return all(a[0][path] != b[0][path] for path in a[0] if "params" in path and "kernel" in path) and a[1] != b[1]


@pytest.mark.claims
def test_the_same_command_twice(start, tmp_path, like, promise):
    """Two processes with the same flags, and a third with another seed."""
    ends = []
    for i, seed in enumerate((3, 3, 4)):
        process = start([f"--workdir={tmp_path / str(i)}", f"--seed={seed}"], tmp_path / "said")
        assert process.wait() == 0, process.said()
        ends.append(outcome(tmp_path / str(i), like))
    assert ends[0][0] == 60
    promise("R5", (ends[0] == ends[1]) + (ends[0][1] != ends[2][1]), 2, "commands, seeds 3, 3 and 4")


@pytest.mark.claims
@pytest.mark.parametrize("way", ["pmap, 2 devices", *(pytest.param(w, marks=pytest.mark.full) for w in list(WAYS)[:2])])
def test_the_same_fit_twice(way, promise):
    first, again, other = fitted(**WAYS[way]), fitted(**WAYS[way]), fitted(**WAYS[way], seed=1)
    promise("R5", first == again and differ(first, other), 1, f"fits by {way}, seeds 0 and 1")


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20))
def test_many_fits_twice(seed, promise):
    way = list(WAYS.values())[seed % len(WAYS)]
    first, again, other = (fitted(**way, seed=s) for s in (seed, seed, seed + 1))
    promise("R5", first == again and differ(first, other), 1, f"seed {seed}")
