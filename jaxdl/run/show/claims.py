"""Claims: what an experiment expects, the quantities that it measures, and how both are shown.

    CLAIMS = {
        "accuracy": Claim("a network classifies digits as well as published", rows="digits", headline=True),
        "script": Claim("the losses equal those of PyTorch", needs="extra:peers"),
    }

    def report(config, data):
        ...
        yield measured("accuracy", Quantity("accuracy", result.values("accuracy"), ">=", 0.985),
                       reference={"SVC": 0.98})

A claim has a name, and a text that is the same in every run; numbers are in its quantities only. A claim that `report`
does not yield was not measured, and is listed with the command that measures it. Nothing here has side effects.
"""

import math
import operator
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np

from jaxdl.streams import printable

KEEPS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}
REASONS = ("gpu", "files", "extra", "hours")  # the first part of each word in a claim's `needs`
WORDS = {True: "yes", False: "no", None: "not measured"}


class Claim(NamedTuple):
    """A statement of an experiment, made before anything is measured.

    text: without numbers. rows: names of the items that it covers, in a list of yours, separated by spaces. headline:
    it is among the first to be shown. fails: why it is known not to hold, with the source; "" if it should hold. needs:
    what the default command lacks to measure it, separated by spaces: gpu, files:NAME, extra:NAME, hours. flags: those
    of the command that measures it, or a whole command; "" if the default command does.
    """

    text: str
    rows: str = ""
    headline: bool = False
    fails: str = ""
    needs: str = ""
    flags: str = ""


@dataclass(frozen=True)
class Quantity:
    """A measured number, or one per seed, and its limit.

    sign and limit: one of >=, <=, >, <, == and a number; without them the quantity is only reported. To compare two
    trained quantities, give the sign of their difference: Quantity("loss of gru - rnn", a - b, "<", 0). enough: how
    many of the seeds must keep the limit on their own; 0: their mean must, -1: every seed must. unit: follows the
    number; "times" marks a ratio, shown as 1.250x.
    """

    name: str
    values: Any  # a number, or one per seed; stored as a tuple
    sign: str = ""
    limit: float = math.nan
    unit: str = ""
    enough: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown sign, or if `enough` exceeds the number of seeds."""
        object.__setattr__(self, "values", numbers(self.values))
        object.__setattr__(self, "limit", float(self.limit))
        if self.sign not in ("", *KEEPS):
            raise ValueError(f"{self.name}: {self.sign!r} is not one of {' '.join(KEEPS)}")
        if self.enough < 0:
            object.__setattr__(self, "enough", len(self.values))
        if not 0 <= self.enough <= len(self.values) or not self.values:
            raise ValueError(f"{self.name}: enough={self.enough} is not possible with {len(self.values)} seeds")

    @property
    def value(self) -> float:
        """The value that decides: the mean of the seeds, or the `enough`-th best of them."""
        if not self.enough:
            return fmean(self.values)
        if any(map(math.isnan, self.values)):
            return math.nan
        return sorted(self.values, reverse=self.sign.startswith(">"))[self.enough - 1]

    @property
    def holds(self) -> bool:
        """Whether the limit is kept; never for NaN, always without a limit."""
        return not self.sign or bool(KEEPS[self.sign](self.value, self.limit))

    def __str__(self) -> str:
        """Name, value, unit and limit: accuracy: 0.9917 ± 0.003 (5 seeds) >= 0.985."""
        ratio = self.unit in ("times", "x")
        value = plus_minus(self.values, ratio=ratio) + (f" {self.unit}" if self.unit and not ratio else "")
        limit = f"{self.sign} {plain_number(self.limit)}{'x' * ratio}" if self.sign else ""
        many = len(self.values)
        seeds = f"({many} seeds)" if many > 1 else ""
        if many > 1 and limit and self.enough:
            seeds, limit = f"({many} seeds, {'each' if self.enough == many else f'at least {self.enough}'} {limit})", ""
        return " ".join(filter(None, (f"{self.name}:", value, seeds, limit)))


class Finding(NamedTuple):
    """A claim with the results of a run; without quantities it was not measured.

    reference: values from other sources, keyed by source. command: the command that measures the claim, if this run
    did not.
    """

    name: str
    quantities: tuple[Quantity, ...] = ()
    reference: Mapping[str, Any] = {}
    claim: Claim = Claim("")
    command: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether all quantities keep their limits; None if it was not measured."""
        return all(quantity.holds for quantity in self.quantities) if self.quantities else None

    def record(self) -> dict[str, Any]:
        """Returns everything as values that JSON can hold."""
        quantities = [
            {**vars(quantity), "limit": quantity.limit if quantity.sign else None} for quantity in self.quantities
        ]
        reference = {source: list(numbers(value)) for source, value in self.reference.items()}
        found = {"quantities": quantities, "reference": reference, "holds": self.holds, "command": self.command}
        return {"name": self.name, **self.claim._asdict(), **found}


def measured(name: str, *quantities: Quantity, reference: Mapping[str, Any] | None = None) -> Finding:
    """Returns what a run measured for the claim of this name.

    Args:
      name: of a claim in the experiment's CLAIMS.
      quantities: at least one; the claim holds if all of them keep their limits.
      reference: {source: a number, or one per seed}.

    Raises:
      ValueError: no quantities.
    """
    if not quantities:
        raise ValueError(f"{name}: requires at least one quantity")
    return Finding(name, quantities, reference or {})


def completed(claims: Mapping[str, Claim], found: Iterable[Finding], command: str) -> list[Finding]:
    """Returns the findings in the order of the claims; a claim that was not measured gets the command that measures it.

    Raises:
      ValueError: a finding without a claim, or two for one.
    """
    by_name: dict[str, Finding] = {}
    for one in found:
        if one.name not in claims or one.name in by_name:
            raise ValueError(f"{one.name}: is {'measured twice' if one.name in by_name else 'not in CLAIMS'}")
        by_name[one.name] = one
    return [
        by_name[name]._replace(claim=claim)
        if name in by_name
        else Finding(name, claim=claim, command=_command(command, claim.flags))
        for name, claim in claims.items()
    ]


def _command(default: str, flags: str) -> str:
    return f"{default} {flags}".rstrip() if flags.startswith("-") or not flags else flags


def numbers(value: Any) -> tuple[float, ...]:
    """Returns a number, or several, as a tuple."""
    return tuple(np.atleast_1d(np.asarray(value, np.float64)).tolist())


def plain_number(value: float, digits: int = 4) -> str:
    """Formats one number for people: 61,706, 55,320.4 as 55,320, 0.9917, 8e-06."""
    whole = math.isfinite(value) and abs(value) < 1e15 and (value == round(value) or abs(value) >= 10**digits)
    return f"{value:,.0f}" if whole else f"{value:.{digits}g}"


def ratio_number(value: float, digits: int = 4) -> str:
    """Formats a ratio with all its digits: 1.000x, 0.2500x, 31.30x, 1,234x."""
    short = math.isfinite(value) and value and abs(value) < 10 ** (digits - 1)
    return (f"{value:#.{digits}g}" if short else plain_number(value, digits)) + "x"


def plus_minus(values: Any, digits: int = 4, ratio: bool = False) -> str:
    """Formats mean ± sample standard deviation; a single value without, and no value as "-"."""
    values, shown = numbers(values), ratio_number if ratio else plain_number
    if len(values) < 2:
        return shown(values[0], digits) if values else "-"
    finite = all(map(math.isfinite, values))
    mean, spread = (fmean(values), stdev(values)) if finite else (math.nan, math.nan)
    spread = float(f"{spread:.1g}")
    return f"{shown(mean, digits)} ± {spread:,.0f}" if spread >= 10 else f"{shown(mean, digits)} ± {spread:g}"


def number(values: Any) -> str:
    """Formats as `plus_minus` does, with the number of seeds."""
    values = numbers(values)
    return plus_minus(values) + (f" ({len(values)} seeds)" if len(values) > 1 else "")


def found_words(finding: Finding) -> str:
    """Returns what was measured, one line each; else what would measure it."""
    if finding.quantities:
        return "\n".join(map(str, finding.quantities))
    need = f" (requires {', '.join(finding.claim.needs.split()).replace(':', ' ')})" if finding.claim.needs else ""
    return f"not measured{need}; to measure it: {finding.command}"


def reference_words(finding: Finding) -> str:
    """Returns the reference values with their sources, one line each."""
    return "\n".join(f"{number(value)} ({source})" for source, value in finding.reference.items())


def verdict(finding: Finding) -> str:
    """Returns "yes", "no" or "not measured", and whether that was expected."""
    word = WORDS[finding.holds]
    if finding.holds is None or not finding.claim.fails:
        return word
    return f"{word} (expected: {finding.claim.fails})" if not finding.holds else f"{word} (unexpected)"


def claims_table(findings: Sequence[Finding], width: int | None = None, rows: bool = False) -> str:
    """Returns the measured claims as a table as wide as the terminal, and a line with those not measured.

    rows: adds a column with the rows of a syllabus that a claim covers.
    """
    width = max(60, min(width or shutil.get_terminal_size((120, 24)).columns, 150))
    found, others = [f for f in findings if f.quantities], [f.name for f in findings if not f.quantities]
    left = f"not measured by this command: {', '.join(others)} (summary.json lists the commands that do)"
    if not found:
        return "\n".join(_wrapped(left, width))
    cells: list[tuple[str, ...]] = [("claim", "measured", "reference (source)", "holds")]
    cells += [(f.claim.text, found_words(f), reference_words(f), verdict(f)) for f in found]
    answers = ["rows", *(f.claim.rows or f.name for f in found)]
    narrow, holds = max(len(word) for answer in answers for word in answer.split()), 10
    part = (width - holds - 6 - rows * (narrow + 2)) // 3
    widths: tuple[int, ...] = (part, part, part, holds)
    if rows:
        cells, widths = [(a, *row) for a, row in zip(answers, cells, strict=True)], (narrow, *widths)
    rule = "  ".join("-" * w for w in widths)
    lines = [rule]
    for row in cells:
        wrapped = [_wrapped(text, w) for text, w in zip(row, widths, strict=True)]
        for i in range(max(map(len, wrapped))):
            line = "  ".join((w[i] if i < len(w) else "").ljust(n) for w, n in zip(wrapped, widths, strict=True))
            lines.append(line.rstrip())
        lines.append(rule)
    return "\n".join(lines + (_wrapped(left, width) if others else []))


def _wrapped(text: str, width: int) -> list[str]:
    """Returns lines of at most `width`; continuation lines are indented."""
    wrap = lambda line: textwrap.wrap(printable(" ".join(line.split())), width, subsequent_indent="  " * ("\n" in text))
    return [part for line in text.split("\n") for part in wrap(line)] or [""]
