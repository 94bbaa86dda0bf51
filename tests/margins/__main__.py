"""The command `python -m tests.margins`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

import tests.conftest  # settings of the tests, for this process and its children; must precede jax
from experiments.__main__ import listing
from tests.margins.figures import ROOT, one
from tests.margins.judge import Bound, counts, report
from tests.margins.worlds import PLAIN, WORLDS, environment
from tests.reliability.figures import record

SEEDS = 10


def measure(name, run, jobs=1):
    """Returns {(seed, world): result of `run(name, seed, world)`} without failed runs, whose result is None."""
    tried = {}
    with ThreadPoolExecutor(jobs) as pool:
        places = [(seed, PLAIN) for seed in range(SEEDS)] + [(0, world) for world in WORLDS]
        while places:
            tried.update(zip(places, pool.map(lambda at: run(name, *at), places), strict=True))
            claims = [claim for found in tried.values() if found for claim in found["claims"].values()]
            n = max((Bound(*values).seeds for claim in claims for values in claim["bounds"].values()), default=0)
            places = [(seed, PLAIN) for seed in range(SEEDS, 4 * n) if (seed, PLAIN) not in tried]
    return {at: found for at, found in tried.items() if found}


def start(keep, name, seed, world):
    """Returns the result of one run in a separate process, or from its file in `keep`; None if the run failed."""
    path = keep / name / f"seed{seed}.{world}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        words = [sys.executable, "-m", "tests.margins", f"--one={name}", f"--seed={seed}", f"--out={part}"]
        env = environment(world, os.environ)
        done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            end = "\n".join([*done.stdout.splitlines()[-10:], *done.stderr.splitlines()[-20:]])
            print(f"{name}, seed {seed}, {world}: failed\n{end}", file=sys.stderr, flush=True)
            return None
        os.replace(part, path)
    return json.loads(path.read_text(encoding="utf-8"))


def main(words):
    """Runs the command line and returns the exit status."""
    every = list(listing())
    about = (tests.margins.__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser("python -m tests.margins", description=about)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments (default: all), `tests` or `tutorial`")
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=2, help="number of parallel processes")
    parser.add_argument("--keep", type=Path, help="folder for results, from which a measurement resumes")
    for hidden, kind in (("--one", str), ("--out", Path), ("--seed", int)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.one:
        args.out.write_text(json.dumps(one(args.one, args.seed)), encoding="utf-8")
        return 0
    unknown = set(args.names) - {*every, "tests", "tutorial"}
    if unknown:
        parser.error(f"unknown experiment {', '.join(sorted(unknown))}")
    good = True
    with tempfile.TemporaryDirectory() as folder, tqdm(unit="run", dynamic_ncols=True) as bar:

        def run(*at):
            found = start((args.keep or Path(folder)).resolve(), *at)
            failed.extend([at] * (found is None))
            bar.update()
            return found

        for name in args.names or every:
            failed = []
            bar.set_description_str(name)
            runs = measure(name, run, args.jobs)
            text, safe = report(name, runs)
            record("R15", "full", f"python -m tests.margins {name}", *counts(runs), "bounds")
            good = good and safe and not failed
            bar.clear()
            print(text + f"\n{len(failed)} runs failed" * bool(failed) + "\n", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
