"""The tables of promises: `python -m tests.reliability write` makes docs/reliability.md and the README's table of them
from docs/reliability.json.

The figures are those of the last runs of `JAXDL_PROMISES=docs/reliability.json python -m pytest`, and of the same with
`-m claims` and with `-m full`.
"""

import json
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = "tests/reliability"

PROMISES = {
    "R1": "A run that is killed (SIGKILL) at any instant, in the middle of a save too, and started again ends with the "
    "same bits in every array of its state, and the same log but for the clock, as one that was left alone.",
    "R2": "Every experiment that is stopped half-way and started again ends bit for bit like one that was not.",
    "R3": "SIGTERM and SIGINT: the state is saved, the exit status is 143 or 130 within 10 s, and no step is done "
    "twice or lost; a second signal ends the run at once.",
    "R4": "Batch t is a function of the seed and t: from any position on, the rest of the batches is the same.",
    "R5": "The same command gives the same bits again, another seed other ones.",
    "R6": "A state saved on 1, 2, 4 or 8 devices comes back bit for bit on 1, 2, 4 or 8; the ways of splitting a batch "
    "over devices agree to rounding.",
    "R7": "launch.sh with several processes gives the result of one; a worker that dies brings the others down within "
    "10 s, with its rank and an exit status that is not zero.",
    "R8": "A flipped bit, and a file cut, emptied or deleted in a checkpoint, is found and named, and the good "
    "checkpoint before it is used.",
    "R9": "Disk full, folder read-only or deleted in mid-run: one line says what could not be written, the exit status "
    "is not zero, and the last good checkpoint is what the next run goes on from.",
    "R10": "A loss or gradient that is not finite ends the run with the number of the step and the name of the "
    "parameter; no checkpoint holds anything of it.",
    "R11": "A broken data file, whatever its format, is one line with its name, and never trained on.",
    "R12": "A wrong flag is one line, exit status 2, and nothing is made on the disk.",
    "R13": "A second run in the same folder refuses and names the first; the lock of a dead run does not hold.",
    "R14": "Many steps with many saves: memory and open files stay, checkpoints do not pile up, no step gets slower.",
    "R15": "A bound that a claim, a test or the tutorial sets a trained figure has a margin: 10 seeds and five worlds "
    "of other rounding keep it, and it lies three standard deviations from the mean.",
    "R16": "Nothing chooses by test data: the test part is read once, at the end, one of noise changes no choice, and "
    "no unit is in two parts.",
    "R17": "A folder whose flags, data or program differ is never continued or handed back as new.",
    "R18": "A run that is killed at any change it makes to the file system (rename, mkdir, unlink, rmdir, fsync), and "
    "started again by the same command, ends bit for bit as if nothing had happened: one fit, early stopping, seeds, a "
    "sweep, --overwrite.",
    "R19": "Whatever happens to a file of a run folder (a bit flipped, cut, emptied, deleted, a folder, link, pipe in "
    "its place, other JSON), a rerun, a resume, --predict, jaxdl.load, list and compare give what they gave before, or "
    "one line says which file cannot be used.",
    "S1": "No file that is read can run code: no unpickler (CIFAR-10's batches are read by a machine that has no "
    "operation to call with), eval, exec, np.load with pickles, torch.load, or shell.",
    "S2": "Compressed files are read in memory up to a limit; bombs and broken ones are refused in one line.",
    "S3": "Nothing is downloaded unasked; what is, is checked against a known size and SHA-256 before it is kept.",
    "S4": "A run listens on no socket and connects to nothing.",
    "S5": "launch.sh hands its arguments on untouched, whatever characters they hold.",
    "S6": "A run folder that somebody made to do harm (links out of it, pipes, devices, files of 4 GB, nesting of a "
    "million brackets, escape sequences and shell words as names) changes nothing outside it, runs nothing, shows "
    "nothing raw, ends, and is at worst one line.",
}

BRIEF = {
    "R1": "killed (SIGKILL) at any instant and started again: the same bits in the end",
    "R2": "stopped half-way and started again: the same bits, in every experiment",
    "R3": "SIGTERM, SIGINT: saved within 10 s, no step lost",
    "R4": "batch t depends on the seed and t alone",
    "R5": "the same command, the same bits",
    "R6": "saved on 1, 2, 4 or 8 devices, restored on 1, 2, 4 or 8",
    "R7": "several processes end as one; a dead worker takes all down, a restart loses nothing",
    "R8": "bits flipped in a checkpoint, files cut or deleted: found, and the one before is used",
    "R9": "disk full, read-only, folder gone: one line, the last checkpoint stays good",
    "R10": "not a finite number: step and parameter are named, nothing of it is kept",
    "R11": "broken data files: one line, never trained on",
    "R12": "wrong flags: one line, nothing made",
    "R13": "two runs in one folder: the second refuses",
    "R14": "many steps and saves: nothing grows",
    "R15": "bounds on trained figures hold over seeds and other rounding",
    "R16": "nothing is chosen by test data",
    "R17": "a folder of another fit is refused",
    "R18": "killed at any change of the file system: the same command goes on",
    "R19": "any damage to any file of a run: the same result, or one line that names the file",
    "S1": "no file that is read can run code",
    "S2": "archive bombs are refused",
    "S3": "downloads are asked for, and checked",
    "S4": "no sockets",
    "S5": "launch.sh takes arguments literally",
    "S6": "a hostile run folder harms nothing",
}
BEGIN = "<!-- promises: written by python -m tests.reliability write -->"
END = "<!-- end of promises -->"

# tests outside this folder, by the beginning of their names
ELSEWHERE = {
    "R2": ("tests/test_experiment_claims.py::test_seeds_and_resume",),
    "R6": ("tests/test_experiment_claims.py::test_one_and_eight_devices_agree",),
    "R7": ("tests/test_launch.py",),
    "R8": ("tests/run/test_seal.py",),
    "R10": ("tests/run/test_guard.py",),
    "R11": ("tests/data/",),
    "R12": ("tests/run/test_flags.py::test_a_bad_flag", "tests/run/test_main.py"),
    "R13": ("tests/run/test_lock.py",),
    "R16": ("tests/run/test_fit.py::TestParts", "tests/data/test_images.py", "tests/data/test_text.py"),
    "R17": ("tests/run/test_fit.py::TestIdentity",),
    "S3": ("tests/run/test_download.py",),
    "S5": ("tests/test_launch.py",),
}

GATES = {
    "R1": "test_kill.py",
    "R3": "test_signals.py",
    "R4": "test_positions.py",
    "R5": "test_repeat.py",
    "R6": "test_devices.py",
    "R8": "test_bit_rot.py",
    "R9": "test_disk.py",
    "R11": "test_broken_files.py",
    "R7": "test_workers.py",
    "R12": "test_bad_flags.py",
    "R14": "test_long_run.py",
    "R17": "test_identity.py",
    "R18": "test_calls.py",
    "R19": "test_run_folder.py",
    "S1": "test_security.py",
    "S2": "test_security.py",
    "S4": "test_long_run.py",
    "S6": "test_hostile_folder.py",
}

OWN = {"R15": "python -m tests.margins"}  # a promise whose command is another one

HEAD = """# What is promised, and the tests that hold it

Made by `python -m tests.reliability write` from reliability.json; do not edit. A figure is what passed of what was
tried, without retries; tests that count once, whatever they try, are told apart as tests. The fast gates run with
`python -m pytest` and, those of half a minute, with `-m claims`; the full ones run with `-m full`. Bits are compared on one machine with one version of jaxlib.

| id | promise | fast | full | command |
| --- | --- | --- | --- | --- |
"""


def figure(tests: dict[str, list]) -> str:
    """The sums over the tests: those that say what they tried, and those that are only counted."""
    parts = []
    for counted, unit in ((False, ""), (True, " tests")):
        found = [v for v in tests.values() if (v[2] == "tests") == counted]
        if found:
            parts.append(f"{sum(v[0] for v in found):,} of {sum(v[1] for v in found):,}{unit}")
    return " + ".join(parts) or "not measured"


def table(figures: dict[str, dict[str, dict[str, list]]]) -> str:
    """The page."""
    lines = []
    for name, text in PROMISES.items():
        found = figures.get(name, {})
        fast, full = (figure(found.get(gate, {})) for gate in ("fast", "full"))
        own = [f"{FOLDER}/{GATES[name]}"] if name in GATES else []
        files = dict.fromkeys([*own, *(prefix.partition("::")[0].rstrip("/") for prefix in ELSEWHERE.get(name, ()))])
        command = OWN.get(name, f"pytest {' '.join(files)}")
        lines.append(f"| {name} | {text} | {fast} | {full} | `{command}` |\n")
    return HEAD + "".join(lines)


def brief(figures: dict[str, dict[str, dict[str, list]]]) -> str:
    """The README's table."""
    lines = ["| promise | fast gate | full gate |", "| --- | --- | --- |"]
    for name, text in BRIEF.items():
        fast, full = (figure(figures.get(name, {}).get(gate, {})) for gate in ("fast", "full"))
        lines.append(f"| {text} | {fast} | {full.replace('not measured', '')} |")
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """{file: what it should hold}."""
    figures = json.loads((DOCS / "reliability.json").read_text(encoding="utf-8"))
    readme = DOCS.parent / "README.md"
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"README.md: has not the lines {BEGIN!r} and {END!r} between which the promises belong")
    return {
        DOCS / "reliability.md": table(figures),
        readme: f"{before}{begin}\n{brief(figures)}\n{end}{after}",
    }


if __name__ == "__main__":
    if sys.argv[1:] != ["write"]:
        sys.exit("usage: python -m tests.reliability write")
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
