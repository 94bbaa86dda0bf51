"""Writes the documents that are made of docs/claims: docs/mission.md, docs/results.md and the README's results.

    python -m tools.mission write

docs/mission.tsv has the rows of the study notes; a line whose first cell is one letter begins a section. A record holds
values by the names of claims; the text of a claim, and the rows that it answers, are in the experiment alone. Records
are made by `python -m experiments reproduce`.
"""

import csv
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxdl import packaged
from jaxdl.run.command.flags import FlagError, parse
from jaxdl.run.records.record import Record, claims_of, findings, parts, read_records
from jaxdl.run.show.claims import Finding, found_words, reference_words
from jaxdl.run.store.files import write
from tools.results import first_results, results
from tools.tables import cell, code, head, holds, line, text

ROOT = Path(__file__).parents[1]
BEGIN = "<!-- results: written by python -m tools.mission write -->\n"
END = "<!-- end of results -->\n"
MACHINE_PATH = re.compile(r"(^|[\s=(\"'])(~|file:/)?/\w")
HEAD = """# The mission, row by row

The five study notes on deep learning that jaxdl implements, in 253 rows. Each row is one topic, quoted from its note
(S0 basic concepts, S1 a lecture, S2 models and code, S3 a survey course, S4 questions and answers), with the claims
that answer it: measured values, reference values and the command. A row is shown if all its claims hold. A
claim that does not hold is a result too; if that was expected, the reason is given.

This page is generated from [docs/claims](claims) by `python -m tools.mission write`.
[docs/results.md](results.md) has the same claims by experiment.
"""


class Row(NamedTuple):
    """One row of the notes: its id, a title, which note says it in which words, the experiments planned for it."""

    id: str
    title: str
    note: str
    words: str
    experiments: str


def read_rows(path: Path = ROOT / "docs/mission.tsv") -> tuple[dict[str, str], dict[str, Row]]:
    """({letter: title of the section}, {id: row}), both in order."""
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()[1:], delimiter="\t", quoting=csv.QUOTE_NONE))
    return {line[0]: line[1] for line in lines if len(line[0]) == 1}, {x[0]: Row(*x) for x in lines if len(x[0]) > 1}


def faults(record: Record, rows: dict[str, Row]) -> list[str]:
    """What is wrong with a record: an experiment, a flag, a claim or a row that is not there, a path of one machine."""
    out = []
    _, name, flags = parts(record["command"])
    try:
        parse(packaged.experiment(name).Config, flags)
    except ModuleNotFoundError:
        out.append(f"there is no experiment {name}")
    except FlagError as error:
        out.append(str(error))
    claims = claims_of(name)
    out += [f"there is no claim {claim} of {name}" for claim in record["claims"] if claims and claim not in claims]
    out += [f"there is no row {row}" for claim in claims.values() for row in claim.rows.split() if row not in rows]
    texts = [record["command"], *(source for claim in record["claims"].values() for source in claim["reference"])]
    return out + [f"a path of one machine: {text}" for text in texts if MACHINE_PATH.search(text)]


def gather(records: Sequence[Record], rows: dict[str, Row]) -> dict[str, list[tuple[Finding, str]]]:
    """{id: (finding, its command)}: all that was measured of a row; of a claim that no record has, what measures it."""
    found: dict[str, list[tuple[Finding, str]]] = {id: [] for id in rows}
    measured = {(record["experiment"], name) for record in records for name in record["claims"]}
    open_ones = set[tuple[str, str]]()
    for record in records:
        for one in findings(record):
            key = record["experiment"], one.name
            if one.holds is None and (key in measured or key in open_ones):
                continue
            open_ones.add(key)
            for id in one.claim.rows.split():
                found[id].append((one, one.command or record["command"]))
    return found


def state(pairs: Sequence[tuple[Finding, str]]) -> str:
    """Of one row: shown, not holding or open."""
    verdicts = [one.holds for one, _ in pairs]
    return "not holding" if False in verdicts else "open" if None in verdicts or not verdicts else "shown"


def mission(records: Sequence[Record], sections: dict[str, str], rows: dict[str, Row]) -> str:
    """The page docs/mission.md."""
    found, states = gather(records, rows), ("shown", "not holding", "open")
    counts = {letter: Counter(state(found[id]) for id in rows if id[0] == letter) for letter in sections}
    every = sum(counts.values(), Counter[str]())
    total = f"**{every['shown']} rows shown, {every['not holding']} measured and not holding, {every['open']} open**"
    out = [HEAD, f"{total}, {len(rows)} in all.\n", *head("section", *states, numbers=3)]
    out += [line(f"{k} {title}", *(str(counts[k][s]) for s in states)) for k, title in sections.items()]
    for letter, title in sections.items():
        columns = ("row", "the notes", "claim", "measured", "reference (source)", "holds", "command")
        out += [f"\n## {letter} {title}\n", *head(*columns)]
        for row in (row for id, row in rows.items() if id[0] == letter):
            first = (f"**{row.id}** {text(row.title)}", f"{row.note} «{text(row.words)}»")
            if not found[row.id]:
                planned = "-" if row.experiments == "*" else f"planned: {row.experiments.replace(' ', ', ')}"
                out.append(line(*first, "-", "-", "-", "-", planned))
            for one, command in found[row.id]:
                told = found_words(one) if one.holds is not None else "-"
                middle = (text(one.claim.text), cell(told), cell(reference_words(one)), holds(one))
                out.append(line(*first, *middle, code(command)))
                first = ("", "")
    return "\n".join(out) + "\n"


def documents(root: Path = ROOT) -> dict[Path, str]:
    """The documents as docs/claims makes them.

    Raises:
      ValueError: README.md lacks the place for its results, or a record of one of them.
    """
    records, (sections, rows) = read_records(root / "docs/claims"), read_rows(root / "docs/mission.tsv")
    readme = (root / "README.md").read_text(encoding="utf-8")
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"README.md: the lines {BEGIN!r} and {END!r}, between which its results belong, are missing")
    return {
        root / "docs/mission.md": mission(records, sections, rows),
        root / "docs/results.md": results(records),
        root / "README.md": f"{before}{begin}\n{first_results(records)}\n{end}{after}",
    }


def main(words: Sequence[str]) -> int:
    """Does what the command line says; the exit status."""
    if list(words) != ["write"]:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    for path, content in documents().items():
        write(path, content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
