"""The points of a sweep: all combinations of lists of values, or points drawn at random from lists and ranges.

    learning_rate=loguniform(1e-4,1e-1);layers=int(1,4);optimizer=sgd,adam

A range has one of three forms, and an integer flag takes whole numbers from any of them:

    uniform(LOW,HIGH)      every part of the range is equally likely
    loguniform(LOW,HIGH)   every factor is equally likely: as many values in 0.001..0.01 as in 0.01..0.1; LOW > 0
    int(LOW,HIGH)          a whole number, LOW and HIGH included

Trial i is a function of (seed, i) alone, and each flag has its own stream of random numbers: more trials begin with the
same ones, and another flag does not change what is drawn for the first. A drawn number is rounded to a few digits, so
the command of a trial is short and repeats it exactly. Nothing here has side effects.

Bergstra and Bengio 2012, Random search for hyper-parameter optimization.
"""

import csv
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import flags as absl_flags

from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import WORDS, Flag, FlagError, check_range, flags_of, nearest, shown
from jaxdl.run.store.runs import PLACE

FIXED = PLACE | {"sweep", "trials", "monitor", "monitor_mode"}  # the points are compared by one metric
PARSERS: dict[type, Any] = {
    int: absl_flags.IntegerParser(),
    float: absl_flags.FloatParser(),
    bool: absl_flags.BooleanParser(),
    str: absl_flags.ArgumentParser(),
}
RANGES = ("uniform", "loguniform", "int")
DIGITS = 3  # significant digits of a drawn number, at least; as many of the width of its range


class Range(NamedTuple):
    """The numbers from `low` to `high`, both included, in the distribution `kind`, one of RANGES."""

    kind: str
    low: float
    high: float
    whole: bool  # of integers

    def __str__(self) -> str:
        """As it is written in --sweep."""
        return f"{self.kind}({shown(self.low)},{shown(self.high)})"

    def draw(self, random: np.random.Generator) -> float:
        """Returns a number, rounded to DIGITS significant digits of itself and of high - low."""
        half = 0.5 if self.whole else 0.0  # rounding then takes the first and last integer as often as the others
        low, high = self.low - half, self.high + half
        value = (
            random.uniform(math.log(low), math.log(high)) if self.kind == "loguniform" else random.uniform(low, high)
        )
        value = math.exp(value) if self.kind == "loguniform" else value
        scale = min(abs(value) or math.inf, high - low)
        value = float(round(value, 0 if self.whole else DIGITS - 1 - math.floor(math.log10(scale))))
        return min(max(value, self.low), self.high)


Space = dict[str, list[Any] | Range]  # of each swept flag: its values, or a range


def space(config_class: type[RunConfig], text: str) -> Space:
    """Parses "flag=value,value;flag=RANGE;...".

    A value that contains a comma is quoted. For a flag that is not set by default, the word none means not set.

    Raises:
      FlagError: a flag is unknown (the message suggests one), cannot be swept, occurs twice or has no values; a value
        has the wrong type or occurs twice; a range is not one, or exceeds the flag's.
    """
    table, chosen = {f.name: f for f in flags_of(config_class)}, Space()
    for clause in re.split(r';(?=(?:[^"]*"[^"]*")*[^"]*$)', text):  # semicolons outside of quotes
        name, _, values = (part.strip() for part in clause.partition("="))
        name = name.removeprefix("--")
        words = [word.strip() for word in next(csv.reader([values], skipinitialspace=True), [])]
        if not name or not words or not all(words):
            raise FlagError(f'--sweep={text}: must be "flag=value,value;flag=value,...", not {clause.strip()!r}')
        if name not in table:
            near = nearest(name, table)
            raise FlagError(f"--sweep: {name}: no such flag; did you mean {near}? (--help lists all)")
        if name in FIXED:
            raise FlagError(f"--sweep: {name} cannot be swept; it must be the same for all points")
        if name in chosen:
            raise FlagError(f"--sweep: {name} occurs twice; give its values in one list")
        numeric = table[name].type in (int, float)
        if "(" in values if numeric else re.match(rf"({'|'.join(RANGES)})\(", values):
            chosen[name] = _range(table[name], values)
            continue
        chosen[name] = found = [_value(table[name], word) for word in words]
        if twice := [value for value in found if found.count(value) > 1]:
            raise FlagError(f"--sweep: {name} has the value {shown(twice[0])} twice")
    return chosen


def _value(f: Flag, word: str) -> Any:
    if f.optional and f.default is None and word == "none":
        return None
    try:
        return PARSERS[f.type].parse(word)
    except (ValueError, TypeError):
        raise FlagError(f"--sweep: --{f.name}={word}: must be {WORDS[f.type]}") from None


def _range(f: Flag, text: str) -> Range:
    told = f"--sweep: {f.name}={text}"
    found = re.fullmatch(r"(\w*)\(([^(),]*),([^(),]*)\)", text)
    if f.type not in (int, float):
        raise FlagError(f"{told}: {f.name} is {WORDS[f.type]}, so it has no range; list its values")
    if not found or found[1] not in RANGES:
        raise FlagError(f"{told}: must be a list of values or one of {', '.join(f'{k}(LOW,HIGH)' for k in RANGES)}")
    kind, whole = found[1], found[1] == "int" or f.type is int
    ends = []
    for word in (found[2].strip(), found[3].strip()):
        try:
            ends.append(PARSERS[int if whole else float].parse(word))
        except (ValueError, TypeError):
            raise FlagError(f"{told}: {word or 'an end'} must be {WORDS[int if whole else float]}") from None
    low, high = ends
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise FlagError(f"{told}: LOW must be below HIGH, and both finite")
    if kind == "loguniform" and low <= 0:
        raise FlagError(f"{told}: LOW must be above 0, because its logarithm is taken; or use uniform")
    for end in ends:
        try:
            check_range(f.name, f.type, f.rule, f.type(end))
        except FlagError as error:
            raise FlagError(f"{told}: {error}") from None
    return Range(kind, f.type(low), f.type(high), whole)


def grid(space: Mapping[str, list[Any] | Range]) -> list[dict[str, Any]]:
    """Returns all combinations; the last flag varies fastest.

    Raises:
      FlagError: a flag has a range, which has no end of values.
    """
    for name, values in space.items():
        if isinstance(values, Range):
            raise FlagError(f"--sweep: {name}={values} is a range to draw from; add --trials=20, the number of points")
    lists = [values for values in space.values() if isinstance(values, list)]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def trial(space: Mapping[str, list[Any] | Range], seed: int, i: int) -> dict[str, Any]:
    """Returns the flags of trial i, each a function of (seed, i) and of the flag's name and values alone."""
    drawn = dict[str, Any]()
    for name, values in space.items():
        random = np.random.default_rng((seed, i, int.from_bytes(name.encode(), "big")))
        if isinstance(values, Range):
            value = values.draw(random)
            drawn[name] = int(value) if isinstance(values.low, int) else value
        else:
            drawn[name] = values[random.integers(len(values))]
    return drawn


def trials(space: Mapping[str, list[Any] | Range], seed: int, count: int) -> dict[int, dict[str, Any]]:
    """Returns the first `count` different trials, {i: flags}; one that equals an earlier one is left out.

    Raises:
      FlagError: there are fewer different points, as where all flags have short lists.
    """
    found = dict[int, dict[str, Any]]()
    for i in range(100 * count + 1000):  # all of n equally likely points are found in about n log n draws
        drawn = trial(space, seed, i)
        if drawn not in found.values():
            found[i] = drawn
        if len(found) == count:
            return found
    told = f"only {len(found)} different points were drawn; give a smaller number, or wider lists"
    raise FlagError(f"--trials={count}: {told}")
