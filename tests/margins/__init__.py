"""Margins of the bounds on results of training, measured over ten seeds and with different rounding.

    python -m tests.margins [NAME ...]   # experiments at their small scale; all of them without NAME
    python -m tests.margins tests        # bounds of the tests marked `trained`
    python -m tests.margins tutorial     # values that docs/tutorial.md asserts

A bound has a margin if no seed and no world crosses it and the mean over the seeds is at least 3 standard deviations
away from it. Worlds repeat seed 0 with different rounding: with an older instruction set, and four times with initial
weights perturbed by 1e-6. A bound on each of n seeds (`Bound.seeds`), of which k must hold, is measured with 4n seeds,
and at least 10, instead: at the observed rate, k of n must hold with probability 0.999. If k is n, one failure means no
margin.

The verdicts are ok, CROSSED, THIN (fewer than 3 standard deviations) and free. A claim that is expected not to hold
needs one bound that is safely crossed; its other bounds are free. --keep=DIR lets an interrupted measurement resume;
use a new folder after a change of the code. The exit status is 1 if a bound has no margin or a run failed.
"""
