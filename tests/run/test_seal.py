"""Damaged checkpoints are detected, named and skipped."""

import errno
import shutil
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl.data import DataError
from jaxdl.run.store.checkpoint import Checkpoints, Unwritten
from jaxdl.run.store.seal import SEAL, seal, verify
from tests.budget import first


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints 3 and 5, and the state in 5."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    state = {"w": jax.random.normal(jax.random.key(0), (13, 7)), "key": jax.random.key(2), "n": jnp.int32(5)}
    checkpoints = Checkpoints(folder)
    checkpoints.save(3, state | {"n": jnp.int32(3)})
    checkpoints.save(5, state)
    checkpoints.close()
    return folder, state


def latest(folder, like):
    checkpoints = Checkpoints(folder, write=False)
    try:
        return checkpoints.restore(like)
    finally:
        checkpoints.close()


def test_what_is_whole_is_restored_bit_for_bit(saved):
    folder, state = saved
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step, found = latest(folder, state)
    assert step == 5
    np.testing.assert_array_equal(found["w"], state["w"])
    np.testing.assert_array_equal(jax.random.key_data(found["key"]), jax.random.key_data(state["key"]))


def test_every_damage_of_every_file_is_named_and_the_one_before_is_used(saved, tmp_path):
    folder, state = saved
    files = sorted(str(path.relative_to(folder)) for path in (folder / "5").rglob("*") if path.is_file())
    assert len(files) > 9
    rng = np.random.default_rng(0)

    def flip(path):
        content = bytearray(path.read_bytes() or b"\0")
        at = int(rng.integers(8 * len(content)))
        content[at // 8] ^= 1 << at % 8
        path.write_bytes(content)

    def cut(path):
        path.write_bytes(path.read_bytes()[:-1])

    tried = passed = 0
    for name in files:
        for damage in (flip, cut, lambda path: path.write_bytes(b""), lambda path: path.unlink()):
            copy = tmp_path / str(tried)
            shutil.copytree(folder, copy)
            before = (copy / name).read_bytes()
            damage(copy / name)
            if (copy / name).exists() and (copy / name).read_bytes() == before:
                shutil.rmtree(copy)
                continue  # a file that was empty
            tried += 1
            with pytest.warns(UserWarning, match="checkpoint 5 cannot be used") as told:
                step, found = latest(copy, state)
            good = step == 3 and int(found["n"]) == 3 and (name in str(told[0].message) or name.endswith(SEAL))
            if not good:
                print(name, step, told[0].message)
            passed += good
    print(f"R8: {passed} of {tried}")
    assert passed == tried >= 30


def test_a_run_that_goes_on_puts_the_damaged_one_aside(saved, tmp_path):
    folder, state = saved
    shutil.copytree(folder, tmp_path / "c")
    (tmp_path / "c" / "5" / "state" / "_METADATA").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"checkpoint 5 .*state/_METADATA: has 0 bytes"):
        checkpoints = Checkpoints(tmp_path / "c")
    step, found = checkpoints.restore(state)
    checkpoints.save(5, state)
    checkpoints.close()
    assert (step, int(found["n"])) == (3, 3)
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["3", "5", "5.damaged"]
    assert latest(tmp_path / "c", state)[0] == 5


def test_one_that_is_whole_and_cannot_be_read_is_written_over(saved, tmp_path):
    folder, state = saved
    shutil.copytree(folder, tmp_path / "c")
    shutil.rmtree(tmp_path / "c" / "5" / "state")
    seal(tmp_path / "c" / "5", 5, {})
    checkpoints = Checkpoints(tmp_path / "c")
    with pytest.warns(UserWarning, match="checkpoint 5 cannot be used"):
        step, found = checkpoints.restore(state)
    assert (step, int(found["n"])) == (3, 3)
    checkpoints.save(5, state)
    checkpoints.wait()
    checkpoints.close()
    assert latest(tmp_path / "c", state)[0] == 5


def test_a_run_that_goes_on_from_nothing_but_damage_is_refused_and_again_so(saved, tmp_path):
    folder, state = saved
    shutil.copytree(folder, tmp_path / "c")
    for step in "35":
        (tmp_path / "c" / step / "state" / "_METADATA").write_bytes(b"")
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoints = Checkpoints(tmp_path / "c")
        with pytest.raises(
            DataError,
            match=r"checkpoints \(3, 5\).*_METADATA: has 0 bytes.*--overwrite",
        ):
            checkpoints.restore(state)
        checkpoints.close()


@pytest.mark.parametrize("spec", first([P(), P("all")]))
@pytest.mark.parametrize("devices", first([1, 4]))
def test_buffers_that_are_overwritten_while_they_are_saved(devices, spec, tmp_path):
    mesh = jax.make_mesh((devices,), ("all",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    place = NamedSharding(mesh, spec)
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0, out_shardings=place)
    state = jax.device_put({i: jnp.zeros(100_000) for i in "abcdefg"}, place)
    checkpoints = Checkpoints(tmp_path / "c")
    for t in range(4):
        checkpoints.save(t, state)
        for _ in range(9):
            state = step(state)
        jax.block_until_ready(state)
        checkpoints.wait()
        found = checkpoints.restore(state, t)[1]
        jax.tree.map(lambda x: np.testing.assert_array_equal(x, np.float32(9 * t)), found)
    checkpoints.close()


LONG = f"FAILED: cannot open {99 * '/folder'}: No space [os_error_code='{errno.ENOSPC}']"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError(LONG)])
def test_a_seal_that_cannot_be_written_stops_the_next_save(error, tmp_path, monkeypatch):
    def full(folder, step, facts):
        raise error

    monkeypatch.setattr("jaxdl.run.store.checkpoint.seal", full)
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, {"n": jnp.int32(1)})
    while not all(sealing.done() for sealing in checkpoints._sealing):
        time.sleep(0.01)
    with pytest.raises(Unwritten, match=r"checkpoint 2 cannot be written \(No space left on device\)"):
        checkpoints.save(2, {"n": jnp.int32(2)})
    checkpoints.close()


def test_a_file_that_is_gone_before_its_seal_comes_up_in_wait(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "c")
    monkeypatch.setattr("jaxdl.run.store.checkpoint.seal", lambda folder, step, facts: (folder / "gone").read_bytes())
    checkpoints.save(2, {"n": jnp.int32(2)})
    with pytest.raises(Unwritten, match="checkpoint 2 cannot be written"):
        checkpoints.wait()
    checkpoints.close()


def test_the_best_is_there_until_a_better_one_is_sealed(tmp_path, monkeypatch):
    checkpoints, seen = Checkpoints(tmp_path / "c"), []

    def watched(folder, step, facts):
        seen.append((step, sorted(int(p.parent.name) for p in (tmp_path / "c").glob(f"*/{SEAL}"))))
        seal(folder, step, facts)

    monkeypatch.setattr("jaxdl.run.store.checkpoint.seal", watched)
    for step, score in ((1, 0.5), (2, -np.inf), (3, -np.inf), (5, 0.7), (7, -np.inf), (11, 0.7)):
        checkpoints.save(step, {"n": jnp.int32(step)}, score)
        checkpoints.wait()
    checkpoints.close()
    assert seen == [(1, []), (2, [1]), (3, [1, 2]), (5, [1, 2, 3]), (7, [3, 5]), (11, [5, 7])]
    assert sorted(int(path.name) for path in (tmp_path / "c").iterdir()) == [5, 7, 11]


def test_another_program_s_checkpoint_is_put_aside_not_removed(tmp_path):
    (tmp_path / "c" / "500").mkdir(parents=True)
    (tmp_path / "c" / "500" / "model.pt").write_text("weights")
    with pytest.warns(UserWarning, match="checkpoint 500 cannot be used"):
        Checkpoints(tmp_path / "c").close()
    assert (tmp_path / "c" / "500.damaged" / "model.pt").read_text() == "weights"


def test_a_folder_that_is_removed_after_the_last_save_is_missed(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, {"n": jnp.int32(1)})
    checkpoints.wait()
    shutil.rmtree(tmp_path / "c")
    with pytest.raises(Unwritten, match="removed"):
        checkpoints.wait()
    checkpoints.close()


def test_a_score_that_is_no_number_is_the_least(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    for step, score in enumerate((np.nan, 1.0, np.nan, 0.5, -1.0), 1):
        checkpoints.save(step, {"n": jnp.int32(step)}, score)
        checkpoints.wait()
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["2", "4", "5"]


def test_the_latest_is_the_greatest_number(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (9, 10):
        checkpoints.save(step, {"n": jnp.int32(step)})
    checkpoints.close()
    assert latest(tmp_path / "c", {"n": jnp.int32(0)})[0] == 10


def test_a_file_more_and_no_seal_at_all(saved, tmp_path):
    folder, state = saved
    shutil.copytree(folder, tmp_path / "a")
    (tmp_path / "a" / "5" / "extra").touch()
    with pytest.raises(DataError, match="5/extra: "):
        verify(tmp_path / "a" / "5")
    shutil.copytree(folder, tmp_path / "b")
    for step in "35":
        (tmp_path / "b" / step / SEAL).unlink()
    with (
        pytest.raises(DataError, match=r"checkpoints \(3, 5\)"),
        pytest.warns(UserWarning, match=SEAL),
    ):
        latest(tmp_path / "b", state)


def test_a_seal_is_written_whole(tmp_path):
    folder = tmp_path / "17"
    folder.mkdir()
    (folder / "x").write_bytes(b"abc")
    seal(folder, 17, {"score": 0.5})
    assert sorted(path.name for path in folder.iterdir()) == [SEAL, "x"]
    assert verify(folder) == {"score": 0.5}
    assert "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" in (folder / SEAL).read_text()
    folder.rename(tmp_path / "19")
    with pytest.raises(DataError, match=r"19: .*step 17"):
        verify(tmp_path / "19")
    (tmp_path / "19" / SEAL).write_text("[]")
    with pytest.raises(DataError, match=SEAL):
        verify(tmp_path / "19")


def test_a_failed_save_comes_up_in_wait(tmp_path, monkeypatch):
    def full(folder, step, facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxdl.run.store.checkpoint.seal", full)
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, {"w": jnp.ones(3)})
    with pytest.raises(OSError, match="No space left"):
        checkpoints.wait()
    checkpoints.close()
