"""The command `jaxdl`; `python -m experiments` is an alias."""

import argparse
import dataclasses
import difflib
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxdl import packaged, tuned
from jaxdl.streams import keep_streams, printable, shell

COMMANDS = ("run", "list", "compare", "new", "predict", "evaluate", "gsb", "doctor", "reproduce")
KNOWN = {
    "list": ("--runs", "--dir"),
    "compare": ("--out", "--fit"),
    "gsb": ("--out", "--fit", "--kind"),
    "reproduce": ("--docs", "--dir", "--check"),
    "doctor": ("--json",),
}
USAGE, BAD_DATA, MISSING = 2, 65, 66
HELP = """\
jaxdl COMMAND ...        (alias: python -m experiments COMMAND ...)

  jaxdl list                                               list the experiments
  jaxdl run image_classifier --dataset=digits --steps=200  run one; jaxdl run NAME --help lists its flags
  jaxdl run mine.py --workdir=runs/mine/a                  run your own file, like python mine.py
  jaxdl new mine                                           write mine.py, a template for your own experiment

  jaxdl list --runs                                        list the runs in runs/, newest first
  jaxdl list --runs --dir=/big/disk/runs                   list the runs in another folder
  jaxdl compare runs/vae/A runs/vae/B                      plot their curves in compare.png, print final results
  jaxdl compare runs/gan/* --fit=wgan_gp --out=gan.png     compare one fit of runs with several
  jaxdl compare SWEEP                                      compare the points of a sweep

  jaxdl predict RUN photo.png scans/                       predict for files with a finished run
  jaxdl predict RUN "To be" --length=300 --temperature=0.5 set its flags: the group "Use" in its experiment's --help
  jaxdl predict RUN new.csv --module=mine.py --out=new-kinds.csv
  jaxdl predict RUN test --out=a.csv                       its test part, with the true values in the column label
  jaxdl evaluate RUN mnist --data_dir=/data                evaluate a finished run on another data set
  jaxdl gsb a.csv b.csv                                    compare two models, or runs, example by example: a sign test

  jaxdl doctor                                             versions, devices, settings, data, extras; --json
  jaxdl reproduce                                          measure again every recorded result that is out of date
  jaxdl reproduce gan vae --check                          list the records of two experiments that are out of date

python -m experiments.NAME [--flag=value ...] also runs an experiment, unless the current folder contains a folder
experiments, which Python would import instead. For several processes, GPUs or restarts see ./launch.sh --help"""


def command() -> NoReturn:
    """Runs the command line and exits."""
    if sys.argv[1:2] == ["run"]:
        tuned.set_all()
    keep_streams()
    main(sys.argv[1:])
    sys.exit(0)


def main(arguments: Sequence[str]) -> None:
    """Runs a command. Errors are one line; exit status 2 for wrong usage, 65 for a damaged, 66 for a missing file."""
    word, words = (arguments[0], arguments[1:]) if arguments else ("list", [])
    if word == "run" and words and not words[0].startswith("-"):
        run(words[0], words[1:])
        return
    if any(word in ("--help", "-h", "-help", "help") for word in arguments):
        print(HELP)
        return
    if word not in COMMANDS:
        fail(unknown(word))
    if word == "run":
        fail("run: needs an experiment or a Python file (jaxdl list shows the experiments)")
    asked, flags = parse(word, words)
    if word == "list" and not (asked.runs or asked.dir):
        show_experiments()
        return
    if word == "doctor":
        from jaxdl import doctor  # imports nothing heavy: what it examines may be broken

        sys.exit(doctor.examine(as_json=asked.json))

    from jaxdl.data import DataError, MissingData  # imported here because listing the experiments needs no jax
    from jaxdl.run import FlagError
    from jaxdl.run.command.skeleton import write_skeleton
    from jaxdl.run.store import runs

    try:
        if word == "new":
            checkout = Path("experiments").resolve() == packaged.PLACE
            path = write_skeleton(asked.name, Path("experiments" if checkout else "."))
            print(f"{path} written; edit it, then run python {f'-m experiments.{path.stem}' if checkout else path}")
        elif word in ("predict", "evaluate"):
            use(asked, flags, word)
        elif word == "reproduce":
            from jaxdl.run.records.reproduce import reproduce

            sys.exit(reproduce(asked.names, Path(asked.docs), Path(asked.dir), asked.check))
        elif word == "gsb":
            from jaxdl.run.command.compared import gsb

            gsb(asked.a, asked.b, asked.fit, asked.kind, asked.out)
        elif word == "list":
            print(runs.runs_table(Path(asked.dir or "runs"), defaults))
        else:
            compare([Path(folder) for folder in asked.folders], Path(asked.out), asked.fit)
    except FlagError as error:
        fail(str(error))
    except DataError as error:
        fail(str(error), BAD_DATA)
    except MissingData as error:
        fail(str(error), MISSING)


def parse(word: str, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the parsed words after a command, and the rest: flags of group "use" that a run's experiment defines."""
    parser = Parser(prog=f"jaxdl {word}", add_help=False, allow_abbrev=False)
    if word == "list":
        parser.add_argument("--runs", action="store_true")
        parser.add_argument("--dir")
    elif word == "new":
        parser.add_argument("name", metavar="NAME")
    elif word == "doctor":
        parser.add_argument("--json", action="store_true")
    elif word == "reproduce":
        parser.add_argument("names", nargs="*", metavar="NAME")
        parser.add_argument("--docs", default="docs", help="the folder of claims/ and images/")
        parser.add_argument("--dir", default="runs/reproduce", help="the folder of the runs")
        parser.add_argument("--check", action="store_true", help="run nothing")
    elif word == "gsb":
        parser.add_argument("a", metavar="A", help="a CSV file with id, prediction and label, or a run")
        parser.add_argument("b", metavar="B")
        parser.add_argument("--kind", choices=("classes", "numbers"))
        parser.add_argument("--out")
        parser.add_argument("--fit")
    elif word in ("predict", "evaluate"):
        parser.add_argument("run", metavar="RUN")
        parser.add_argument("inputs", nargs="+" if word == "predict" else 1, metavar="INPUT")
        parser.add_argument("--module")
        parser.add_argument("--fit")
    else:
        parser.add_argument("folders", nargs="*", metavar="RUN")
        parser.add_argument("--out", help="compare.png, or the next free name")
        parser.add_argument("--fit")
    asked, rest = parser.parse_known_intermixed_args(words)
    if rest and word not in ("predict", "evaluate"):
        known = KNOWN.get(word, ("--help",))
        nearest = difflib.get_close_matches(rest[0].partition("=")[0], known, n=1, cutoff=0.0)[0]
        fail(f"{rest[0]}: no such option of {word}; did you mean {nearest}? (--help shows examples)")
    if word == "compare" and not asked.folders:
        fail("compare: needs the folders of runs (jaxdl list --runs shows them)")
    if word == "compare":
        asked.out = asked.out or free("compare.png")
    if word == "compare" and not asked.out.endswith(".png"):
        fail(f"--out={asked.out}: must end in .png")
    return asked, rest


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Prints `error: ...` and exits with status 2."""
        fail(f"{message} (--help shows examples)")


def unknown(word: str) -> str:
    """Returns the error message for a word that is not a command."""
    names = packaged.listing()
    if word in names or word.endswith(".py"):
        return f"{word}: is an experiment; use jaxdl run {shell([word])}"
    nearest = difflib.get_close_matches(word, [*COMMANDS, *names], n=1, cutoff=0.0)[0]
    hint = nearest if nearest in COMMANDS else f"run {nearest}"
    return f"{word}: no such command; did you mean jaxdl {hint}? (--help shows examples)"


def run(name: str, flags: Sequence[str]) -> None:
    """Replaces the process by python FILE.py, or runs an experiment like python -m experiments.NAME."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            fail(f"{name}: no such file; give the Python file of an experiment", MISSING)
        os.execv(sys.executable, [sys.executable, name, *flags])
    names = packaged.listing()
    if name not in names:
        own = [path.name for path in Path(".").glob("*.py")]
        nearest = f"{name}.py" if f"{name}.py" in own else difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        fail(f"{name}: no such experiment; did you mean {nearest}? (jaxdl list shows all)")
    sys.argv[1:] = flags
    module = packaged.experiment(name)

    from jaxdl.run.command import main as frame

    frame.main(module)


def show_experiments() -> None:
    """Prints the experiments by family."""
    print("jaxdl run NAME [--flag=value ...]    (jaxdl run NAME --help lists the flags of an experiment)\n")
    lines = packaged.listing()
    for family in dict.fromkeys(family for family, _ in sorted(lines.values())):
        print(f"{family}:")
        for name, (of, line) in lines.items():
            if of == family:
                print(f"  {name:{max(map(len, lines))}}  {line}")


def defaults(name: str, flags: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the default flags of an experiment for its data set; None for an experiment of another package."""
    if name not in packaged.listing():
        return None
    from jaxdl.run import FlagError

    config_class = packaged.experiment(name).Config
    try:
        return dataclasses.asdict(config_class(**{by: flags[by] for by in config_class.recipes}))
    except (FlagError, KeyError, TypeError):  # flags of another version
        return dataclasses.asdict(config_class())


def use(asked: argparse.Namespace, flags: Sequence[str], word: str) -> None:
    """Predicts for files with a finished run, or evaluates it on another data set."""
    from jaxdl.run.command.predictions import inputs_of, with_flags, write_evaluation, write_predictions
    from jaxdl.run.command.source import module_from
    from jaxdl.run.command.use import open_finished

    module = module_from(Path(asked.module)) if asked.module else None
    given = os.environ.get("JAXDL_DATA_DIR")
    places: dict[str, Any] = {"data_dir": given} if given else {}
    opened = open_finished(asked.run, module, asked.fit, **places)
    opened = with_flags(opened, flags)
    if word == "evaluate":
        write_evaluation(opened, asked.inputs[0])
    else:
        write_predictions(opened, inputs_of(opened, asked.inputs))


def compare(folders: Sequence[Path], out: Path, fit: str | None) -> None:
    """Prints a table of the runs and writes a plot of their curves."""
    from jaxdl.run import FlagError
    from jaxdl.run.show.compare import curves, lines, table
    from jaxdl.run.store.files import replacing
    from jaxdl.run.store.runs import expand, read_run

    found = lines([read_run(run) for run in dict.fromkeys(run for folder in folders for run in expand(folder))], fit)
    try:
        with replacing(out) as file:
            curves(found).savefig(file, format="png", dpi=120)
    except OSError as error:
        raise FlagError(f"--out={out}: cannot be written ({error.strerror})") from None
    print(table(found))
    print(f"plot: {out}", file=sys.stderr)


def free(name: str) -> str:
    """Returns the name, or name-2, name-3, ... if the file exists."""
    path = Path(name)
    names = (path if n == 1 else path.with_stem(f"{path.stem}-{n}") for n in itertools.count(1))
    return str(next(path for path in names if not path.exists()))


def fail(message: str, status: int = USAGE) -> NoReturn:
    """Prints a one-line error and exits."""
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    command()
