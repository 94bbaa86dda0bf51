"""Verdicts on bounds by hand, and a complete measurement of an experiment without training."""

import json
import math
import re
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from jaxdl import run
from jaxdl.core import Learner
from jaxdl.data import Data
from jaxdl.run import Claim, Quantity, measured
from tests.margins.__main__ import measure
from tests.margins.figures import TUTORIAL, of_experiment, of_figures
from tests.margins.judge import Bound, bounds_of, chance, judge, report
from tests.margins.worlds import PLAIN, WORLDS, environment, nudge
from tests.test_tutorial import TUTORIAL as PAGE

VALUES = [0.9**0.5 * (-1) ** i for i in range(10)]  # mean 0 and standard deviation 1: sqrt(10 a^2 / 9)


def bounds(values, sign, limit, **more):
    return [Bound(value, sign, limit, **more) for value in values]


@pytest.mark.parametrize(
    ("sign", "limit", "verdict"),
    [(">=", -3.1, "ok"), (">", -2.9, "THIN"), (">", -0.9, "CROSSED"), ("<", 3.1, "ok"), ("<=", 2.9, "THIN")],
)
def test_distance_by_hand(sign, limit, verdict):
    margin = judge(bounds(VALUES, sign, limit))
    assert margin.verdict == verdict
    assert (margin.mean, margin.sd, margin.distance) == pytest.approx((0, 1, abs(limit)))
    assert margin.worst == (min if sign[0] == ">" else max)(VALUES)


def test_one_world_or_one_nan_crosses():
    seeds = bounds(VALUES, ">", -9.0)
    assert judge(seeds, bounds([0.0], ">", -9.0)).verdict == "ok"
    assert judge(seeds, bounds([-9.1], ">", -9.0)).verdict == "CROSSED"
    assert judge([*seeds[1:], Bound(math.nan, ">", -9.0)]).verdict == "CROSSED"


def test_values_of_an_expected_failure_are_on_the_other_side():
    assert judge(bounds(VALUES, ">", 3.1), expected=False).verdict == "ok"
    assert judge(bounds(VALUES, ">", 2.9), expected=False).verdict == "THIN"
    assert judge(bounds(VALUES, ">", -3.1), expected=False).verdict == "CROSSED"
    assert judge(bounds([math.nan] * 10, ">", 0.0), expected=False).verdict == "CROSSED"


def test_values_without_spread_only_need_to_hold():
    assert judge(bounds([0.1] * 10, ">=", 0.1)).verdict == "ok"
    assert judge(bounds([0.1] * 10, ">", 0.1)).verdict == "CROSSED"


def test_each_seed_is_compared_with_its_own_limit():
    pairs = [Bound(i + value, ">", i - 3.1) for i, value in enumerate(VALUES)]
    assert judge(pairs).distance == pytest.approx(3.1)


def test_ratios_are_averaged_by_their_logarithm():
    (low,), (high,) = (bounds_of([Quantity("as fast", value, ">", 1.0, "times")]) for value in (4.0, 16.0))
    assert judge([low, high]).distance == pytest.approx(3 / 2**0.5)  # powers of two: 2 and 4, 3 ± sqrt 2
    assert judge([low, high, low._replace(value=0.9)]).verdict == "CROSSED"
    assert math.isnan(judge([low._replace(value=math.nan), high]).sd)


def test_shares_of_seeds_by_hand():
    hand = 1 - 0.05**5 - 5 * 0.95 * 0.05**4 - 10 * 0.95**2 * 0.05**3  # not 0, 1 or 2 of 5
    assert chance(3, 5, 19, 20) == pytest.approx(hand) == pytest.approx(0.99884, abs=1e-5)
    assert chance(5, 5, 19, 20) == pytest.approx(0.95**5)
    found = lambda enough, failures, worlds=(): (
        judge(bounds([0.0] * failures + [1.0] * (20 - failures), ">", 0.5, seeds=5, enough=enough), worlds).verdict
    )
    assert found(0, 0) == found(5, 0) == found(2, 1) == "ok"
    assert found(0, 1) == found(3, 1) == "CROSSED"
    assert found(0, 0, bounds([0.0], ">", 0.5)) == "CROSSED"


def test_initial_weights_are_perturbed(monkeypatch):
    params = {"w": np.linspace(1, 2, 1000, dtype=np.float32), "n": np.arange(3, dtype=np.int32)}
    before = Learner.create(params, optax.identity())
    monkeypatch.setattr(Learner, "create", Learner.create)  # restores the original afterwards
    nudge(1)
    after = jax.jit(lambda params: Learner.create(params, optax.identity()))(params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(lambda x: (x.shape, x.dtype), after)
    np.testing.assert_array_equal(before.params["n"], after.params["n"])
    assert np.std(after.params["w"] / before.params["w"] - 1) == pytest.approx(1e-6, rel=0.1)


def test_worlds_keep_the_flags_that_are_set():
    base = {"XLA_FLAGS": "--a=1", "HOME": "/h"}
    assert environment(PLAIN, base) == base
    assert environment("SSE4_2", base) == {"XLA_FLAGS": "--a=1 --xla_cpu_max_isa=SSE4_2", "HOME": "/h"}
    assert environment("nudge3", base) == {**base, "JAXDL_MARGIN_WORLD": "3"}


class Config(run.RunConfig):
    """Flags of an experiment without training."""

    seeds: int = 3


def fake(monkeypatch, off):
    """Returns run(name, seed, world) of an experiment whose state depends on its seed and is shifted by off[world]."""
    now = []
    monkeypatch.setattr(run, "fit", lambda w: SimpleNamespace(runs=[SimpleNamespace(state={"w": np.array(w)})]))

    def report(config, data):
        w = run.fit(VALUES[config.seed % 10] + off.get(now[-1], 0.0)).runs[0].state["w"]
        yield measured("above", Quantity("w", w, ">", -3.1))
        yield measured("near", Quantity("w", w, ">", -2.9))
        yield measured("neither", Quantity("w", w, ">", 5.0), Quantity("w", w, ">", 0.0 + 5.0))
        yield measured("every", Quantity("share", w, ">", -2.0, enough=-1), Quantity("told", w))
        yield measured("exact", Quantity("zero", float(now[-1] == "nudge4"), "==", 0))

    claims = {name: Claim(name) for name in ("above", "near", "neither", "every", "short", "exact")}
    claims["neither"] = Claim("", fails="by hand")
    module = SimpleNamespace(Config=Config, SMALL={"seeds": 1}, CLAIMS=claims, data=lambda _: Data(), report=report)

    def trial(name, seed, world):
        now.append(world)
        return json.loads(json.dumps(of_experiment(module, seed)))

    return trial


def test_a_complete_measurement(monkeypatch):
    runs = measure("fake", fake(monkeypatch, {"nudge2": -5.0}))
    assert list(runs) == [(seed, PLAIN) for seed in range(10)] + [(0, w) for w in WORLDS]
    text, safe = report("fake", runs)
    head, _, *lines = text.splitlines()
    assert head == "fake: 10 seeds; bits differ in nudge2"
    assert not safe
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [
        ("above", "CROSSED"),  # in nudge2, at 0.95 - 5
        ("above", "CROSSED"),  # the claim itself failed with its bound
        ("near", "CROSSED"),
        ("near", "CROSSED"),
        ("neither", "ok"),
        ("neither", "ok"),
        ("every", "CROSSED"),
        ("exact", "CROSSED"),  # without a bound, in nudge4
    ]
    assert "w > -3.1" in lines[0]


def test_a_missing_claim_crosses_and_a_failed_run_is_omitted():
    good, bad = of_figures({"t": bounds([1.0], ">", 0.0)}), of_figures({})
    runs = measure("tests", lambda name, seed, world: None if seed == 3 else bad if world == "SSE4_2" else good)
    assert len(runs) == 14
    text, safe = report("tests", runs)
    assert "CROSSED" in text
    assert not safe
    assert report("tests", dict.fromkeys(runs, good))[1]
    assert report("tests", {})[1] is False


def test_one_safe_failure_is_enough_for_an_expected_failure():
    claim = {"expected": False, "holds": False, "bounds": {"1": Bound(0.0, ">", 9.0), "2": Bound(0.0, ">", -9.0)}}
    text, safe = report("x", {(seed, PLAIN): {"claims": {"c": claim}, "digest": ""} for seed in range(10)})
    assert safe
    assert [line.split()[-1] for line in text.splitlines()[2:]] == ["ok", "free"]


def test_tests_record_their_bounds(bound, seed, tmp_path, monkeypatch, request):
    path = tmp_path / "bounds"
    monkeypatch.setenv("JAXDL_MARGINS", str(path))
    bound(np.float32(0.5), ">=", 0.25, "half")
    with pytest.raises(AssertionError, match=r": 1 < 0"):
        bound(1.0, "<", 0)
    noted = [json.loads(line) for line in path.read_text().splitlines()]
    plain = {"unit": "", "enough": 0}
    assert noted == [
        [request.node.nodeid, {"name": "half", "values": [0.5], "sign": ">=", "limit": 0.25, **plain}],
        [request.node.nodeid, {"name": "", "values": [1.0], "sign": "<", "limit": 0.0, **plain}],
    ]
    assert seed == 0


def test_the_tutorial_asserts_these_limits():
    lines = [line for line in PAGE.splitlines() if line.startswith("assert ")]
    for expression, (_, limit) in TUTORIAL.items():
        number = rf"(?<![\w.]){re.escape(f'{limit:g}')}(?![\w.])"
        assert any(expression in line and re.search(number, line) for line in lines), expression
