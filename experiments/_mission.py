"""Keeps the claims of finished runs in docs/claims, and writes docs/mission.md and the README's results from them.

    python -m experiments._mission add RUNDIR [N ...]   # claims N of its table, from 1, head its line in the README
    python -m experiments._mission write

docs/mission.tsv has the rows of the study notes; a line whose first cell is one letter begins a section.
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

from jaxdl.run.files import plain, read_json, write
from jaxdl.run.flags import FlagError, parse
from jaxdl.streams import printable

ROOT = Path(__file__).parents[1]
PREFIX = "python -m experiments."
BEGIN = "<!-- results: written by python -m experiments._mission write -->\n"
END = "<!-- end of results -->\n"
PLACES = ("data_dir", "workdir", "overwrite", "checkpoint_every", "log_every", "tensorboard", "progress")
MACHINE_PATH = re.compile(r"(^|[\s=(\"'])(~|file:/)?/\w")
VERDICTS = {
    (True, True): "yes",
    (True, False): "yes, unexpectedly",
    (False, True): "no",
    (False, False): "no, as expected",
}
HEAD = """# The mission, row by row

Five study notes on deep learning, taken apart: each row is one thing that they name, in their own words (S0 basic
concepts, S1 a lecture, S2 models and code, S3 a survey course, S4 questions and answers). Beside it stands what a run
measured, a figure to hold beside that, and the command. A row is shown where every claim that was measured holds; "no"
is a result too, and "as expected" where it is known not to hold. `python -m experiments._mission write` writes this
page from [docs/claims](claims).
"""


class Row(NamedTuple):
    """One row of the notes: its id, a title, which note says it in which words, the experiments planned for it."""

    id: str
    title: str
    note: str
    words: str
    experiments: str


Record = dict[str, Any]  # command, device, jax, seconds, headline, claims: one file of docs/claims


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


def make_record(summary: dict[str, Any], headline: Sequence[int] = (), before: Record | None = None) -> Record:
    """What is kept of a run's summary.json; without `headline` that of the record before, or the first measured claim.

    Raises:
      ValueError: nothing was measured, or there is no such claim.
    """
    words = [word for word in shlex.split(summary["command"]) if word.lstrip("-").partition("=")[0] not in PLACES]
    data_dir = summary["flags"]["data_dir"]
    named = lambda value: value.replace(data_dir.rstrip("/"), "DATA") if data_dir and isinstance(value, str) else value
    claims = [{key: named(value) for key, value in claim.items()} for claim in summary["claims"]]
    measured = [n for n, claim in enumerate(claims, 1) if claim["holds"] is not None]
    if not measured:
        raise ValueError("none of its claims was measured")
    if before and not headline:
        names = [before["claims"][n - 1]["row"] for n in before["headline"]]
        alike = [
            n <= len(claims) and claims[n - 1]["row"] == row for n, row in zip(before["headline"], names, strict=True)
        ]
        headline = before["headline"] if all(alike) else ()
    headline = list(headline) or measured[:1]
    if not set(headline) <= set(measured):
        raise ValueError(f"its measured claims are {measured}; {headline} are not all among them")
    return {
        "command": shlex.join(words),
        "device": summary["device"],
        "jax": summary["versions"]["jax"],
        "seconds": round(sum(fit["seconds"] for fit in summary["fits"].values()), 1),
        "headline": headline,
        "claims": claims,
    }


def faults(record: Record, rows: dict[str, Row]) -> list[str]:
    """What is wrong with a record: an experiment, a flag or a row that is not there, a path of one machine."""
    out = []
    name, *flags = shlex.split(short(record["command"]))
    try:
        parse(importlib.import_module(f"experiments.{name}").Config, flags)
    except ModuleNotFoundError:
        out.append(f"there is no experiment {name}")
    except FlagError as error:
        out.append(str(error))
    out += [f"there is no row {row}" for c in record["claims"] for row in c["row"].split() if row not in rows]
    texts = [record["command"], *(str(value) for claim in record["claims"] for value in claim.values())]
    return out + [f"a path of one machine: {text}" for text in texts if MACHINE_PATH.search(text)]


def verdict(claim: dict[str, Any]) -> str:
    """Whether a claim holds, in words."""
    return "not measured" if claim["holds"] is None else VERDICTS[claim["holds"], claim["expected"]]


def beside(claim: dict[str, Any]) -> str:
    """The reference and its source."""
    return f"{claim['reference']} ({claim['source']})" if claim["source"] else claim["reference"]


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


def results(records: Sequence[Record]) -> str:
    """The README's table: a line for every command."""
    out = [line("command", "measured", "beside it"), line("---", "---", "---")]
    for record in records:
        heads = [record["claims"][n - 1] for n in record["headline"]]
        found = [
            f"{text(c['claim'])}: **{text(c['measured'])}**" + f" (holds: {verdict(c)})" * (not c["holds"])
            for c in heads
        ]
        known = [text(beside(claim)) for claim in heads if beside(claim)]
        out.append(line(code(short(record["command"])), "; ".join(found), "; ".join(known)))
    return "\n".join(out) + "\n"


def gather(records: Sequence[Record], rows: dict[str, Row]) -> dict[str, list[tuple[dict[str, Any], str]]]:
    """{id: (claim, its command)}: all that was measured of a row, once; if nothing was, what says how it would be."""
    found: dict[str, list[tuple[dict[str, Any], str]]] = {id: [] for id in rows}
    for record in records:
        for claim in record["claims"]:
            for id in claim["row"].split():
                found[id].append((claim, claim["command"] or record["command"]))
    for id, pairs in found.items():
        pairs = [pair for pair in pairs if pair[0]["holds"] is not None] or pairs
        alike: dict[Any, tuple[dict[str, Any], str]] = {}  # two commands may measure the same thing in passing
        for claim, command in pairs:
            key = claim["claim"], claim["measured"], command if claim["holds"] is None else ""
            alike.setdefault(key, (claim, command))
        found[id] = list(alike.values())
    return found


def state(pairs: Sequence[tuple[dict[str, Any], str]]) -> str:
    """Of one row: shown, not holding or open."""
    verdicts = [claim["holds"] for claim, _ in pairs if claim["holds"] is not None]
    return "open" if not verdicts else "shown" if all(verdicts) else "not holding"


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
            for claim, command in found[row.id]:
                middle = [text(part) for part in (claim["claim"], claim["measured"], beside(claim), verdict(claim))]
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


def add(run: Path, headline: Sequence[int] = (), root: Path = ROOT) -> Path:
    """Keeps a finished run's claims in docs/claims, in the place of an older record of the same command.

    Raises:
      ValueError: the run has not ended, or its record would have faults.
    """
    summary = read_json(run / "summary.json")
    if summary is None:
        raise ValueError("there is no summary.json: the run has not ended")
    path = root / "docs/claims" / file_name(make_record(summary)["command"])
    record = make_record(summary, headline, json.loads(path.read_text(encoding="utf-8")) if path.exists() else None)
    wrong = faults(record, read_rows(root / "docs/mission.tsv")[1])
    if wrong:
        raise ValueError("; ".join(wrong))
    write(path, json.dumps(plain(record), indent=2, allow_nan=False) + "\n")
    return path


def main(words: Sequence[str]) -> int:
    """Does what the command line says; the exit status."""
    match list(words):
        case ["write"]:
            for path, content in documents().items():
                write(path, content)
        case ["add", run, *numbers] if all(n.isdigit() for n in numbers):
            try:
                print(add(Path(run), [int(n) for n in numbers]).relative_to(ROOT))
            except ValueError as error:
                print(f"error: {run}: {error}", file=sys.stderr)
                return 2
        case _:
            print((__doc__ or "").strip(), file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
