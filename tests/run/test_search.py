"""Random search: what is drawn, its folders, commands and figures, and how it continues."""

import dataclasses
import itertools
import shlex

import numpy as np
import pytest
from scipy import stats

from jaxdl.run import FlagError, Interrupted, RunConfig, fit
from jaxdl.run.command.flags import parse
from jaxdl.run.command.search import Range, grid, space, trial, trials
from jaxdl.run.command.sweep import configs
from jaxdl.run.show.sweep_report import Point, picture
from jaxdl.run.store.files import read_json
from jaxdl.run.store.folder import open_run
from tests.run.test_sweep import Config, build, run  # noqa: F401 (a fixture)

TEXT = "learning_rate=loguniform(1e-3,0.5);target=3,5"


class TestText:
    def test_ranges_and_lists(self):
        found = space(Config, "learning_rate=loguniform(1e-4, 1e-1); steps=int(2,7);epochs=uniform(1,3);optimizer=sgd")
        assert found == {
            "learning_rate": Range("loguniform", 1e-4, 0.1, False),
            "steps": Range("int", 2, 7, True),
            "epochs": Range("uniform", 1.0, 3.0, False),
            "optimizer": ["sgd"],
        }
        assert str(found["learning_rate"]) == "loguniform(0.0001,0.1)"
        assert type(found["steps"].low) is int

    def test_a_word_with_brackets_is_a_value_of_a_text_flag(self):
        assert space(Config, "freeze=Conv(0|1),Dense") == {"freeze": ["Conv(0|1)", "Dense"]}

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("learning_rate=lognormal(1,2)", r"^--sweep: learning_rate=lognormal\(1,2\): .*loguniform\(LOW,HIGH\)"),
            ("learning_rate=uniform(1)", r"^--sweep: learning_rate=uniform\(1\): must be a list"),
            ("learning_rate=uniform(1,2,3)", r"^--sweep: learning_rate=uniform\(1,2,3\): must be a list"),
            ("learning_rate=uniform(1,2", "^--sweep: learning_rate=.*must be a list"),
            ("learning_rate=0.1,uniform(1,2)", "^--sweep: learning_rate=.*must be a list"),
            ("learning_rate=uniform(1,2),0.1", "^--sweep: learning_rate=.*must be a list"),
            ("learning_rate=uniform(1,fast)", "fast must be a number"),
            ("learning_rate=uniform(,2)", "an end must be a number"),
            ("steps=uniform(1.5,2)", "1.5 must be an integer"),
            ("learning_rate=int(0.5,2)", "0.5 must be an integer"),
            ("learning_rate=uniform(2,1)", "LOW must be below HIGH"),
            ("learning_rate=uniform(1,1)", "LOW must be below HIGH"),
            ("learning_rate=uniform(1,inf)", "finite"),
            ("learning_rate=uniform(nan,1)", "finite"),
            ("learning_rate=loguniform(0,1)", "LOW must be above 0"),
            ("learning_rate=uniform(-1,1)", r"^--sweep: learning_rate=.*--learning_rate=-1.0: .*>= 0"),
            ("momentum=uniform(0.5,1)", r"^--sweep: momentum=.*--momentum=1.0: .*< 1"),
            ("steps=int(-3,5)", r"^--sweep: steps=.*--steps=-3: .*>= 0"),
            ("steps=int(1,3000000000)", "^--sweep: steps=.*must be below"),
            ("optimizer=uniform(1,2)", "^--sweep: optimizer=.*list its values"),
            ("watch_test=uniform(0,1)", "^--sweep: watch_test=.*is true or false.*list its values"),
            ("trials=1,2", "^--sweep: trials cannot be swept"),
            ("learning_rate=uniform(0,1);learning_rate=1", "^--sweep: learning_rate .*twice"),
        ],
    )
    def test_what_is_wrong_is_one_line(self, text, told):
        with pytest.raises(FlagError, match=told) as caught:
            space(Config, text)
        assert "\n" not in str(caught.value)

    def test_a_range_needs_trials_and_trials_a_sweep(self):
        with pytest.raises(FlagError, match=r"^--sweep: learning_rate=uniform\(0,1\) .*--trials=20"):
            configs(Config(), "learning_rate=uniform(0,1)")
        with pytest.raises(FlagError, match=r"^--trials=3: has no effect without --sweep"):
            Config(trials=3)
        with pytest.raises(FlagError, match=r"^--trials=0: .*>= 1"):
            Config(sweep="seed=1,2", trials=0)
        with pytest.raises(FlagError, match=r"^--trials=7: only 6 different points"):
            configs(Config(), "target=1,2,3;shape=round,none", 7)


class TestDraws:
    def test_a_trial_depends_on_its_seed_and_number_alone(self):
        chosen = space(Config, TEXT)
        ten, twenty = trials(chosen, 0, 10), trials(chosen, 0, 20)
        assert list(twenty.items())[:10] == list(ten.items())
        assert ten[7] == twenty[7] == trial(chosen, 0, 7)
        assert trial(chosen, 1, 7) != ten[7] != ten[6]

    def test_another_flag_changes_no_draw(self):
        few, more = space(Config, TEXT), space(Config, "epochs=uniform(1,2);" + TEXT + ";seed=int(1,50)")
        for i in range(11):
            assert trial(more, 3, i).items() > trial(few, 3, i).items()
            same = trial(dict.fromkeys("ab", Range("uniform", 0.0, 1.0, False)), 3, i)
            assert same["a"] != same["b"], "each flag has its own stream"

    @pytest.mark.parametrize(
        ("kind", "low", "high", "cdf"),
        [
            ("uniform", -2.0, 5.0, stats.uniform(-2, 7).cdf),
            ("uniform", 1e4, 1e4 + 1, stats.uniform(1e4, 1).cdf),
            ("loguniform", 1e-4, 0.1, stats.loguniform(1e-4, 0.1).cdf),
            ("loguniform", 7.0, 7.001, stats.loguniform(7, 7.001).cdf),
        ],
    )
    def test_distributions(self, kind, low, high, cdf):
        drawn = [trial({"x": Range(kind, low, high, False)}, 0, i)["x"] for i in range(2003)]
        assert low <= min(drawn) < max(drawn) <= high
        assert stats.kstest(drawn, cdf).pvalue > 0.01
        wrong = (
            stats.uniform(low, (high - low) / 1.2)
            if kind == "uniform"
            else stats.loguniform(low, low + (high - low) / 1.7)
        )
        assert stats.kstest(drawn, wrong.cdf).pvalue < 1e-6

    def test_integers_include_both_ends(self):
        drawn = [trial({"x": Range("int", 2, 8, True)}, 0, i)["x"] for i in range(2003)]
        counts = np.bincount(drawn, minlength=9)[2:]
        assert counts.sum() == 2003
        assert all(type(x) is int for x in drawn)
        assert stats.chisquare(counts).pvalue > 0.01
        logarithmic = np.array([trial({"x": Range("loguniform", 1, 3, True)}, 0, i)["x"] for i in range(2003)])
        shares = np.diff(np.log([0.5, 1.5, 2.5, 3.5])) / np.log(7)
        assert stats.chisquare(np.bincount(logarithmic)[1:], 2003 * shares).pvalue > 0.01

    def test_lists_are_drawn_evenly_and_flags_are_independent(self):
        chosen = space(Config, "learning_rate=loguniform(1e-4,1);target=uniform(0,1);optimizer=sgd,adam,lion")
        drawn = [trial(chosen, 0, i) for i in range(1511)]
        kinds = [d["optimizer"] for d in drawn]
        assert stats.chisquare(np.unique(kinds, return_counts=True)[1]).pvalue > 0.01
        rates, targets = (np.array([d[name] for d in drawn]) for name in ("learning_rate", "target"))
        assert stats.spearmanr(rates, targets).pvalue > 0.01
        assert stats.spearmanr(rates[1:], rates[:-1]).pvalue > 0.01
        assert stats.kruskal(*(rates[np.array(kinds) == k] for k in set(kinds))).pvalue > 0.01

    def test_numbers_are_short(self):
        drawn = [trial({"x": Range("loguniform", 1e-4, 0.1, False)}, 0, i)["x"] for i in range(307)]
        assert all(float(f"{x:.3g}") == x for x in drawn)
        assert max(len(repr(trial({"x": Range("uniform", 100.0, 101.0, False)}, 0, i)["x"])) for i in range(307)) <= 6

    @pytest.mark.parametrize(("at", "expected"), [(0, 1.2304), (1, 2.0006)])
    def test_rounding_leaves_no_range(self, at, expected):
        class Ends:
            uniform = staticmethod(lambda low, high: (low, high)[at])

        assert Range("uniform", 1.2304, 2.0006, False).draw(Ends()) == expected

    def test_no_point_twice(self):
        chosen = space(Config, "target=1,2,3;shape=round,none")
        found = trials(chosen, 0, 6)
        assert sorted(map(str, found.values())) == sorted(map(str, grid(chosen)))
        assert all(trial(chosen, 0, i) == flags for i, flags in found.items())
        assert len(configs(Config(), "target=1,2,3;shape=round,none", 6)) == 6


class TestRuns:
    @pytest.mark.claims
    def test_a_search_is_recorded_repeated_and_extended(self, run, tmp_path, capsys):  # noqa: F811
        record = run(TEXT, trials=5)
        found = record["points"]
        assert (record["trials"], record["seed"]) == (5, 0)
        losses = [p["metrics"]["loss"][0] for p in found]
        assert losses == sorted(losses)
        assert record["median"] == losses[2]
        assert run.claims[0].holds
        for point in found:
            assert trial(space(Config, TEXT), 0, point["trial"]) == point["flags"]
            saved = read_json(tmp_path / "w" / point["id"] / "config.json")["flags"]
            words = shlex.split(point["command"])
            assert dataclasses.asdict(parse(Config, words[3:])) == saved | {"workdir": None}
            assert saved["trials"] is None
        assert (tmp_path / "w/sweep.png").exists()
        assert found[0]["command"] in capsys.readouterr().out
        more = run(TEXT, trials=8)
        assert len(run.computed) == 3, "the first five are loaded"
        assert [p for p in more["points"] if p["trial"] < 5] == found
        assert run(TEXT, trials=8) == more
        assert run.computed == []

    def test_an_interrupted_search_goes_on(self, run):  # noqa: F811
        (stop,) = itertools.islice(trials(space(Config, TEXT), 0, 3).values(), 1, 2)

        def body(config):
            if config.learning_rate == stop["learning_rate"]:
                raise Interrupted(2, 1)
            return fit(build(config), None, config) and []

        with pytest.raises(Interrupted):
            run(TEXT, body, trials=3)
        assert len(run.computed) == 2
        record = run(TEXT, lambda config: fit(build(config), None, config) and [], trials=3)
        assert len(run.computed) == 2, "the unfinished and the last"
        assert {p["state"] for p in record["points"]} == {"ended"}

    @pytest.mark.parametrize(
        ("text", "given", "told"),
        [
            ("learning_rate=uniform(0,1)", {"learning_rate": 0.5}, "^--sweep: learning_rate is also given"),
            (
                "momentum=uniform(0,0.9);optimizer=sgd,momentum",
                {},
                "^--sweep: --momentum=.*no effect",
            ),
            ("steps=int(1,5);epochs=uniform(1,2)", {}, "^--sweep: steps and epochs"),
        ],
    )
    def test_all_trials_are_checked_before_any_runs(self, run, tmp_path, text, given, told):  # noqa: F811
        with pytest.raises(FlagError, match=told):
            run(text, trials=20, **given)
        assert not run.computed
        assert not [p for p in (tmp_path / "w").iterdir() if p.is_dir()]

    def test_the_number_of_trials_may_grow(self, tmp_path):
        config = RunConfig(sweep="learning_rate=uniform(0,1)", trials=5, schedule="cosine", workdir=str(tmp_path / "w"))
        open_run(config, "some")
        open_run(config.replace(trials=7), "some")
        for other in (config.replace(trials=6), config.replace(sweep="seed=1,2", trials=None)):
            with pytest.raises(FlagError, match=r"--trials was 7 \(may grow\)"):
                open_run(other, "some")


def drawn(values, **flags):
    """Makes trials in rank order; the value None means diverged."""
    lists = [dict(zip(flags, one, strict=True)) for one in zip(*flags.values(), strict=True)]
    state = lambda v: {"state": "diverged"} if v is None else {"state": "ended", "metrics": {"loss": [v]}}
    return [Point(str(i), f, "", trial=i, **state(v)) for i, (v, f) in enumerate(zip(values, lists, strict=True))]


class TestFigure:
    def test_one_number_is_scattered_without_a_line(self):
        figure = picture(drawn([1.0, 2.0, None], rate=[0.1, 0.001, 10.0]), "loss", "min")
        (axis,) = figure.axes
        assert axis.get_xscale() == "log"
        assert [line.get_linestyle() for line in axis.lines] == ["None"] * 3
        assert list(axis.lines[0].get_xdata()) == [0.1, 0.001]
        assert [t.get_text() for t in figure.legends[0].get_texts()] == ["best: 1", "diverged"]
        assert picture(drawn([1.0, 2.0], rate=[0.01, 1.0]), "loss", "min", ["rate"]).axes[0].get_xscale() == "linear"

    def test_two_numbers_are_a_plane_coloured_by_score(self):
        axis, bar = picture(
            drawn([1.0, 2.0, 3.0, None], rate=[0.1, 0.001, 1.0, 10.0], width=[3, 5, 7, 11]), "loss", "min"
        ).axes
        assert axis.collections[0].get_array().tolist() == [1.0, 2.0, 3.0]
        assert axis.collections[0].get_offsets().tolist() == [[0.1, 3.0], [0.001, 5.0], [1.0, 7.0]]
        assert not axis.images
        assert (axis.get_xscale(), axis.get_yscale(), bar.get_ylabel()) == ("log", "linear", "loss")

    def test_a_number_and_a_word_are_one_panel_in_colours(self):
        figure = picture(drawn([1.0, 2.0, 3.0], rate=[0.1, 0.2, 0.3], form=["b", "a", "b"]), "loss", "min")
        assert len(figure.axes) == 1
        assert [t.get_text() for t in figure.legends[0].get_texts()] == ["best: 1", "a", "b"]

    def test_else_a_panel_for_each_flag(self):
        flags = {"rate": [0.1, 0.2, 0.3], "width": [3, 5, 7], "form": ["b", "a", "b"], "kind": ["u", "u", None]}
        axes = picture(drawn([1.0, 2.0, None], **flags), "loss", "min").axes
        assert [axis.get_xlabel() for axis in axes] == list(flags)
        assert [t.get_text() for t in axes[3].get_xticklabels()] == ["u", "not set"]

    @pytest.mark.parametrize("flags", [{"rate": [1.0, 2.0]}, {"rate": [1.0, 2.0], "b": [3, 5]}, {"form": ["a", "b"]}])
    def test_all_failed(self, flags):
        picture(drawn([None, None], **flags), "loss", "min").canvas.draw()
