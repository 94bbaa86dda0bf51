"""The experiment `diagnose`: its planted runs, and the diagnosis of a run from its folder."""

import re

import jax
import numpy as np
import pytest

from experiments import diagnose, tabular
from experiments.diagnose import gap, planted, real
from experiments.diagnose.evidence import of_history
from jaxdl import run
from jaxdl.data import MissingData
from jaxdl.methods import diagnosis as d
from jaxdl.run.command.source import source_of
from jaxdl.run.store.files import write_json
from jaxdl.run.store.folder import open_run

QUIET = {"progress": False, "tensorboard": False, "devices": 1, "seeds": 1}


@pytest.fixture
def diagnosed(tmp_path, capsys):
    def call(folder, **flags):
        config = diagnose.Config(run=str(folder), workdir=str(tmp_path / "out"), **flags)
        (tmp_path / "out").mkdir(exist_ok=True)
        found = d.seen(real.report(config, str(folder)))
        return [one.fault for one in found], capsys.readouterr().err

    return call


@pytest.fixture
def made(tmp_path):
    """made(name, **flags): the folder of a finished run of `tabular`, as its command leaves it."""

    def make(name, **flags):
        words = QUIET | {"epochs": None, "steps": 60, "only": "fit"} | flags
        folder = tmp_path / name
        config = tabular.Config(**words, workdir=str(folder))
        config = open_run(config, "tabular", source_of(tabular))
        try:
            run.findings(tabular, config)
        except run.Diverged as error:
            make.error = str(error)
        return folder

    return make


def test_parts_share_no_row_and_faults_change_what_they_name():
    whole = planted.spirals(0)
    healthy = planted.parts("mlp_spirals", planted.HEALTHY, 0, 64)
    parts = [healthy.train.arrays, healthy.valid.arrays, healthy.test.arrays]
    np.testing.assert_array_equal(np.concatenate([one["x"] for one in parts]), whole["x"])
    assert [len(one["y"]) for one in parts] == [900, 450, 450]
    changed = {kind: planted.parts("mlp_spirals", kind, 0, 64) for kind in planted.FAULTS}
    same = lambda kind, part, name: np.array_equal(
        getattr(changed[kind], part).arrays[name], getattr(healthy, part).arrays[name]
    )
    for kind in planted.FAULTS:
        assert same(kind, "train", "x") == (kind not in ("inputs_x1000", "columns_x1000"))
        assert same(kind, "test", "x") == (
            not kind.startswith("test_") and kind not in ("inputs_x1000", "columns_x1000")
        )
        assert same(kind, "train", "y") == (kind not in ("labels_shuffled", "few_noisy_rows"))
    few = changed["few_noisy_rows"].train
    assert few.length == planted.FEW == len(np.unique(few.order(0, 0)))
    wrong = few.arrays["y"] != healthy.train.arrays["y"]
    assert wrong.mean() == pytest.approx(0.3)
    shuffled = changed["labels_shuffled"]
    assert sorted(np.concatenate([p.arrays["y"] for p in (shuffled.train, shuffled.valid, shuffled.test)])) == sorted(
        whole["y"]
    )


def test_rows_that_a_network_of_the_gap_uses():
    used = gap.used(np.arange(gap.ROWS))
    np.testing.assert_array_equal(used.sum(0), gap.EACH[:, 1])
    assert (used[:, : gap.REPEATS].sum(1) <= 2).all()  # other rows for each repeat
    assert used[0, 0]
    assert not used[0, 1]


@pytest.mark.claims
def test_networks_of_the_gap_equal_single_ones():
    """The loss of the family is the sum of those of its networks, each on its own units, rows and penalty."""
    config = diagnose.Config(**QUIET, setting=gap.NAME, batch_size=gap.ROWS, optimizer="sgd")
    data = diagnose.data(config)
    experiment, batch = diagnose.build(config, data), data.example
    state = jax.jit(experiment.init)(jax.random.key(0))
    params, expected = jax.device_get(state.learner.params), 0.0
    for k, (units, count, decay) in enumerate(gap.EACH):
        n, rows = int(units), (gap.START[k] + np.arange(int(count))) % gap.ROWS
        w, b = params["hidden_kernel"][k][:, :n], params["hidden_bias"][k][:n]
        v, c = params["kernel"][k][:n] / np.sqrt(n), params["bias"][k]
        z = np.maximum(batch["x"][rows] @ w + b, 0) @ v + c
        z -= z.max(1, keepdims=True)
        right = z[np.arange(len(rows)), batch["y"][rows]]
        expected += np.mean(np.log(np.exp(z).sum(1)) - right) + decay / 2 * (np.sum(w**2) + np.sum(v**2))
    _, metrics = jax.jit(experiment.step)(state, batch)
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-4)


def test_history_alone():
    rows = [{"step": t, "train/loss": 1 / t, "train/learning_rate": 0.1} for t in range(1, 21)]
    rows += [
        {"step": 10, "valid/loss": 0.4, "valid/accuracy": 0.8},
        {"step": 20, "valid/loss": 0.8, "valid/accuracy": 0.7},
    ]
    e = of_history(rows, 0.1)
    assert (e.rise, e.valid, e.start_loss, e.last_rate) == (2.0, 0.7, 1.0, 0.1)
    assert e.loss == pytest.approx(np.mean([1 / t for t in range(11, 21)]))
    assert np.isnan(e.diverged)
    assert of_history([*rows, {"step": 21, "train/loss": float("nan")}], 0.1).diverged == 21
    assert [one.fault for one in d.seen(d.diagnose(of_history(rows, 0.1)))] == [d.OVERFITTING]


def test_bad_folders_are_one_line(tmp_path, diagnosed):
    with pytest.raises(run.FlagError, match="no such folder"):
        diagnosed(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(run.FlagError, match=r"no config\.json"):
        diagnosed(tmp_path / "empty")
    (tmp_path / "begun").mkdir()
    record = {"experiment": "tabular", "flags": {}, "source": {"module": "experiments.tabular"}}
    write_json(tmp_path / "begun/config.json", record)
    with pytest.raises(MissingData, match="is empty"):
        diagnosed(tmp_path / "begun")
    with pytest.raises(run.FlagError, match="without --run"):
        diagnose.Config(fit="x")
    with pytest.raises(run.FlagError, match="must be some of"):
        diagnose.Config(faults="nothing")


@pytest.mark.claims
def test_a_real_run_that_is_too_short_and_one_that_is_not(made, diagnosed):
    faults, said = diagnosed(made("short", steps=3, learning_rate=1e-3))
    assert faults[0] in (d.OPTIMISATION, d.RATE_LOW)
    assert "next: python -m experiments.tabular" in said
    faults, said = diagnosed(made("sound", steps=320))
    assert faults == []
    assert "no fault found: training score" in said


@pytest.mark.claims
def test_a_run_that_diverged_before_its_first_checkpoint(made, diagnosed):
    folder = made("wild", learning_rate=1e12, optimizer="sgd", weight_decay=0.0)
    assert not list(folder.glob("**/result.json"))
    faults, said = diagnosed(folder)
    assert faults[0] == d.RATE_HIGH
    assert re.search(r"not finite at step \d+", made.error)[0] in said
    assert "--learning_rate=" in said
    assert "it stopped before its end" in said


@pytest.mark.claims
def test_without_its_data_only_the_history_is_read(made, diagnosed, tmp_path):
    table = tmp_path / "t.csv"
    rng = np.random.default_rng(0)
    x = rng.normal(size=(101, 2))
    np.savetxt(table, np.c_[x, x @ [1, 2]], delimiter=",", header="a,b,t", comments="")
    folder = made("csv", table=str(table), target="t")
    table.unlink()
    _, said = diagnosed(folder)
    assert "only its history was read" in said


@pytest.mark.claims
def test_rows_and_networks_that_are_not_those_of_the_fit_are_not_examined(made, diagnosed, monkeypatch):
    folder, data, build = made("other", steps=3), tabular.data, tabular.build
    monkeypatch.setattr(tabular, "data", lambda config: data(config.replace(seed=7)))
    assert "only its history was read: it was trained on other rows" in diagnosed(folder)[1]
    monkeypatch.undo()
    monkeypatch.setattr(tabular, "build", lambda config, data: build(config.replace(hidden=""), data))
    assert "only its history was read: its last state is damaged, or that of another" in diagnosed(folder)[1]


@pytest.mark.claims
def test_a_planted_run_is_diagnosed_again_from_its_folder(tmp_path, diagnosed):
    config = diagnose.Config(
        **QUIET, workdir=str(tmp_path / "planted"), settings="mlp_spirals", faults="dead_relus", healthy=1
    )
    config = open_run(config, "diagnose", source_of(diagnose))
    names = {kind: name for _, kind, _, name in diagnose.diagnoses(config)}
    assert names == {"dead_relus": d.DEAD, planted.HEALTHY: real.NONE}
    faults, said = diagnosed(tmp_path / "planted", fit="mlp_spirals/dead_relus")
    assert faults[0] == d.DEAD
    assert "--fault=dead_relus" in said
    assert diagnosed(tmp_path / "planted", fit="mlp_spirals/healthy")[0] == []
    with pytest.raises(run.FlagError, match="choose one by --fit=NAME"):
        diagnosed(tmp_path / "planted")
