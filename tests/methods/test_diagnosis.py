"""Each rule fires beyond its threshold and not below, in the order of causes."""

import math

import pytest

from jaxdl.methods import diagnosis as d

HEALTHY = d.Evidence(
    train=0.99, valid=0.96, test=0.95, valid_noise=0.04, test_noise=0.04, probe=0.94, chance=0.1, beyond=0.9,
    noise=0.05, loss=0.02, start_loss=2.4, constant_loss=2.3, rate=0.1, last_rate=0.1, scale=0.8, equal=0.0, dead=0.05,
    missing=0.0, vanishing=0.4, auc=0.5, rise=1.0,
)  # fmt: skip
POOR = HEALTHY._replace(
    train=0.4,
    valid=0.4,
    test=0.4,
    loss=2.0,
    same=1.95,
    again=2.0,
    higher=1.9,
    higher_rate=1.0,
    lower=2.1,
    lower_rate=0.01,
)


def names(evidence):
    return [one.fault for one in d.seen(d.diagnose(evidence))]


def test_a_healthy_run_has_no_fault():
    assert names(HEALTHY) == []
    assert "training score 0.99" in d.summary_of(HEALTHY)
    assert d.summary_of(d.Evidence()) == "nothing was measured"


def test_without_measurements_nothing_is_seen():
    assert names(d.Evidence()) == []
    assert all(one.evidence and one.advice.words for one in d.diagnose(d.Evidence()))


FIRST = [
    (d.LABELS, {"beyond": 0.01, "valid": 0.11, "probe": 0.1}),
    (d.SCALES, {"scale": 20.0}),
    (d.EQUAL, {"equal": 0.67, "dead": 1.0}),
    (d.DEAD, {"dead": 1.0}),
    (d.GRADIENT, {"missing": 0.9}),
    (d.VANISHING, {"vanishing": 1e-5}),
    (d.INITIAL, {"start_loss": 100.0}),
    (d.RATE_HIGH, {"lower": 0.5, "again": 3.0}),
    (d.RATE_HIGH, {"diverged": 17.0}),
    (d.RATE_LOW, {"higher": 0.5}),
    (d.OPTIMISATION, {"same": 0.5, "higher": 0.3}),
    (d.MODEL_BIAS, {}),
]


@pytest.mark.parametrize(("fault", "changes"), FIRST)
def test_the_first_fault_of_a_poor_fit(fault, changes):
    assert names(POOR._replace(**changes))[0] == fault


@pytest.mark.parametrize(("fault", "changes"), [one for one in FIRST if one[0] not in (d.LABELS, d.MODEL_BIAS)])
def test_what_does_no_harm_is_not_a_fault(fault, changes):
    harmless = HEALTHY._replace(**{k: v for k, v in changes.items() if k != "diverged"}, frozen=1.0)
    assert fault not in names(harmless)


def test_gradients_that_are_missing_without_a_flag_are_always_named():
    assert names(HEALTHY._replace(missing=0.9)) == [d.GRADIENT]
    assert names(HEALTHY._replace(missing=0.9, frozen=1.0)) == []


def test_unscaled_inputs_are_named_if_they_inflate_the_initial_loss():
    assert names(HEALTHY._replace(scale=500.0, start_loss=300.0)) == [d.SCALES]
    assert names(HEALTHY._replace(scale=500.0)) == []


def test_gaps_between_parts():
    assert names(HEALTHY._replace(valid=0.8, test=0.8)) == [d.OVERFITTING]
    assert names(HEALTHY._replace(test=0.7)) == [d.MISMATCH]
    assert names(HEALTHY._replace(valid=0.88, valid_noise=0.15, test=0.88)) == []
    alone = HEALTHY._replace(valid=math.nan, test=0.7)
    assert names(alone) == []
    assert names(alone._replace(auc=0.9)) == [d.MISMATCH]
    assert names(d.Evidence(rise=2.0)) == [d.OVERFITTING]


def test_a_rate_at_which_the_loss_still_falls_is_not_too_large():
    assert names(POOR._replace(lower=0.5, again=3.0, same=0.1, higher=9.0))[0] == d.OPTIMISATION


def test_thresholds_are_exact():
    assert names(HEALTHY._replace(test=HEALTHY.valid - d.GAP + 1e-6)) == []
    assert names(HEALTHY._replace(test=HEALTHY.valid - d.GAP - 1e-6)) == [d.MISMATCH]
    assert d.poor(HEALTHY._replace(train=HEALTHY.probe - d.POOR - 1e-6)) > 1
    assert d.over(math.nan, 1.0) == 0


def test_evidence_of_a_rate_that_is_too_large_names_what_is_known():
    said = lambda e: next(one.evidence for one in d.diagnose(e) if one.fault == d.RATE_HIGH)
    assert said(d.Evidence(diverged=17.0)) == "not finite at step 17"
    assert said(d.Evidence(diverged=0.0, loss=3.0)) == "not finite; loss 3 at the end"
    assert said(POOR).endswith("a short trial reaches 2 at the rate of the run, 2.1 at 0.01")


def test_evidence_of_a_mismatch_says_whether_the_inputs_differ():
    said = lambda **e: next(
        one.evidence for one in d.diagnose(HEALTHY._replace(test=0.7, **e)) if one.fault == d.MISMATCH
    )
    assert said(auc=0.9).endswith("AUC 0.9 (the inputs differ)")
    assert said(auc=0.5).endswith("AUC 0.5 (equal inputs: their labels differ)")
    assert said(auc=math.nan).endswith("test score 0.7")


def test_advice_names_a_flag():
    advice = {one.fault: one.advice.flags for one in d.diagnose(POOR._replace(last_rate=1e-5))}
    assert advice[d.RATE_LOW] == (("learning_rate", 1.0),)
    assert advice[d.RATE_HIGH] == (("learning_rate", 0.01),)
    assert advice[d.OPTIMISATION][0] == ("schedule", "constant")
