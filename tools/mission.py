"""Keeps the claims of finished runs in docs/claims, and writes docs/mission.md and the README's results from them.

    python -m tools.mission add RUNDIR
    python -m tools.mission write

docs/mission.tsv has the rows of the study notes; a line whose first cell is one letter begins a section. A record holds
figures by the names of claims; what a claim says, and which rows it answers, stands in the experiment alone.
"""

import csv
import importlib
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxdl.run.command.flags import FlagError, parse
from jaxdl.run.show.claims import Claim, Finding, Quantity, completed, found_words, reference_words, verdict
from jaxdl.run.store.files import plain, read_json, write
from jaxdl.run.store.runs import PLACE
from jaxdl.streams import printable

ROOT = Path(__file__).parents[1]
PREFIX = "python -m experiments."
BEGIN = "<!-- results: written by python -m tools.mission write -->\n"
END = "<!-- end of results -->\n"
MACHINE_PATH = re.compile(r"(^|[\s=(\"'])(~|file:/)?/\w")
HEAD = """# The mission, row by row

Five study notes on deep learning, taken apart: each row is one thing that they name, in their own words (S0 basic
concepts, S1 a lecture, S2 models and code, S3 a survey course, S4 questions and answers). Beside it stands what a run
measured, a figure to hold beside that, and the command. A row is shown where every claim that was measured holds; "no"
is a result too, and why it was expected stands beside it. `python -m tools.mission write` writes this page from
[docs/claims](claims).
"""


class Row(NamedTuple):
    """One row of the notes: its id, a title, which note says it in which words, the experiments planned for it."""

    id: str
    title: str
    note: str
    words: str
    experiments: str


Record = dict[str, Any]  # experiment, command, device, jax, seconds, claims: one file of docs/claims


def read_rows(path: Path = ROOT / "docs/mission.tsv") -> tuple[dict[str, str], dict[str, Row]]:
    """({letter: title of the section}, {id: row}), both in order."""
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()[1:], delimiter="\t", quoting=csv.QUOTE_NONE))
    return {line[0]: line[1] for line in lines if len(line[0]) == 1}, {x[0]: Row(*x) for x in lines if len(x[0]) > 1}


def read_records(folder: Path = ROOT / "docs/claims") -> list[Record]:
    """Every recorded command, those of one experiment together and the shortest first."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return sorted(records, key=lambda r: (r["command"].split()[2], len(r["command"].split()), r["command"]))


def short(command: str) -> str:
    """A command without what every command begins with."""
    return command.removeprefix(PREFIX)


def file_name(command: str) -> str:
    """Where a command's record lies: `vae --dataset=mnist` in vae.dataset-mnist.json."""
    return re.sub(r"[^\w.+-]+", "-", re.sub(r" -+", ".", short(command))) + ".json"


def make_record(summary: dict[str, Any]) -> Record:
    """What is kept of a run's summary.json.

    Raises:
      ValueError: nothing was measured.
    """
    words = [word for word in shlex.split(summary["command"]) if word.lstrip("-").partition("=")[0] not in PLACE]
    claims = {c["name"]: {"quantities": c["quantities"], "reference": c["reference"]} for c in summary["claims"]
              if c["quantities"]}  # fmt: skip
    if not claims:
        raise ValueError("none of its claims was measured")
    return {
        "experiment": summary["experiment"],
        "command": shlex.join(words),
        "device": summary["device"],
        "jax": summary["versions"]["jax"],
        "seconds": round(sum(fit["seconds"] for fit in summary["fits"].values()), 1),
        "claims": claims,
    }


def claims_of(experiment: str) -> dict[str, Claim]:
    """CLAIMS of an experiment; none of what is not here."""
    try:
        return dict(importlib.import_module(f"experiments.{experiment}").CLAIMS)
    except ModuleNotFoundError:
        return {}


def findings(record: Record) -> list[Finding]:
    """What a record says of every claim of its experiment."""
    quantity = lambda q: Quantity(**{key: value for key, value in q.items() if value is not None})
    found = [
        Finding(name, tuple(map(quantity, claim["quantities"])), claim["reference"])
        for name, claim in record["claims"].items()
    ]
    return completed(claims_of(record["experiment"]), found, PREFIX + record["experiment"])


def faults(record: Record, rows: dict[str, Row]) -> list[str]:
    """What is wrong with a record: an experiment, a flag, a claim or a row that is not there, a path of one machine."""
    out = []
    name, *flags = shlex.split(short(record["command"]))
    try:
        parse(importlib.import_module(f"experiments.{name}").Config, flags)
    except ModuleNotFoundError:
        out.append(f"there is no experiment {name}")
    except FlagError as error:
        out.append(str(error))
    claims = claims_of(name)
    out += [f"there is no claim {claim} of {name}" for claim in record["claims"] if claims and claim not in claims]
    out += [f"there is no row {row}" for claim in claims.values() for row in claim.rows.split() if row not in rows]
    texts = [record["command"], *(source for claim in record["claims"].values() for source in claim["reference"])]
    return out + [f"a path of one machine: {text}" for text in texts if MACHINE_PATH.search(text)]


def line(*cells: str) -> str:
    """One line of a Markdown table."""
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def text(words: str) -> str:
    """Plain words inside a Markdown table: no link, picture, HTML or new line comes of them."""
    return re.sub(r"([\\|*~<`[\]])", r"\\\1", printable(" ".join(words.split())))


def code(command: str) -> str:
    """A command inside a Markdown table."""
    ticks = "``" if "`" in command else "`"
    return ticks + printable(command).replace("|", r"\|") + ticks


def cell(words: str) -> str:
    """Several lines inside a Markdown table."""
    return "; ".join(text(line) for line in words.split("\n"))


def results(records: Sequence[Record]) -> str:
    """The README's table: a line for every headline that a command measured."""
    out = [line("command", "claim", "measured", "reference"), line(*["---"] * 4)]
    for record in records:
        command = code(short(record["command"]))
        for found in (f for f in findings(record) if f.claim.headline and f.holds is not None):
            told = f"**{cell(found_words(found))}**" + f" (holds: {text(verdict(found))})" * (not found.holds)
            out.append(line(command, text(found.claim.text), told, cell(reference_words(found))))
            command = ""
    return "\n".join(out) + "\n"


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
    out = [HEAD, f"{total}, {len(rows)} in all.\n", line("section", *states), line("---", *["---:"] * 3)]
    out += [line(f"{k} {title}", *(str(counts[k][s]) for s in states)) for k, title in sections.items()]
    for letter, title in sections.items():
        head = ("row", "the notes", "claim", "measured", "reference (source)", "holds", "command")
        out += [f"\n## {letter} {title}\n", line(*head), line(*["---"] * len(head))]
        for row in (row for id, row in rows.items() if id[0] == letter):
            first = (f"**{row.id}** {text(row.title)}", f"{row.note} «{text(row.words)}»")
            if not found[row.id]:
                planned = "-" if row.experiments == "*" else f"planned: {row.experiments.replace(' ', ', ')}"
                out.append(line(*first, "-", "-", "-", "-", planned))
            for one, command in found[row.id]:
                told = found_words(one) if one.holds is not None else "-"
                middle = [text(one.claim.text), *map(cell, (told, reference_words(one))), text(verdict(one).lower())]
                out.append(line(*first, *middle, code(short(command))))
                first = ("", "")
    out += [
        "\n## Commands\n",
        line("command", "device", "seconds of training", "jax"),
        line("---", "---", "---:", "---"),
    ]
    out += [line(code(short(r["command"])), r["device"], f"{r['seconds']:g}", r["jax"]) for r in records]
    return "\n".join(out) + "\n"


def documents(root: Path = ROOT) -> dict[Path, str]:
    """Both documents as docs/claims makes them."""
    records, (sections, rows) = read_records(root / "docs/claims"), read_rows(root / "docs/mission.tsv")
    readme = (root / "README.md").read_text(encoding="utf-8")
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"README.md: has not the lines {BEGIN!r} and {END!r} between which the results belong")
    return {
        root / "docs/mission.md": mission(records, sections, rows),
        root / "README.md": f"{before}{begin}\n{results(records)}\n{end}{after}",
    }


def add(run: Path, root: Path = ROOT) -> Path:
    """Keeps a finished run's claims in docs/claims, in the place of an older record of the same command.

    Raises:
      ValueError: the run has not ended, or its record would have faults.
    """
    summary = read_json(run / "summary.json")
    if summary is None:
        raise ValueError("there is no summary.json: the run has not ended")
    record = make_record(summary)
    wrong = faults(record, read_rows(root / "docs/mission.tsv")[1])
    if wrong:
        raise ValueError("; ".join(wrong))
    path = root / "docs/claims" / file_name(record["command"])
    write(path, json.dumps(plain(record), indent=2, allow_nan=False) + "\n")
    return path


def main(words: Sequence[str]) -> int:
    """Does what the command line says; the exit status."""
    match list(words):
        case ["write"]:
            for path, content in documents().items():
                write(path, content)
        case ["add", run]:
            try:
                print(add(Path(run)).relative_to(ROOT))
            except ValueError as error:
                print(f"error: {run}: {error}", file=sys.stderr)
                return 2
        case _:
            print((__doc__ or "").strip(), file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
