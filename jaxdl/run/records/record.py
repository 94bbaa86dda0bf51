"""One record: the measured claims of one command, and all that they depend on, in docs/claims/NAME.json."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdl import packaged
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import flags_of, given, parse, shown
from jaxdl.run.records import provenance
from jaxdl.run.records.sources import code_digests
from jaxdl.run.show.claims import Claim, Finding, Quantity, completed
from jaxdl.run.store.files import plain, write
from jaxdl.run.store.runs import PLACE
from jaxdl.streams import shell

PREFIX = "python -m experiments."
LAUNCH = "./launch.sh"
Record = dict[str, Any]


def make_record(summary: Mapping[str, Any], command: str = "") -> Record:
    """What is kept of a run's summary.json: the measured claims, the command, and what they depend on.

    Args:
      summary: the file's content.
      command: the run's, where it is not the one in the summary, which does not know of launch.sh.

    Raises:
      ValueError: no claim was measured.
    """
    claims = {c["name"]: {"quantities": c["quantities"], "reference": c["reference"]} for c in summary["claims"]
              if c["quantities"]}  # fmt: skip
    if not claims:
        raise ValueError("none of its claims was measured")
    flags = summary["flags"]
    command = command or normal(summary["command"])
    return {
        "experiment": summary["experiment"],
        "command": command,
        "commit": summary["commit"],
        "processor": summary["processor"],
        "device": summary["device"],
        "python": summary["python"],
        "seconds": round(sum(fit["seconds"] for fit in summary["fits"].values()), 1),
        "seeds": list(range(flags["seed"], flags["seed"] + flags["seeds"])),
        **depends_on(command, summary["versions"]),
        "claims": claims,
    }


def depends_on(command: str, versions: Mapping[str, str] | None = None) -> dict[str, Any]:
    """{"flags", "versions", "code", "digest"}: what a command's results depend on, as of now.

    flags: all that change a result, with their values; code: digests by module; digest: 16 hex digits of all three.

    Raises:
      FlagError: a flag that the experiment does not have, or a value outside its range.
      ImportError: there is no such experiment.
    """
    _, name, words = parts(command)
    config = parse(packaged.experiment(name).Config, words)
    found = {
        "flags": result_flags(config),
        "versions": dict(versions or provenance.versions()),
        "code": code_digests(f"experiments.{name}"),
    }
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
    return {**found, "digest": digest}


def result_flags(config: RunConfig) -> dict[str, Any]:
    """The flags that change a result and have a value, with their values."""
    values = {f.name: getattr(config, f.name) for f in flags_of(type(config)) if f.rule.affects_result}
    return plain({name: value for name, value in values.items() if value is not None and name != "data_dir"})


def differences(record: Record, now: Mapping[str, Any]) -> list[str]:
    """Why a record is out of date, in words; empty if it is not. `now`: from `depends_on`."""
    if record["digest"] == now["digest"]:
        return []
    old, new = record["flags"], now["flags"]
    absent = "not set"
    out = [f"--{k} was {shown(old.get(k, absent))}, is {shown(new.get(k, absent))}"
           for k in sorted({*old, *new}) if old.get(k, absent) != new.get(k, absent)]  # fmt: skip
    old, new = record["versions"], now["versions"]
    out += [f"{k} was {old.get(k)}, is {new[k]}" for k in new if old.get(k) != new[k]]
    old, new = record["code"], now["code"]
    changed = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
    return out + ([f"code changed: {', '.join(changed)}"] if changed else [])


def normal(command: str) -> str:
    """The command as a run repeats it: no flag that has its default, always the same order."""
    start, name, words = parts(command)
    config = parse(packaged.experiment(name).Config, words)
    flags = [word for word in given(config) if word[2:].partition("=")[0] not in PLACE]
    return f"{PREFIX}{name} {shell(flags)}".rstrip() if not start else shell([*start, name, *flags])


def parts(command: str) -> tuple[list[str], str, list[str]]:
    """(launch.sh and its options if it begins so, name of the experiment, flags) of a command."""
    words = shlex.split(short(command))
    at = next((i for i, word in enumerate(words) if i and not word.startswith("-")), 0) if words[0] == LAUNCH else 0
    return words[:at], words[at], words[at + 1 :]


def claims_of(experiment: str) -> dict[str, Claim]:
    """CLAIMS of an experiment; empty if there is no such experiment."""
    try:
        return dict(packaged.experiment(experiment).CLAIMS)
    except ModuleNotFoundError:
        return {}


def findings(record: Record) -> list[Finding]:
    """Every claim of the record's experiment, with what the record holds for it."""
    quantity = lambda q: Quantity(**{key: value for key, value in q.items() if value is not None})
    found = [
        Finding(name, tuple(map(quantity, claim["quantities"])), claim["reference"])
        for name, claim in record["claims"].items()
    ]
    return completed(claims_of(record["experiment"]), found, PREFIX + record["experiment"])


def short(command: str) -> str:
    """A command without the prefix that all share."""
    return command.removeprefix(PREFIX)


def file_name(command: str) -> str:
    """The file of a command's record: `vae --dataset=mnist` has vae.dataset-mnist.json."""
    start, name, flags = parts(command)
    return re.sub(r"[^\w.+-]+", "-", re.sub(r" -+", ".", " ".join([name, *flags, *start[1:]]))) + ".json"


def read_records(folder: Path) -> list[Record]:
    """All records; those of one experiment together, the shortest command first."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return sorted(records, key=lambda r: (r["experiment"], len(r["command"].split()), r["command"]))


def write_record(folder: Path, record: Record) -> Path:
    """Writes a record in place of an older one of the same command; the file."""
    path = folder / file_name(record["command"])
    short_lists = {key: record[key] for key in ("seeds", "flags", "versions", "code")}
    lines = json.dumps(plain(record), indent=2, allow_nan=False)
    for key, value in short_lists.items():  # one line each: nobody reads them
        old = f'"{key}": {json.dumps(plain(value), indent=2)}'.replace("\n", "\n  ")
        lines = lines.replace(old, f'"{key}": {json.dumps(plain(value))}', 1)
    write(path, lines + "\n")
    return path
