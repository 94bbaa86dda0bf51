"""Claims: verdicts, formatted findings, their records, and claims that were not measured."""

import json
import math

import numpy as np
import pytest

from jaxdl.run import Claim, Quantity, measured
from jaxdl.run.show.claims import (
    Finding,
    claims_table,
    completed,
    found_words,
    number,
    plus_minus,
    ratio_number,
    reference_words,
    verdict,
)
from jaxdl.run.store.files import plain

CLAIMS = {
    "good": Claim("it is so", "A01 B02"),
    "bad": Claim("it is not", "A03", fails="a paper says why"),
    "files": Claim("of files", needs="files:mnist hours", flags="--dataset=mnist"),
    "other": Claim("of devices", needs="gpu", flags="./launch.sh --cpu-devices=8 x"),
}


@pytest.mark.parametrize(
    ("values", "sign", "limit", "enough", "holds"),
    [
        (3.0, ">=", 3, 0, True),
        (3.0, ">", 3, 0, False),
        (3.0, "<=", 3, 0, True),
        (3.0, "<", 3, 0, False),
        (3.0, "==", 3, 0, True),
        (3.0, "==", 2, 0, False),
        ([1.0, 5.0], ">", 2, 0, True),  # their mean is 3
        ([1.0, 5.0], ">", 2, -1, False),  # one seed does not
        ([1.0, 5.0], ">", 2, 1, True),
        ([1.0, 5.0, 7.0], "<", 6, 2, True),
        ([1.0, 7.0, 7.0], "<", 6, 2, False),
        (math.nan, ">", 0, 0, False),
        ([math.nan, 9.0], ">", 0, 1, False),
        (math.nan, "", math.nan, 0, True),  # only reported
    ],
)
def test_verdicts_of_a_quantity(values, sign, limit, enough, holds):
    assert Quantity("q", values, sign, limit, enough=enough).holds is holds


def test_the_value_that_decides():
    assert Quantity("q", [1.0, 5.0, 6.0], ">", 0).value == 4
    assert Quantity("q", [1.0, 5.0, 6.0], ">", 0, enough=2).value == 5
    assert Quantity("q", [1.0, 5.0, 6.0], "<", 0, enough=-1).value == 6
    assert Quantity("q", np.float32(0.5)).values == (0.5,)


@pytest.mark.parametrize("wrong", [{"sign": "=>"}, {"enough": 3}, {"values": []}])
def test_a_quantity_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=r"^q: "):
        Quantity("q", **{"values": [1.0, 2.0], "sign": ">", "limit": 0, **wrong})


def test_numbers_in_words():
    assert number(61706.0) == "61,706"
    assert number(7.629e-06) == "7.629e-06"
    assert number([0.9912, 0.99, 0.9943]) == "0.9918 ± 0.002 (3 seeds)"
    assert plus_minus([2.0, 4.0]) == "3 ± 1"
    assert number([]) == plus_minus([]) == "-"
    assert number(math.inf) == "inf"
    assert number([math.nan, 1.0]) == "nan ± nan (2 seeds)"
    assert ratio_number(1.0) == "1.000x"
    assert [ratio_number(x) for x in (0.25, 31.3, 1234.0, 0.0, math.inf)] == [
        "0.2500x",
        "31.30x",
        "1,234x",
        "0x",
        "infx",
    ]
    assert str(Quantity("gain", [1.5, 2.5], ">", 0, "points", -1)) == "gain: 2 ± 0.7 points (2 seeds, each > 0)"
    assert str(Quantity("gain", [1.5, 2.5], ">", 0, enough=1)) == "gain: 2 ± 0.7 (2 seeds, at least 1 > 0)"
    assert str(Quantity("gain", [1.5, 2.5], ">", 0)) == "gain: 2 ± 0.7 (2 seeds) > 0"
    assert str(Quantity("time", 0.25, unit="s")) == "time: 0.25 s"
    assert str(Quantity("RMSE ratio", 1.00004, "<=", 1.001, "times")) == "RMSE ratio: 1.000x <= 1.001x"
    assert str(Quantity("speed", [2.5, 3.5], ">", 1, "times")) == "speed: 3.000x ± 0.7 (2 seeds) > 1x"


def test_what_was_not_measured_says_what_does():
    found = completed(CLAIMS, [measured("good", Quantity("a", 1.0, ">", 0), reference={"x": 2.0})], "python -m e.x")
    assert [one.name for one in found] == list(CLAIMS)
    assert [one.holds for one in found] == [True, None, None, None]
    assert [one.command for one in found] == [
        "", "python -m e.x", "python -m e.x --dataset=mnist", "./launch.sh --cpu-devices=8 x",
    ]  # fmt: skip
    told = found_words(found[2])
    assert told.startswith("not measured (")
    assert "files mnist, hours" in told
    assert told.endswith(": python -m e.x --dataset=mnist")
    assert reference_words(found[0]) == "2 (x)"


def test_verdicts_in_words():
    held, fell = (measured("bad", Quantity("a", value, ">", 0))._replace(claim=CLAIMS["bad"]) for value in (1, -1))
    assert verdict(fell) == "no (expected: a paper says why)"
    assert verdict(held) == "yes (unexpected)"
    assert verdict(fell._replace(claim=CLAIMS["good"])) == "no"
    assert verdict(Finding("files")) == "not measured"


def test_findings_and_claims_must_agree():
    one = measured("good", Quantity("a", 1.0))
    with pytest.raises(ValueError, match=r"^none: .*CLAIMS"):
        completed(CLAIMS, [one._replace(name="none")], "")
    with pytest.raises(ValueError, match=r"^good: .*twice"):
        completed(CLAIMS, [one, one], "")
    with pytest.raises(ValueError, match=r"^good: .*quantity"):
        measured("good")


def test_a_record_is_plain_and_holds_numbers():
    told = measured(
        "good", Quantity("a", [np.float32(0.5), 1.5], ">", 0.25), Quantity("b", 3), reference={"x": np.float64(2)}
    )
    record = told._replace(claim=CLAIMS["good"]).record()
    assert json.loads(json.dumps(plain(record))) == {
        "name": "good", "text": "it is so", "rows": "A01 B02", "headline": False, "fails": "", "needs": "", "flags": "",
        "quantities": [
            {"name": "a", "values": [0.5, 1.5], "sign": ">", "limit": 0.25, "unit": "", "enough": 0},
            {"name": "b", "values": [3.0], "sign": "", "limit": None, "unit": "", "enough": 0},
        ],
        "reference": {"x": [2.0]}, "holds": True, "command": "",
    }  # fmt: skip


@pytest.mark.parametrize("width", [80, 150])
def test_the_table_is_as_wide_as_asked_and_a_quantity_has_its_line(width):
    found = completed(CLAIMS, [measured("good", Quantity("a" * 60, 1.0), Quantity("b", 2.0, ">", 1))], "python -m e.x")
    lines = claims_table(found, width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("b: 2 > 1" in line for line in lines)
    assert claims_table([found[0]._replace(claim=Claim("\x1b[2J"))]).count("\x1b") == 0
