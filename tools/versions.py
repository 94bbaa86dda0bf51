"""Runs the default tests on several versions of Python and jax, and writes docs/versions.md.

    python -m tools.versions                                 Python 3.11, 3.12 and 3.13, each with two versions of jax
    python -m tools.versions --python=/opt/python3.13/bin/python3 --peers=3.11
    python -m tools.versions --tests="tests/test_core.py tests/test_optim.py"      a quick try; only prints the table

Each pair has a virtual environment of its own below the cache folder, which a later call uses again. An interpreter is
one of --python, pythonX.Y on PATH, or what `uv python find X.Y` names. The versions of jax are the oldest and the
newest that pip finds for the interpreter within the range of pyproject.toml.
"""

import argparse
import contextlib
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
SHOWN = ("jax", "flax", "optax", "torch")
PAGE = ROOT / "docs" / "versions.md"
HEAD = """# Versions

The default tests on several versions of Python and jax, each in an environment of its own, on {date}.
`python -m tools.versions` writes this page. "jax" is the oldest and the newest version that pip finds for that Python
within the range of pyproject.toml. Tests that need a library or files that are not there are skipped.
"""


class Row(NamedTuple):
    """What one environment gave; `problem` in the place of counts where the tests did not run."""

    python: str
    packages: dict[str, str]  # name -> version, of SHOWN
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    problem: str = ""
    failures: tuple[str, ...] = ()


def main(words: Sequence[str]) -> int:
    """Runs what the command line asks for; returns 1 if a test failed or an environment could not be made."""
    asked = parse(words)
    rows = []
    for row in measured(asked):
        rows.append(row)
        print(f"{row.python}, jax {row.packages.get('jax', '?')}: {said(row)}", file=sys.stderr, flush=True)
    text = table(rows)
    print(text, end="")
    if not asked.tests:
        PAGE.write_text(HEAD.format(date=datetime.date.today().isoformat()) + "\n" + text, encoding="utf-8")
    return int(any(row.failed or row.problem for row in rows))


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.versions", allow_abbrev=False)
    listed = lambda text: [part for part in text.split(",") if part]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxdl" / "versions"
    parser.add_argument("--versions", type=listed, default=list(PYTHONS), metavar="X.Y,...", help="of Python")
    parser.add_argument("--python", action="append", default=[], metavar="PATH", help="an interpreter; may be repeated")
    parser.add_argument("--jax", type=listed, default=["oldest", "newest"], help="oldest, newest or version numbers")
    parser.add_argument("--tests", default="", metavar="PATHS", help="in place of all default tests")
    parser.add_argument("--extras", type=listed, default=["test", "all"], help="extras that are installed (test,all)")
    parser.add_argument("--peers", type=listed, default=[], metavar="X.Y,...", help="Pythons that get the extra peers")
    parser.add_argument("--workers", default="2", help="processes of pytest-xdist (2)")
    parser.add_argument("--limit", type=float, default=120, metavar="MINUTES", help="for the tests of one row (120)")
    parser.add_argument("--cache", type=Path, default=cache, help="the folder of the environments")
    return parser.parse_args(words)


def measured(asked: argparse.Namespace) -> Iterator[Row]:
    """A row for each version of Python and jax; one line where there is no interpreter."""
    for version in asked.versions:
        interpreter = find(version, asked.python)
        if interpreter is None:
            yield Row(version, {}, problem="not found")
            continue
        done = set()
        for wanted in asked.jax:
            jax = wanted
            try:
                jax = wanted if wanted[0].isdigit() else choose(available(interpreter), wanted)
                if jax not in done:  # the oldest may be the newest too
                    done.add(jax)
                    yield run(interpreter, version, jax, asked)
            except Failed as error:
                yield Row(version, {"jax": jax}, problem=str(error))


class Failed(Exception):
    """A command that an environment needs failed: its last line."""


def find(version: str, given: Sequence[str] = ()) -> str | None:
    """The path of an interpreter of this version, None if there is none.

    Every candidate is called, because a launcher on PATH may stand for an interpreter that is not installed.
    """
    candidates = [*given, sys.executable, shutil.which(f"python{version}")]
    if uv := shutil.which("uv"):
        candidates.append(_output([uv, "python", "find", version]))
    for path in candidates:
        if path and _output([path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]) == version:
            return path
    return None


def _output(command: Sequence[str]) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""


def available(interpreter: str) -> list[str]:
    """The versions of jax that pip finds for this interpreter."""
    command = [interpreter, "-m", "pip", "index", "versions", "jax", "--disable-pip-version-check"]
    match = re.search(r"^Available versions: (.*)$", _checked(command, "pip index versions jax"), re.MULTILINE)
    return re.split(r",\s*", match[1].strip()) if match else []


def choose(versions: Sequence[str], which: str) -> str:
    """The oldest or the newest of these versions within the range of pyproject.toml.

    Raises:
      Failed: none is in the range, or `which` is neither word.
    """
    if which not in ("oldest", "newest"):
        raise Failed(f"--jax={which}: must be oldest, newest or a version")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (jax,) = (one for one in map(Requirement, project["dependencies"]) if one.name == "jax")
    found = sorted(filter(jax.specifier.contains, versions), key=Version)
    if not found:
        raise Failed(f"pip finds no jax{jax.specifier}")
    return found[0 if which == "oldest" else -1]


def run(interpreter: str, version: str, jax: str, asked: argparse.Namespace) -> Row:
    """Makes or completes the environment of one row and runs the tests in it."""
    extras = [*asked.extras, *(["peers"] if version in asked.peers else [])]
    home = asked.cache / f"python{version}-jax{jax}"
    python = str(home / "bin" / "python")
    if not Path(python).exists():
        _checked([interpreter, "-m", "venv", str(home)], "venv")
        _checked([python, "-m", "pip", "install", "-q", "--upgrade", "pip"], "pip install --upgrade pip")
    _checked([python, "-m", "pip", "install", "-q", "-e", f"{ROOT}[{','.join(extras)}]", f"jax=={jax}"], "pip install")
    packages = json.loads(_checked([python, "-c", f"{VERSIONS}\nprint(json.dumps(found({SHOWN!r})))"], "versions"))
    report = home / "report.xml"
    report.unlink(missing_ok=True)
    words = ["-q", "-n", asked.workers, "--dist", "worksteal", "-p", "no:cacheprovider", f"--junitxml={report}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    began = time.monotonic()
    with open(home / "output.txt", "w", encoding="utf-8") as output, contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [python, "-m", "pytest", *words, *asked.tests.split()],
            cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=60 * asked.limit,
        )  # fmt: skip
    seconds = time.monotonic() - began
    number = _output([python, "-c", "import platform; print(platform.python_version())"])
    if not report.exists():
        return Row(number, packages, problem=f"no result after {seconds:.0f} s; see {home / 'output.txt'}")
    return counted(Row(number, packages, seconds=seconds), report)


VERSIONS = """
import json
from importlib import metadata
def found(names):
    installed = {one.metadata["Name"].lower(): one.version for one in metadata.distributions()}
    return {name: installed[name] for name in names if name in installed}
"""


def _checked(command: Sequence[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed(f"{what}: {error}") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        last = (errors or done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise Failed(f"{what}: {last}")
    return done.stdout


def counted(row: Row, report: Path) -> Row:
    """The row with the counts and the failed tests of a JUnit report."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    names = tuple(f"{case.get('classname', '')}.{case.get('name', '')}".strip(".") for case in bad)
    return row._replace(
        passed=len(cases) - len(bad) - skipped, failed=len(bad), skipped=skipped, failures=tuple(dict.fromkeys(names))
    )


def said(row: Row) -> str:
    """The result of a row in words."""
    counts = f"{row.passed} passed, {row.failed} failed, {row.skipped} skipped in {row.seconds:.0f} s"
    return row.problem or counts


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown; the failed tests of each below."""
    lines = ["| python | jax | flax | optax | torch | passed | failed | skipped | seconds |", f"|{' --- |' * 9}"]
    for row in rows:
        versions = [row.packages.get(name, "no" if name == "torch" and not row.problem else "") for name in SHOWN]
        counts = [f"{count:,}" for count in (row.passed, row.failed, row.skipped, round(row.seconds))]
        problem = row.problem.replace("|", "\\|").replace(str(Path.home()), "~")
        cells = [row.python, *versions, *([problem, "", "", ""] if problem else counts)]
        lines.append(f"| {' | '.join(cells)} |")
    for row in rows:
        if row.failures:
            named = "".join(f"\n- `{name}`" for name in row.failures)
            lines.append(f"\nFailed on Python {row.python} with jax {row.packages.get('jax')}:\n{named}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
