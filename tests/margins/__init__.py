"""How far the bounds on trained figures are from what is measured: over ten seeds, and in worlds of other rounding.

    python -m tests.margins [NAME ...]   # experiments at their small scale, all of them without NAME
    python -m tests.margins tests        # the bounds of the tests marked `trained`
    python -m tests.margins tutorial     # the figures that docs/tutorial.md asserts

A bound has a margin if no seed and no world crosses it and it lies at least 3 standard deviations of the seeds from
their mean. The worlds are of seed 0: an older instruction set, and first weights that are off by a millionth, four
times. A bound on each of n seeds (`Bound.seeds`) is tried with 4n seeds, and at least 10, instead: at the rate at which
it held, k of n must hold with probability 0.999. If it always held, that rate is 1; where k is n, one failure is one
too many.

The verdicts are ok, CROSSED, THIN (fewer than 3 standard deviations), and free: a claim that is known not to hold needs
one bound that is safely crossed, and the others may fall as they like. With --keep=DIR an interrupted measurement goes
on; use a new folder after a change of the code. The exit status is 1 if a bound has no margin or a run failed.
"""
