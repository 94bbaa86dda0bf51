"""The page of promises: `python -m tests.reliability write` makes docs/reliability.md from docs/reliability.json.

The numbers are those of the last runs of `JAXDL_PROMISES=docs/reliability.json python -m pytest`, of the same
with `-m claims` and of the same with `-m full`.
"""

import json
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reliability.md"
FOLDER = "tests/reliability"

PROMISES = {
    "R1": "A run that is killed (SIGKILL) at any instant, including during a save, and started again ends with a state "
    "that is bit for bit that of an uninterrupted run, and with the same log except for the times.",
    "R2": "Every experiment that is stopped halfway and started again ends bit for bit like an uninterrupted one.",
    "R3": "On SIGTERM or SIGINT a run saves its state and exits with status 143 or 130 within 10 s; no step is "
    "repeated or lost. A second signal ends the run at once.",
    "R4": "Batch t is a function of the seed and t: from any position on, the remaining batches are the same.",
    "R5": "The same command gives the same bits again; another seed gives other bits.",
    "R6": "A state saved on 1, 2, 4 or 8 devices is restored bit for bit on 1, 2, 4 or 8. The ways of splitting a "
    "batch over devices agree up to rounding.",
    "R7": "launch.sh with several processes gives the result of a single process. If a worker dies, the others are "
    "stopped within 10 s, and launch.sh reports its rank and exits with a nonzero status.",
    "R8": "A flipped bit in a checkpoint, and a checkpoint file that is cut, emptied or deleted, is detected and "
    "named, and the last good checkpoint before it is used.",
    "R9": "If the disk is full, or the folder is read-only or deleted during a run, one line names what could not be "
    "written, the exit status is nonzero, and the next run resumes from the last good checkpoint.",
    "R10": "A loss or gradient that is not finite ends the run with the number of the step and the name of the "
    "parameter; no checkpoint contains any of it.",
    "R11": "A broken data file of any format is reported in one line with its name, and is never trained on.",
    "R12": "An invalid flag is reported in one line, with exit status 2, and nothing is created on the disk.",
    "R13": "A second run in the same folder is refused with a message that names the first; the lock of a dead run is "
    "ignored.",
    "R14": "Over many steps and saves, memory, open files, the number of checkpoints and the time per step do not "
    "grow.",
    "R15": "Every bound that a claim, a test or the tutorial sets on a trained result has a margin: 10 seeds and five "
    "variants of rounding satisfy it, and it is at least three standard deviations from the mean.",
    "R16": "Nothing is chosen on test data: the test part is read once, at the end; a test part of noise changes no "
    "choice, and no unit of the data, such as a font, is in two parts.",
    "R17": "A folder whose flags, data or program differ is never resumed, and its result is never returned as new.",
    "R18": "A run that is killed at any change to the file system (rename, mkdir, unlink, rmdir, fsync) and started "
    "again by the same command ends bit for bit like an uninterrupted one: a single fit, early stopping, several "
    "seeds, a sweep, --overwrite.",
    "R19": "If any file of a run folder is damaged (a flipped bit; cut, emptied or deleted; replaced by a folder, "
    "link, pipe or other JSON), a rerun, a resume, --predict, jaxdl.load, list and compare give the same results as "
    "before, or one line names the file that cannot be used.",
    "S1": "No input file can run code: there is no unpickler (a small stack machine without call operations reads "
    "CIFAR-10's batches), eval, exec, np.load with pickles, torch.load or shell.",
    "S2": "Compressed files are read in memory up to a limit; archive bombs and broken archives are refused in one "
    "line.",
    "S3": "Nothing is downloaded without --download; a download is checked against a known size and SHA-256 before it "
    "is kept.",
    "S4": "A run opens no listening socket and no connection.",
    "S5": "launch.sh passes its arguments on unchanged, whatever characters they contain.",
    "S6": "A malicious run folder (links to the outside, pipes, devices, files of 4 GB, a million nested brackets, "
    "escape sequences and shell commands as names) changes nothing outside the folder, runs no code, prints no raw "
    "control characters, causes no hang, and gives an error of at most one line.",
}

# tests outside this folder, by prefixes of their ids
ELSEWHERE = {
    "R2": (
        "tests/test_experiment_claims.py::test_seeds_and_resume",
        "tests/test_experiment_claims.py::test_killed_inside_a_study",
    ),
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

OWN = {"R15": "python -m tests.margins"}  # promises that another command measures

HEAD = """# Reliability: promises and the tests that check them

`python -m tests.reliability write` generates this page from reliability.json; do not edit it.

Each row is a promise. **Fast** and **full** are the results of its tests, as passed of tried, without retries: the fast
tests run with `python -m pytest` and `-m claims`, the full ones with `-m full`. Most tests count their trials, for
example the number of kills; for the others the number of tests is given ("20 of 20 tests"). **Command** runs the fast
tests of the promise that are short; add `-m claims` or `-m full` for the others. "Bit for bit"
refers to one machine and one version of jaxlib.

| id | promise | fast | full | command |
| --- | --- | --- | --- | --- |
"""


def total(tests: dict[str, list]) -> str:
    """The sums over the tests: first those that count their trials, then those that count as tests."""
    parts = []
    for counted, unit in ((False, ""), (True, " tests")):
        found = [v for v in tests.values() if (v[2] == "tests") == counted]
        if found:
            parts.append(f"{sum(v[0] for v in found):,} of {sum(v[1] for v in found):,}{unit}")
    return " + ".join(parts) or "not measured"


def table(counts: dict[str, dict[str, dict[str, list]]]) -> str:
    """Returns the page."""
    lines = []
    for name, text in PROMISES.items():
        found = counts.get(name, {})
        fast, full = (total(found.get(gate, {})) for gate in ("fast", "full"))
        own = [f"{FOLDER}/{GATES[name]}"] if name in GATES else []
        files = dict.fromkeys([*own, *(prefix.partition("::")[0].rstrip("/") for prefix in ELSEWHERE.get(name, ()))])
        command = OWN.get(name, f"pytest {' '.join(files)}")
        lines.append(f"| {name} | {text} | {fast} | {full} | `{command}` |\n")
    return HEAD + "".join(lines)


def page() -> str:
    """Returns what docs/reliability.md should contain."""
    return table(json.loads((DOCS / "reliability.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    if sys.argv[1:] != ["write"]:
        sys.exit("usage: python -m tests.reliability write")
    PAGE.write_text(page(), encoding="utf-8")
