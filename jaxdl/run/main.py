"""From a command line to an exit status: the frame around every experiment's `main(config)`."""

import dataclasses
import importlib.metadata
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax

from jaxdl.data import DataError, MissingData
from jaxdl.run.config import RunConfig
from jaxdl.run.flags import FlagError, given, help_text, parse
from jaxdl.run.folder import discard, open_run, read_json, write_json
from jaxdl.run.loop import Diverged
from jaxdl.run.report import Claim, claims_table, say
from jaxdl.run.signals import Interrupted

USAGE, BAD_DATA, NO_INPUT = 2, 65, 66  # exit statuses; the last two are those of BSD's sysexits.h


def main(config_class: type[RunConfig], body: Callable[[Any], Sequence[Claim]]) -> None:
    """Runs body(config) with the configuration of the command line and ends the process.

    The run's folder is made or resumed; the claims that `body` returns are printed and saved in summary.json. What a
    user can mend is told in one line: exit status 2 for a flag, 66 for a file that is missing, 65 for a broken one, 1
    for a loss that is no number, 128 + n for signal n.
    """
    module = sys.modules["__main__"]
    command = f"python -m {module.__spec__.name}" if module.__spec__ else f"python {sys.argv[0]}"
    name = module.__spec__.name.rpartition(".")[2] if module.__spec__ else Path(sys.argv[0]).stem
    if any(word in ("--help", "-h", "--helpfull", "--helpshort", "-help") for word in sys.argv[1:]):
        print(help_text(config_class, module.__doc__ or "", command))
        sys.exit(0)
    try:
        config = parse(config_class, sys.argv[1:])
        config = dataclasses.replace(config, data_dir=config.data_dir or os.environ.get("JAXDL_DATA_DIR") or None)
        config = open_run(config, name)
    except FlagError as error:
        _fail(error, USAGE)
    os.environ.setdefault("MPLBACKEND", "Agg")
    if jax.config.values.get("jax_compilation_cache_dir") is None:
        jax.config.update("jax_compilation_cache_dir", cache_folder())
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    workdir = Path(str(config.workdir))
    say(f"run folder: {workdir}")
    repeat = dataclasses.replace(config, workdir=None, overwrite=False)
    resume = dataclasses.replace(repeat, workdir=str(workdir))
    ending = f"resume: {command} {shlex.join(given(resume))}\nrepeat: {command} {shlex.join(given(repeat))}".rstrip()
    try:
        claims = body(config)
    except (FlagError, MissingData, DataError) as error:
        discard(workdir)
        _fail(
            error, USAGE if isinstance(error, FlagError) else NO_INPUT if isinstance(error, MissingData) else BAD_DATA
        )
    except Diverged as error:
        _fail(error, 1)
    except Interrupted as error:
        say(f"{error}\n{ending}")
        sys.exit(128 + error.signum)
    except KeyboardInterrupt:  # outside a fit there is nothing to save
        say(f"interrupted\n{ending}")
        sys.exit(128 + signal.SIGINT)
    results = {str(p.parent.relative_to(workdir)): read_json(p) for p in sorted(workdir.glob("**/result.json"))}
    write_json(
        workdir / "summary.json",
        {
            "experiment": name,
            "command": f"{command} {shlex.join(given(repeat))}".rstrip(),
            "flags": dataclasses.asdict(config),
            "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "versions": {package: importlib.metadata.version(package) for package in ("jax", "flax", "optax")},
            "fits": results,
            "claims": [claim._asdict() for claim in claims],
        },
    )
    print(claims_table(claims))
    say(ending)


def cache_folder() -> str:
    """The user's own folder for compiled programs."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "jaxdl", "xla")


def _fail(error: Exception, status: int) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(status)
