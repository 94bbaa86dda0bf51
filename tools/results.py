"""The page docs/results.md and the README's table of results, from docs/claims."""

import ast
import textwrap
from collections.abc import Sequence

from jaxdl import packaged
from jaxdl.run.records.record import PREFIX, Record, findings, parts, short
from jaxdl.run.show.claims import Finding, found_words, reference_words
from tools.tables import cell, code, head, holds, line, text

FIRST = (  # the README's: (command, claim, what it is)
    ("image_classifier --dataset=mnist --seeds=3", "accuracy", "LeNet-5 on MNIST: test accuracy"),
    ("language_model --seeds=3", "transformer", "Transformer of characters: test perplexity"),
    ("gan", "modes", "WGAN-GP on a ring of eight modes: modes found"),
    ("vae --dataset=mnist", "mnist", "VAE on MNIST: test -ELBO"),
    (
        "./launch.sh --cpu-devices=8 data_parallel",
        "devices",
        "Training on one to eight devices: losses differ by",
    ),
)
HEAD = """\
# Results

Every experiment with what it shows, its figure, and the claims that its recorded commands measured. Values are means ±
standard deviations where a command trains several seeds. The column "reference" has values from other sources, named in
parentheses; "holds" says whether the measured values keep their limits. Commands begin with
`python -m experiments.`; data files are read from `$JAXDL_DATA_DIR`.

This page is generated from [docs/claims](claims) by `python -m tools.mission write`. `python -m experiments reproduce`
measures everything on it again, as far as code, flags or versions have changed since.
[docs/mission.md](mission.md) lists the same claims by the rows of the study notes.
"""


def first_results(records: Sequence[Record]) -> str:
    """The README's table.

    Raises:
      ValueError: one of its results has no record.
    """
    by_command = {short(record["command"]): record for record in records}
    out = head("result", "measured", "reference", "command")
    for command, name, title in FIRST:
        found = {one.name: one for one in findings(by_command[command])} if command in by_command else {}
        if name not in found or not found[name].quantities:
            raise ValueError(f"README.md: no record of {command} has the claim {name}")
        one = found[name]._replace(quantities=found[name].quantities[:1])
        first_reference = reference_words(one).split("\n")[0]
        out.append(line(title, f"**{cell(found_words(one))}**", text(first_reference), code(command)))
    return "\n".join(out) + "\n"


def results(records: Sequence[Record]) -> str:
    """The page docs/results.md."""
    listing = packaged.listing()
    families = sorted({family for family, _ in listing.values()})
    measured = [(record, one) for record in records for one in findings(record) if one.holds is not None]
    failing = [(record, one) for record, one in measured if not one.holds]
    out = [HEAD, f"**{len(listing)} experiments, {len(records)} commands, {len(measured)} measured claims, of which "
           f"{len(failing)} do not hold.**\n"]  # fmt: skip
    for family in families:
        links = ", ".join(f"[{name}](#{name})" for name, (of, _) in listing.items() if of == family)
        out.append(f"- {family.capitalize()}: {links}")
    if failing:
        out += ["\n## Claims that do not hold\n", *head("experiment", "claim", "measured", "reason")]
        out += [line(code(record["command"]), text(one.claim.text), cell(found_words(one), "<br>"),
                     text(one.claim.fails or "not expected")) for record, one in failing]  # fmt: skip
    for family in families:
        out.append(f"\n## {family.capitalize()}")
        for name in (name for name, (of, _) in listing.items() if of == family):
            out += _section(name, [record for record in records if record["experiment"] == name])
    return "\n".join([*out, *_measured_where(records)]) + "\n"


def _section(name: str, records: Sequence[Record]) -> list[str]:
    summary, paragraph = explanation(name)
    out = [f"\n### {name}\n", f"{summary}\n", f"{paragraph}\n"]
    if not records:
        return [*out, "No record yet."]
    if (packaged.PLACE.parent / f"docs/images/{name}.png").exists():  # `reproduce` copies it with the record
        out.append(f"![{name}: {summary.rstrip('.')}](images/{name}.png)\n")
    out.append(f"```console\n$ {PREFIX}{name}\n```\n")
    several = len(records) > 1
    out += head(*(["flags"] if several else []), "claim", "measured", "reference", "holds")
    for record in records:
        start, _, words = parts(record["command"])
        flags = code(record["command"] if start else " ".join(words)) if start or words else "default"
        for one in (one for one in findings(record) if one.holds is not None):
            out.append(line(*([flags] if several else []), *_cells(one)))
            flags = ""
    missing = {one.name for one in findings(records[0])} - {name for record in records for name in record["claims"]}
    if missing:
        open_ones = (f"{one.name} (needs {one.claim.needs or one.command})" for one in findings(records[0])
                     if one.name in missing)  # fmt: skip
        out.append(f"\nNot measured: {text(', '.join(open_ones))}.")
    return out


def _cells(one: Finding) -> tuple[str, ...]:
    told = f"**{text(one.claim.text)}**" if one.claim.headline else text(one.claim.text)
    return told, cell(found_words(one), "<br>"), cell(reference_words(one), "<br>"), holds(one)


def _measured_where(records: Sequence[Record]) -> list[str]:
    columns = ("command", "processor", "device", "commit", "Python", "jax", "seeds", "seconds of training")
    out = ["\n## Where and when it was measured\n", *head(*columns, numbers=2)]
    for r in records:
        where = [r[name] for name in ("processor", "device", "commit", "python")]
        out.append(line(code(r["command"]), *where, r["versions"]["jax"], str(len(r["seeds"])), f"{r['seconds']:g}"))
    return out


def explanation(name: str) -> tuple[str, str]:
    """The summary line of an experiment's docstring and the paragraph behind it, as one line of text each."""
    path = packaged.PLACE / name / "__init__.py"
    path = path if path.exists() else packaged.PLACE / f"{name}.py"
    parts = textwrap.dedent(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")
    return " ".join(parts[0].split()), " ".join(parts[1].split()) if len(parts) > 1 else ""
