"""The experiments, what has been run of them, and runs beside each other.

    python -m experiments                                                   the experiments, one line each
    python -m experiments list --runs                                       what is in runs/, the newest first
    python -m experiments list --runs --dir=/big/disk/runs
    python -m experiments compare runs/vae/A runs/vae/B                     their curves, compare.png, and last numbers
    python -m experiments compare runs/gan/* --fit=wgan_gp --out=gan.png    one fit of runs that have several
    python -m experiments compare SWEEP                                     the points of a sweep
    python -m experiments new NAME                                          a file to begin an experiment with
    python -m experiments predict RUN FILE FILE --module=my.py              a finished run of a file of one's own
    python -m experiments evaluate RUN mnist

An experiment is run by python -m experiments.NAME [--flag=value ...]; its --help tells its flags.
"""

import argparse
import ast
import dataclasses
import difflib
import importlib
import os
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import experiments
from jaxdl.streams import keep_streams, printable

COMMANDS = ("list", "compare", "new", "predict", "evaluate")
USAGE, BAD_DATA, MISSING = 2, 65, 66


def listing() -> dict[str, tuple[str, str]]:
    """{name: (family, first line of its docstring)} of every experiment, none of which is imported."""
    found = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(experiments.__path__)):
        root = Path(experiments.__path__[0])
        path = root / name / "__init__.py" if (root / name).is_dir() else root / f"{name}.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        families = [
            node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and ast.unparse(node.targets[0]) == "FAMILY"
        ]
        if families:
            found[name] = str(families[0]), (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(arguments: Sequence[str]) -> None:
    """Does what the words say; what is wrong with them is one line and exit status 2, a damaged run 65."""
    if any(word in ("--help", "-h", "-help", "help") for word in arguments):
        print(__doc__.strip())
        return
    command, words = (arguments[0], arguments[1:]) if arguments else ("list", [])
    if command not in COMMANDS:
        fail(unknown(command))
    asked = parse(command, words)
    if command == "list" and not (asked.runs or asked.dir):
        print("python -m experiments.NAME [--flag=value ...]    (--help tells an experiment's flags)\n")
        lines = listing()
        for family in dict.fromkeys(family for family, _ in sorted(lines.values())):
            print(f"{family}:")
            for name, (of, line) in lines.items():
                if of == family:
                    print(f"  {name:{max(map(len, lines))}}  {line}")
        return

    from jaxdl.data import DataError, MissingData  # what only lists the experiments need not wait for jax
    from jaxdl.run import FlagError
    from jaxdl.run.command.skeleton import write_skeleton
    from jaxdl.run.store import runs

    try:
        if command == "new":
            checkout = Path("experiments/__main__.py").exists()
            path = write_skeleton(asked.name, Path("experiments" if checkout else "."))
            print(f"{path}: edit it, and run it by python {f'-m experiments.{path.stem}' if checkout else path}")
        elif command in ("predict", "evaluate"):
            used(asked, command)
        elif command == "list":
            print(runs.runs_table(Path(asked.dir or "runs"), defaults))
        else:
            compare([Path(folder) for folder in asked.folders], Path(asked.out), asked.fit)
    except FlagError as error:
        fail(str(error))
    except DataError as error:
        fail(str(error), BAD_DATA)
    except MissingData as error:
        fail(str(error), MISSING)


def parse(command: str, words: Sequence[str]) -> argparse.Namespace:
    """The words after a command."""
    parser = Parser(prog=f"python -m experiments {command}", add_help=False, allow_abbrev=False)
    if command == "list":
        parser.add_argument("--runs", action="store_true")
        parser.add_argument("--dir")
    elif command == "new":
        parser.add_argument("name", metavar="NAME")
    elif command in ("predict", "evaluate"):
        parser.add_argument("run", metavar="RUN")
        parser.add_argument("inputs", nargs="+" if command == "predict" else 1, metavar="INPUT")
        parser.add_argument("--module")
    else:
        parser.add_argument("folders", nargs="*", metavar="RUN")
        parser.add_argument("--out", default="compare.png")
        parser.add_argument("--fit")
    asked, rest = parser.parse_known_intermixed_args(words)
    if rest:
        known = {"list": ["--runs", "--dir"], "compare": ["--out", "--fit"]}.get(command, ["--module", "--help"])
        nearest = difflib.get_close_matches(rest[0].partition("=")[0], known, n=1, cutoff=0.0)[0]
        fail(f"{rest[0]}: {command} does not know it; the nearest is {nearest} (--help has examples)")
    if command == "compare" and not asked.folders:
        fail("compare: name the folders of runs (python -m experiments list --runs)")
    if command == "compare" and not asked.out.endswith(".png"):
        fail(f"--out={asked.out}: must end in .png")
    return asked


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """`error: ...` and exit status 2."""
        fail(f"{message} (--help has examples)")


def unknown(word: str) -> str:
    """What to say to a word that is no command."""
    names = listing()
    if word in names:
        return f"{word}: an experiment is run by python -m experiments.{word}"
    nearest = difflib.get_close_matches(word, [*COMMANDS, *names], n=1, cutoff=0.0)[0]
    hint = nearest if nearest in COMMANDS else f"the experiment {nearest}, python -m experiments.{nearest}"
    return f"{word}: no such command; the nearest is {hint} (--help has examples)"


def defaults(name: str, flags: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the flags of an experiment are where they are not given, for its data set; None if it is not here."""
    if name not in listing():
        return None
    from jaxdl.run import FlagError

    config_class = importlib.import_module(f"experiments.{name}").Config
    try:
        return dataclasses.asdict(config_class(**{by: flags[by] for by in config_class.recipes}))
    except (FlagError, KeyError, TypeError):  # of another version
        return dataclasses.asdict(config_class())


def used(asked: argparse.Namespace, command: str) -> None:
    """What a finished run says of files, or its score on another data set."""
    from jaxdl.run.command.predictions import expand, write_evaluation, write_predictions
    from jaxdl.run.command.source import module_from
    from jaxdl.run.command.use import open_finished

    module = module_from(Path(asked.module)) if asked.module else None
    given = os.environ.get("JAXDL_DATA_DIR")
    run = open_finished(asked.run, module, **{"data_dir": given} if given else {})
    if command == "evaluate":
        write_evaluation(run, asked.inputs[0])
    else:
        write_predictions(run, [path for word in asked.inputs for path in expand(word)])


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


def fail(message: str, status: int = USAGE) -> NoReturn:
    """One line, and the end."""
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    keep_streams()
    main(sys.argv[1:])
