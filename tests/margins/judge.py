"""Verdicts on bounds, and the table of the bounds of an experiment."""

import math
import statistics
from typing import NamedTuple

from scipy.stats import binom

from jaxdl.run.show.claims import KEEPS, Quantity
from tests.margins.worlds import PLAIN

LEAST = 3.0  # standard deviations
CERTAIN = 0.999


class Bound(NamedTuple):
    """A bound on a result of training: value sign limit.

    Attributes:
      value: the measured value; with `seeds`, that of the deciding seed.
      sign: one of the keys of KEEPS, for example ">=".
      limit: the bound.
      name: of the quantity.
      seeds: n > 0 for a statement about each of n seeds.
      enough: number of these seeds for which the statement must hold; 0: all.
      ratio: whether the value is a ratio, whose logarithm is averaged.
    """

    value: float
    sign: str
    limit: float
    name: str = ""
    seeds: int = 0
    enough: int = 0
    ratio: bool = False

    @property
    def gap(self) -> float:
        """The value minus the limit; for a ratio the difference of their logarithms."""
        return math.log(self.value / self.limit) if self.ratio else self.value - self.limit

    @property
    def holds(self) -> bool:
        """Whether the value satisfies the bound; NaN does not."""
        return bool(KEEPS[self.sign](self.value, self.limit))


def bounds_of(quantities, alone=True):
    """Returns the Bounds of quantities, except those without a limit or with sign "==".

    alone: whether a run has one seed and is one trial of a statement about several seeds; else it is the whole
    statement.
    """
    held = [Quantity(**q) if isinstance(q, dict) else q for q in quantities]
    each = lambda q: (len(q.values), q.enough) if q.enough and alone else (0, 0)
    ratio = lambda q: q.unit.startswith("times")
    return [Bound(q.value, q.sign, q.limit, q.name, *each(q), ratio(q)) for q in held if q.sign not in ("", "==")]


class Margin(NamedTuple):
    """Statistics of a bound over the seeds; `distance` is from the bound to the mean, in standard deviations."""

    mean: float
    sd: float
    worst: float
    distance: float
    verdict: str


def judge(seeds, worlds=(), expected=True):
    """Returns the Margin of a bound from its instances over seeds and in the worlds of seed 0.

    Limits may differ between seeds (least squares on different splits), so the gaps are averaged. If the claim is not
    expected to hold, the values must be on the other side of the bound.
    """
    first = seeds[0]
    side = (1 if first.sign[0] == ">" else -1) * (1 if expected else -1)
    gap = lambda bound: side * bound.gap
    good = lambda bound: bound.holds == expected and not math.isnan(bound.value)
    gaps, values = [gap(b) for b in seeds], [b.value for b in seeds]
    mean, sd = statistics.fmean(gaps), spread(gaps)
    distance = mean / sd if sd else math.copysign(math.inf, mean)
    if first.seeds:
        k = first.enough or first.seeds
        likely = chance(k, first.seeds, sum(map(good, seeds)), len(seeds)) >= CERTAIN
        verdict = "ok" if likely and (k < first.seeds or all(map(good, worlds))) else "CROSSED"
    elif not all(map(good, [*seeds, *worlds])):
        verdict = "CROSSED"
    else:
        verdict = "ok" if not sd or distance >= LEAST else "THIN"
    return Margin(statistics.fmean(values), spread(values), min(seeds, key=gap).value, distance, verdict)


def spread(values):
    """Returns the sample standard deviation: exactly 0 if all values are equal, NaN if one is not finite."""
    if not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values) if len(values) > 1 else 0.0


def chance(k, n, successes, tried):
    """Returns the probability that at least k of n seeds hold at the observed rate, successes / tried."""
    return float(binom.sf(k - 1, n, successes / tried))


def rows(runs):
    """Returns the rows of the table from {(seed, world): run}: (claim, bound, Margin over seeds, Margin in worlds)."""
    out, keys = [], list(dict.fromkeys(key for run in runs.values() for key in run["claims"]))
    for key in keys:
        found = [run["claims"].get(key) for run in runs.values()]
        first = next(claim for claim in found if claim)
        names, lines = dict.fromkeys(name for claim in found if claim for name in claim["bounds"]), []
        for name in names:
            made = {at: run["claims"].get(key, {"bounds": {}})["bounds"].get(name) for at, run in runs.items()}
            like = Bound(*next(values for values in made.values() if values))
            bounds = {at: Bound(*values) if values else like._replace(value=math.nan) for at, values in made.items()}
            seeds = [bound for (_, world), bound in bounds.items() if world == PLAIN]
            worlds = [bound for (_, world), bound in bounds.items() if world != PLAIN]
            margin, elsewhere = judge(seeds, worlds, first["expected"]), judge(worlds or seeds, (), first["expected"])
            lines.append((key, f"{name} {like.sign} {like.limit:.6g}", margin, elsewhere))
        if not first["expected"] and any(margin.verdict == "ok" for _, _, margin, _ in lines):
            free = lambda margin: margin if margin.verdict == "ok" else margin._replace(verdict="free")
            lines = [(key, bound, free(margin), elsewhere) for key, bound, margin, elsewhere in lines]
        holds = [claim and claim["holds"] for claim in found]
        shares = any(values[4] for values in first["bounds"].values())
        if not shares and set(holds) not in ({None}, {first["expected"]}):
            nothing = Margin(math.nan, math.nan, math.nan, math.nan, "CROSSED")
            lines.append((key, f"as expected in {holds.count(first['expected'])} of {len(holds)}", nothing, nothing))
        out += lines
    return out


def counts(runs):
    """Returns (number of bounds with a margin, number of bounds)."""
    found = [margin.verdict in ("ok", "free") for _, _, margin, _ in rows(runs)]
    return sum(found), len(found)


def report(name, runs):
    """Returns the table of one experiment as text, and whether all its bounds have a margin."""
    seeds = sum(world == PLAIN for _, world in runs)
    if not seeds:
        return f"{name}: no run finished", False
    found = rows(runs)
    cells = [("claim", "bound", "mean ± sd", "worst", "distance", "worst of worlds", "verdict")]
    for key, bound, m, w in found:
        numbers = f"{m.mean:.5g} ± {m.sd:.2g}", f"{m.worst:.5g}", f"{m.distance:.1f} sd", f"{w.worst:.5g}"
        claim = key if len(key) <= 70 else f"{key[:33]} ... {key[-32:]}"
        cells.append((claim, bound, *numbers[:3], f"{numbers[3]} ({w.distance:.1f} sd)", m.verdict))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in cells]
    plain = runs.get((0, PLAIN), {}).get("digest")
    differ = [world for (_, world), run in runs.items() if world != PLAIN and run["digest"] != plain]
    head = f"{name}: {seeds} seeds; bits differ in {', '.join(differ) or 'no world'}"
    safe = all(margin.verdict in ("ok", "free") for _, _, margin, _ in found)
    return "\n".join([head, *(table if found else ["no bounds"])]), safe
