import dataclasses
import shlex
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from experiments import image_classifier
from jaxdl.core import Experiment, State, WeightedSum
from jaxdl.data import MissingData
from jaxdl.run import FlagError, Interrupted, Quantity, RunConfig, findings, fit, flag, measured
from jaxdl.run.command.flags import parse
from jaxdl.run.command.search import grid, space
from jaxdl.run.command.sweep import configs, sweep
from jaxdl.run.show.sweep_report import Point, picture, table, verdict
from jaxdl.run.store.files import read_json, write_json
from jaxdl.run.store.folder import open_run


class Config(RunConfig):
    """Gradient descent on (x - target)^2 from 0: after t steps the loss is target^2 (1 - 2 learning_rate)^(2 t)."""

    target: float = flag(3.0, "where the minimum is", minimum=0)
    shape: str = flag("round", "form of it", choices=("round", "square", "none"))
    layers: str = flag("7,5", "widths")
    names: str = flag("", "fits")
    learning_rate: float = 0.25
    steps: int | None = 3


class Descent(State):
    x: Any


def build(config):
    def step(state, _):
        loss = (state.x - config.target) ** 2
        return state.advance(x=state.x - config.learning_rate * 2 * (state.x - config.target)), {"loss": loss}

    evaluate = lambda state, _: {"loss": WeightedSum((state.x - config.target) ** 2, jnp.ones(()))}
    return Experiment(lambda key: Descent.create(key, x=jnp.zeros(())), step, evaluate)


def body(config):
    if config.shape == "square":
        raise MissingData("square.csv: no such file")
    if config.learning_rate == 0.125:
        raise Interrupted(2, 1)
    for name in config.names.split(","):
        fit(build(config), None, config, name=name)
    return [measured("descends", Quantity("x", 1.0, ">", 0))]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Returns a function that runs a sweep as the command line does; records the points that were computed."""
    monkeypatch.chdir(tmp_path)

    def run(text, work=body, trials=None, **changes):
        config = Config(
            **{"progress": False, "tensorboard": False, "devices": 1, "log_every": 1, "workdir": "w"} | changes
        )
        config, run.computed = open_run(config, "descent"), []

        def counted(point):
            run.computed.append(point.workdir.removeprefix("w/"))
            return work(point)

        def save(point, claims):
            write_json(tmp_path / point.workdir / "summary.json", {"flags": dataclasses.asdict(point)})

        run.claims = sweep(config, text, counted, "descent", "python -m descent", save, trials)
        return read_json(tmp_path / "w/sweep.json")

    return run


class TestText:
    def test_the_product_with_types(self):
        found = grid(space(Config, "learning_rate=1e-3, 3; steps=5,7 ;optimizer=sgd"))
        assert found == [
            {"learning_rate": 0.001, "steps": 5, "optimizer": "sgd"},
            {"learning_rate": 0.001, "steps": 7, "optimizer": "sgd"},
            {"learning_rate": 3.0, "steps": 5, "optimizer": "sgd"},
            {"learning_rate": 3.0, "steps": 7, "optimizer": "sgd"},
        ]
        assert [type(v) for v in found[2].values()] == [float, int, str]

    def test_quotes_and_none(self):
        points = lambda text: grid(space(Config, text))
        assert points('layers="7,5",11,"a;b"') == [{"layers": "7,5"}, {"layers": "11"}, {"layers": "a;b"}]
        assert points("clip_norm=none,2") == [{"clip_norm": None}, {"clip_norm": 2.0}]
        assert points("shape=none,round")[0] == {"shape": "none"}, "an ordinary word where None is not a value"

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("learningrate=1", r"^--sweep: learningrate: .*\blearning_rate\b"),
            ("learning_rate=1,fast", "^--sweep: --learning_rate=fast: .*number"),
            ("steps=1.5", "^--sweep: --steps=1.5: .*integer"),
            ("steps=none", "^--sweep: --steps=none: .*integer"),
            ("learning_rate=0.1,1e-1", "^--sweep: learning_rate .*0.1 twice"),
            ("seed=1;seed=2", "^--sweep: seed .*twice"),
            ("seed=", "^--sweep=seed=: "),
            ("seed=1,,2", "^--sweep=seed=1,,2: "),
            ("seed", "^--sweep=seed: "),
            ("seed=1;", "^--sweep=seed=1;: "),
            ("", "^--sweep=: "),
            ("workdir=a,b", "^--sweep: workdir "),
            ("data_dir=a,b", "^--sweep: data_dir "),
            ("overwrite=true", "^--sweep: overwrite "),
            ("monitor=loss", "^--sweep: monitor "),
        ],
    )
    def test_what_is_wrong_is_one_line(self, text, told):
        with pytest.raises(FlagError, match=told) as caught:
            space(Config, text)
        assert "\n" not in str(caught.value)


class TestConfigs:
    @pytest.mark.parametrize(
        ("text", "given", "told"),
        [
            ("learning_rate=0.1,-1", {}, "^--sweep: --learning_rate=-1.0: .*>= 0"),
            ("shape=round,squar", {}, r"^--sweep: --shape=squar: .*round\|square\|none"),
            ("target=1,2", {"target": 5.0}, "^--sweep: target .*--target=5"),
            ("steps=1,2", {"epochs": 5.0}, "^--sweep: --steps=1 --epochs=5: "),
            ("epochs=1,2", {"steps": 5}, "^--sweep: --steps=5 --epochs=1: "),
            ("steps=1;epochs=2", {}, "^--sweep: steps and epochs "),
            ("layers=" + 201 * "7", {}, "^--sweep: layers=.* too long"),
        ],
    )
    def test_all_points_are_checked_before_any_runs(self, run, tmp_path, text, given, told):
        with pytest.raises(FlagError, match=told):
            run(text, **given)
        assert not run.computed
        assert not [p for p in (tmp_path / "w").iterdir() if p.is_dir()]

    def test_folders_are_readable_and_apart(self):
        found = configs(Config(workdir="w"), 'learning_rate=1e-3,3;layers="7,5",a/b,7_5')
        assert next(iter(found)) == "learning_rate=0.001,layers=7%2C5"
        assert len({config.workdir for *_, config in found.values()}) == len(found) == 6
        assert all("/" not in id for id in found)
        assert found["learning_rate=3,layers=a%2Fb"][2] == Config(
            workdir="w/learning_rate=3,layers=a%2Fb", learning_rate=3, layers="a/b"
        )


class TestRuns:
    @pytest.mark.claims
    def test_values_rank_median_and_commands(self, run, tmp_path, capsys):
        record = run("learning_rate=0.25,0.4375;target=3,5")
        loss = lambda p: p["flags"]["target"] ** 2 * (1 - 2 * p["flags"]["learning_rate"]) ** 6
        found = record["points"]
        assert [p["metrics"]["loss"][0] for p in found] == pytest.approx(sorted(map(loss, found)), rel=1e-5)
        assert (record["best"], record["best_metric"]) == (
            "learning_rate=0.4375,target=3",
            found[0]["metrics"]["loss"][0],
        )
        values = sorted(map(loss, found))
        assert record["median"] == pytest.approx((values[1] + values[2]) / 2, rel=1e-5)
        assert (run.claims[0].name, run.claims[0].holds) == ("search", True)
        for point in found:  # the command reproduces the configuration of the point
            words = shlex.split(point["command"])
            assert words[:3] == ["python", "-m", "descent"]
            saved = read_json(tmp_path / "w" / point["id"] / "config.json")["flags"]
            assert dataclasses.asdict(parse(Config, words[3:])) == saved | {"workdir": None}
        out = capsys.readouterr().out.splitlines()
        assert out[1].startswith("*  0.4375 ")
        assert found[0]["command"] in out[1]
        assert "(median of the points)" in out[-1]
        assert (tmp_path / "w/sweep.png").exists()

        assert run("learning_rate=0.25,0.4375;target=3,5") == record
        assert run.computed == [], "finished points are loaded"
        run("learning_rate=0.25,0.4375;target=3,5", work=lambda config: [], steps=4)
        assert len(run.computed) == 4, "more steps were asked for"

    def test_divergence_is_recorded_once_and_refusals_are_tried_again(self, run, tmp_path, capsys):
        record = run("learning_rate=1e30,0.25;shape=round,square")
        states = {p["id"]: p["state"] for p in record["points"]}
        assert states == {
            "learning_rate=1e+30,shape=round": "diverged",
            "learning_rate=1e+30,shape=square": "refused",
            "learning_rate=0.25,shape=round": "ended",
            "learning_rate=0.25,shape=square": "refused",
        }
        assert record["points"][0]["state"] == "ended"
        assert "shape=square: refused: square.csv: " in capsys.readouterr().out
        assert not (tmp_path / "w/learning_rate=0.25,shape=square").exists()
        assert run.claims[0].holds is None
        again = run("learning_rate=1e30,0.25;shape=round,square")
        assert again == record
        assert run.computed == ["learning_rate=1e+30,shape=square", "learning_rate=0.25,shape=square"]

    def test_nothing_to_run_is_the_users_error(self, run, tmp_path):
        with pytest.raises(MissingData, match=r"square\.csv"):
            run("seed=1,2", shape="square")
        assert {p.name for p in (tmp_path / "w").iterdir()} == {"config.json", "flags.txt"}

    def test_an_interrupted_sweep_goes_on(self, run, tmp_path):
        text = "learning_rate=0.25,0.125,0.5"
        with pytest.raises(Interrupted):
            run(text)
        assert run.computed == ["learning_rate=0.25", "learning_rate=0.125"]
        assert [p["state"] for p in read_json(tmp_path / "w/sweep.json")["points"]] == ["ended", "waiting", "waiting"]
        record = run(text, work=lambda config: fit(build(config), None, config) and [])
        assert run.computed == ["learning_rate=0.125", "learning_rate=0.5"]
        assert {p["state"] for p in record["points"]} == {"ended"}

    def test_the_first_of_several_fits_ranks_and_seeds_are_averaged(self, run):
        record = run("learning_rate=0.25", names="b,a", seeds=2)
        assert record["fit"] == "b"
        assert record["points"][0]["metrics"]["loss"] == pytest.approx(2 * [9 * 0.5**6])

    def test_a_metric_that_is_not_there(self, run):
        with pytest.raises(FlagError, match=r"^--monitor=loss: .*\berror\b"):
            run("seed=1,2", work=lambda config: fit(named_error(config), None, config) and [])
        assert len(run.computed) == 1

    def test_a_study_without_a_fit(self, run):
        record = run("seed=1,2", work=lambda config: [])
        assert {p["state"] for p in record["points"]} == {"ended"}
        assert run.claims[0].holds is None


def named_error(config):
    e = build(config)
    return e._replace(evaluate=lambda state, _: {"error": e.evaluate(state, _)["loss"]})


def some(values, **flags):
    """Makes points in rank order; the value None means diverged."""
    lists = [dict(zip(flags, one, strict=True)) for one in zip(*flags.values(), strict=True)]
    made = []
    for value, one in zip(values, lists, strict=True):
        id = ",".join(f"{k}={v}" for k, v in one.items())
        state = (
            {"state": "diverged", "why": "nan"} if value is None else {"state": "ended", "metrics": {"loss": [value]}}
        )
        made.append(Point(id, one, f"run {id}", **state))
    return made


class TestReport:
    def test_one_number_is_a_line_over_a_wide_range_on_a_log_axis(self):
        axis = picture(some([1.0, 2.0, None], rate=[0.1, 0.001, 10.0]), "loss", "min").axes[0]
        assert axis.get_xscale() == "log"
        assert list(axis.lines[0].get_xdata()) == [0.001, 0.1]
        assert [t.get_text() for t in axis.get_legend().get_texts()] == ["best: 1", "diverged"]
        assert picture(some([1.0, 2.0], rate=[2, 3]), "loss", "min").axes[0].get_xscale() == "linear"

    def test_two_flags_are_a_map_of_numbers(self):
        found = some([1.0, 2.0, 3.0, None], rate=[0.1, 0.2, 0.1, 0.2], form=["b", "b", "a", "a"])
        axis = picture(found, "loss", "min").axes[0]
        assert axis.images[0].get_array().tolist() == [[3.0, 1.0], [None, 2.0]]
        assert sorted(t.get_text() for t in axis.texts) == ["1 *", "2", "3", "diverged"]

    def test_else_dots_with_the_best_on_top(self):
        axis = picture(some([1.0, 2.0, None], form=["a", "b", "c"]), "loss", "min").axes[0]
        assert [t.get_text() for t in axis.get_yticklabels()] == ["form=a", "form=b", "form=c"]
        assert axis.yaxis_inverted()
        assert [t.get_text() for t in axis.texts] == ["diverged"]

    def test_all_failed(self):
        for flags in ({"rate": [1.0, 2.0]}, {"rate": [1.0, 2.0], "form": ["a", "b"]}, {"form": ["a", "b"]}):
            found = some([None, None], **flags)
            picture(found, "loss", "min").canvas.draw()
            assert "diverged" in table(found, "loss")
            assert verdict(found, "loss").holds is None

    def test_equal_points_do_not_beat_their_median(self):
        assert verdict(some([1.0, 1.0, 1.0], rate=[1, 2, 3]), "loss").holds is False


@pytest.mark.claims
def test_a_real_experiment(tmp_path):
    config = image_classifier.Config(model="softmax", epochs=1.0, seeds=1, devices=1, tensorboard=False, progress=False)
    save = lambda point, claims: write_json(Path(point.workdir) / "summary.json", {"flags": dataclasses.asdict(point)})
    config = dataclasses.replace(config, workdir=str(tmp_path))
    text, name = "learning_rate=1e-4,0.1", "image_classifier"
    (claim,) = sweep(
        config,
        text,
        lambda point: findings(image_classifier, point),
        name,
        "python -m experiments.image_classifier",
        save,
    )
    record = read_json(tmp_path / "sweep.json")
    assert claim.holds
    assert (record["best"], record["monitor"]) == ("learning_rate=0.1", "accuracy")
    assert record["points"][0]["metrics"]["accuracy"] == [record["best_metric"]]
    assert record["best_metric"] > 0.5
