"""R8: any flipped bit in any file of a checkpoint is detected and named, and the checkpoint before it is used."""

import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.data import DataError
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.run.store.seal import SEAL, verify
from tests.reliability.conftest import digests, restored

FLIPS, USED = 100, 5  # flips in each file, and how many of them are also restored from


@pytest.mark.full
def test_many_flips_in_every_file(tmp_path, promise):
    state = {"w": jax.random.normal(jax.random.key(0), (13, 7)), "n": jnp.int32(3), "key": jax.random.key(2)}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(3, state)
    checkpoints.save(5, state | {"n": jnp.int32(5)})
    checkpoints.close()
    folder, draw = tmp_path / "checkpoints" / "5", np.random.default_rng(0)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    expected, passed = digests(state), 0
    for path in files:
        content, name = path.read_bytes(), SEAL if path.name == SEAL else str(path.relative_to(folder))
        for i in range(FLIPS):
            at = int(draw.integers(8 * len(content)))
            broken = bytearray(content)
            broken[at // 8] ^= 1 << at % 8
            path.write_bytes(bytes(broken))
            with pytest.raises(DataError) as caught:
                verify(folder)
            good = "\n" not in str(caught.value)
            good &= path.name == SEAL or name in str(
                caught.value
            )  # a flip in a seal is reported for the file that it describes
            if i < USED:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    step, found = restored(tmp_path, state)
                good &= step == 3 and digests(found) == expected
            passed += good
        path.write_bytes(content)
    verify(folder)
    shutil.rmtree(folder)
    promise("R8", passed, FLIPS * len(files), f"bits in {len(files)} files, seed 0")
