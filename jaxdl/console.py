"""The command `jaxdl`, which `python -m experiments` is too."""

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

COMMANDS = ("run", "list", "compare", "new", "predict", "evaluate", "reproduce")
KNOWN = {
    "list": ("--runs", "--dir"),
    "compare": ("--out", "--fit"),
    "reproduce": ("--docs", "--dir", "--check"),
}
USAGE, BAD_DATA, MISSING = 2, 65, 66
HELP = """\
jaxdl COMMAND ...        (python -m experiments COMMAND ... is the same)

  jaxdl list                                               the experiments, one line each
  jaxdl run image_classifier --dataset=digits --steps=200  one of them; --help tells its flags
  jaxdl run mine.py --workdir=runs/mine/a                  an experiment of one's own; so does python mine.py
  jaxdl new mine                                           mine.py, a file to begin an experiment with

  jaxdl list --runs                                        what is in runs/, the newest first
  jaxdl list --runs --dir=/big/disk/runs
  jaxdl compare runs/vae/A runs/vae/B                      their curves, compare.png, and last numbers
  jaxdl compare runs/gan/* --fit=wgan_gp --out=gan.png     one fit of runs that have several
  jaxdl compare SWEEP                                      the points of a sweep

  jaxdl predict RUN photo.png scans/                       what a finished run says of files
  jaxdl predict RUN "To be" --length=300 --temperature=0.5 with flags of its use; RUN's experiment lists them in --help
  jaxdl predict RUN new.csv --module=mine.py --out=new-kinds.csv
  jaxdl evaluate RUN mnist --data_dir=/data                its score on another data set

  jaxdl reproduce                                          measure every recorded result again, where it is out of date
  jaxdl reproduce gan vae --check                          which records of two experiments are out of date, and why

python -m experiments.NAME [--flag=value ...] runs an experiment too, unless a folder experiments is where it is
called: then Python takes that one, and jaxdl run NAME is the way. Several processes, GPUs or restarts: ./launch.sh"""


def command() -> NoReturn:
    """The program: what its command line says, then the end."""
    if sys.argv[1:2] == ["run"]:
        tuned.set_all()
    keep_streams()
    main(sys.argv[1:])
    sys.exit(0)


def main(arguments: Sequence[str]) -> None:
    """Does what the words say; what is wrong with them is one line and exit status 2, a damaged run 65."""
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
        fail("run: name an experiment or a Python file (jaxdl list has the experiments)")
    asked, flags = parse(word, words)
    if word == "list" and not (asked.runs or asked.dir):
        show_experiments()
        return

    from jaxdl.data import DataError, MissingData  # what only lists the experiments need not wait for jax
    from jaxdl.run import FlagError
    from jaxdl.run.command.skeleton import write_skeleton
    from jaxdl.run.store import runs

    try:
        if word == "new":
            checkout = Path("experiments").resolve() == packaged.PLACE
            path = write_skeleton(asked.name, Path("experiments" if checkout else "."))
            print(f"{path}: edit it, and run it by python {f'-m experiments.{path.stem}' if checkout else path}")
        elif word in ("predict", "evaluate"):
            use(asked, flags, word)
        elif word == "reproduce":
            from jaxdl.run.records.reproduce import reproduce

            sys.exit(reproduce(asked.names, Path(asked.docs), Path(asked.dir), asked.check))
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
    """The words after a command; those of a finished run's use that only its experiment knows."""
    parser = Parser(prog=f"jaxdl {word}", add_help=False, allow_abbrev=False)
    if word == "list":
        parser.add_argument("--runs", action="store_true")
        parser.add_argument("--dir")
    elif word == "new":
        parser.add_argument("name", metavar="NAME")
    elif word == "reproduce":
        parser.add_argument("names", nargs="*", metavar="NAME")
        parser.add_argument("--docs", default="docs", help="the folder of claims/ and images/")
        parser.add_argument("--dir", default="runs/reproduce", help="the folder of the runs")
        parser.add_argument("--check", action="store_true", help="run nothing")
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
        fail(f"{rest[0]}: {word} does not know it; the nearest is {nearest} (--help has examples)")
    if word == "compare" and not asked.folders:
        fail("compare: name the folders of runs (jaxdl list --runs)")
    if word == "compare":
        asked.out = asked.out or free("compare.png")
    if word == "compare" and not asked.out.endswith(".png"):
        fail(f"--out={asked.out}: must end in .png")
    return asked, rest


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """`error: ...` and exit status 2."""
        fail(f"{message} (--help has examples)")


def unknown(word: str) -> str:
    """What to say to a word that is no command."""
    names = packaged.listing()
    if word in names or word.endswith(".py"):
        return f"{word}: an experiment is run by jaxdl run {shell([word])}"
    nearest = difflib.get_close_matches(word, [*COMMANDS, *names], n=1, cutoff=0.0)[0]
    hint = nearest if nearest in COMMANDS else f"the experiment {nearest}, jaxdl run {nearest}"
    return f"{word}: no such command; the nearest is {hint} (--help has examples)"


def run(name: str, flags: Sequence[str]) -> None:
    """Becomes python FILE.py, or does what python -m experiments.NAME does."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            fail(f"{name}: no such file; name the Python file of an experiment", MISSING)
        os.execv(sys.executable, [sys.executable, name, *flags])
    names = packaged.listing()
    if name not in names:
        own = [path.name for path in Path(".").glob("*.py")]
        nearest = f"{name}.py" if f"{name}.py" in own else difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        fail(f"{name}: no such experiment; the nearest is {nearest} (jaxdl list has all)")
    sys.argv[1:] = flags
    module = packaged.experiment(name)

    from jaxdl.run.command import main as frame

    frame.main(module)


def show_experiments() -> None:
    """Prints the experiments by family."""
    print("jaxdl run NAME [--flag=value ...]    (--help tells an experiment's flags)\n")
    lines = packaged.listing()
    for family in dict.fromkeys(family for family, _ in sorted(lines.values())):
        print(f"{family}:")
        for name, (of, line) in lines.items():
            if of == family:
                print(f"  {name:{max(map(len, lines))}}  {line}")


def defaults(name: str, flags: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the flags of an experiment are where they are not given, for its data set; None if it is not here."""
    if name not in packaged.listing():
        return None
    from jaxdl.run import FlagError

    config_class = packaged.experiment(name).Config
    try:
        return dataclasses.asdict(config_class(**{by: flags[by] for by in config_class.recipes}))
    except (FlagError, KeyError, TypeError):  # of another version
        return dataclasses.asdict(config_class())


def use(asked: argparse.Namespace, flags: Sequence[str], word: str) -> None:
    """What a finished run says of files, or its score on another data set."""
    from jaxdl.run.command.predictions import expand, with_flags, write_evaluation, write_predictions
    from jaxdl.run.command.source import module_from
    from jaxdl.run.command.use import open_finished

    module = module_from(Path(asked.module)) if asked.module else None
    given = os.environ.get("JAXDL_DATA_DIR")
    opened = open_finished(asked.run, module, asked.fit, **{"data_dir": given} if given else {})
    opened = with_flags(opened, flags)
    if word == "evaluate":
        write_evaluation(opened, asked.inputs[0])
    else:
        write_predictions(opened, [path for one in asked.inputs for path in expand(one, opened.inference.words)])


def compare(folders: Sequence[Path], out: Path, fit: str | None) -> None:
    """Prints the table and writes the picture."""
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
    print(f"picture: {out}", file=sys.stderr)


def free(name: str) -> str:
    """A file of this name, or name-2, name-3 where there is one."""
    path = Path(name)
    names = (path if n == 1 else path.with_stem(f"{path.stem}-{n}") for n in itertools.count(1))
    return str(next(path for path in names if not path.exists()))


def fail(message: str, status: int = USAGE) -> NoReturn:
    """One line, and the end."""
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    command()
