"""The command line of every experiment: flags, run folder, report and exit status."""

import contextlib
import dataclasses
import os
import re
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils

from jaxdl.data import DataError, MissingData
from jaxdl.extras import MissingExtra
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.contract import findings, named
from jaxdl.run.command.download import download
from jaxdl.run.command.flags import FlagError, flags_of, given, help_text, parse
from jaxdl.run.command.predictions import use_run
from jaxdl.run.command.source import source_of
from jaxdl.run.command.sweep import configs, sweep
from jaxdl.run.engine.distributed import PortTaken, failing_at_once, initialize, is_first, processes
from jaxdl.run.engine.signals import Interrupted
from jaxdl.run.engine.training import Diverged
from jaxdl.run.records.provenance import provenance
from jaxdl.run.show.claims import Finding, claims_table
from jaxdl.run.show.plots import curves, save_figure
from jaxdl.run.show.report import log
from jaxdl.run.show.summary import summary
from jaxdl.run.store import settings
from jaxdl.run.store.checkpoint import Unwritten
from jaxdl.run.store.files import read_json, read_text, write_json
from jaxdl.run.store.folder import begun, open_run, recorded, records, undo, with_folder
from jaxdl.run.store.lock import locked
from jaxdl.run.store.runs import Run, expand, read_run
from jaxdl.run.store.tensorboard import write_report
from jaxdl.streams import keep_streams, printable, shell
from jaxdl.tuned import cache_folder, set_xla_flags

CANNOT_WRITE = 74  # BSD's EX_IOERR
LEAST = 3 << 30  # bytes of address space; with less, XLA's threads abort the process
# above 2 those of BSD's sysexits.h; all other errors: 1
STATUS = {PortTaken: 75, FlagError: 2, MissingExtra: 2, DataError: 65, MissingData: 66, Diverged: 70}


def main(module: Any = None) -> None:
    """Runs an experiment with the configuration of the command line and exits.

    Creates or resumes the run's folder, prints the findings of `report` and saves them in summary.json. An error that
    the user can fix is printed in one line, with exit status 2 for an invalid flag, 65 for a broken file, 66 for a
    missing file, 70 for a loss that is not finite, 74 for a disk that cannot be written, 75 if the port for several
    processes is in use, 128 + n after signal n.

    Args:
      module: the experiment, as defined in `jaxdl.run.command.contract`; the main module if not given.
    """
    keep_streams()
    module = module or sys.modules["__main__"]
    config_class, (name, command) = module.Config, named(module)
    if any(word in ("--help", "-h", "--helpfull", "--helpshort", "-help") for word in sys.argv[1:]):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # --help | head
        print(help_text(config_class, module.__doc__ or "", command))
        sys.exit(0)
    before: dict[str, str] = {}
    words = settings.given(os.environ)
    with failing_at_once(), contextlib.ExitStack() as held:
        try:
            config = parse(config_class, sys.argv[1:], partial(recorded, config_class, name))
            config = config.replace(data_dir=config.data_dir or os.environ.get("JAXDL_DATA_DIR") or None)
            set_xla_flags()
            if config.deterministic:
                os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
            initialize()
            _prepare()
            if config.download:
                if not hasattr(config, "dataset"):
                    raise FlagError(f"--download: {name} has no data set to download; leave the flag out")
                download(config.dataset, config.data_dir, mirror=config.mirror, progress=config.progress)
            if config.predict or config.evaluate:
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # --predict=... | head
                _use(config, module, name)
            if config.summary:
                if not hasattr(module, "build"):
                    raise FlagError("--summary: this is a study without a network of its own; leave the flag out")
                print(summary(module.build(config, module.data(config))))
                sys.exit(0)
            if processes() > 1 and not config.workdir:
                raise FlagError("--workdir: missing; several processes need a folder that all of them can access")
            if config.sweep:
                configs(_alone(config), config.sweep, config.trials)  # raises if any point is invalid
            config = with_folder(config, name)
            if is_first():
                held.enter_context(locked(Path(str(config.workdir))))
                before = records(Path(str(config.workdir)))
                config = open_run(config, name, source_of(module))
            if processes() > 1:
                multihost_utils.sync_global_devices("run folder")
        except (FlagError, MissingData, DataError, MissingExtra) as error:
            _fail(error)
        _run(config, lambda config: findings(module, config, command), name, command, words, before)


def _use(config: Any, module: Any, name: str) -> NoReturn:
    """Performs --predict and --evaluate, then exits; a run folder that cannot be written is a one-line error."""
    try:
        use_run(config, module, name)
    except MissingData:
        raise
    except OSError as error:
        _say_unwritten(error, config.workdir)
        sys.exit(CANNOT_WRITE)
    sys.exit(0)


def _run(
    config: Any, body: Callable[[Any], Sequence[Finding]], name: str, command: str, words: str, before: dict[str, str]
) -> None:
    workdir = Path(str(config.workdir))
    log(f"run folder: {workdir}")
    repeat = config.replace(workdir=None, overwrite=False)
    count = os.environ.get("JAXDL_PROCESSES", "1")
    started = command.removeprefix("python ").removeprefix("-m experiments.")
    again = words + (command if count == "1" else f"./launch.sh --processes={count} {started}")
    resume = [f"--workdir={workdir}", *([f"--only={config.only}"] if config.only else [])]
    ending = f"resume: {again} {shell(resume)}\nrepeat: {again} {shell(given(repeat))}".rstrip()
    save = lambda config, claims: _summary(config, claims, name, command)
    try:
        if config.sweep:
            claims: Sequence[Finding] = sweep(_alone(config), config.sweep, body, name, command, save, config.trials)
        else:
            claims = body(config)
        begun(workdir)
        save(config, claims)
    except (FlagError, MissingData, DataError, MissingExtra) as error:
        if is_first():
            undo(workdir, before)  # leaves an older run in the folder as it was
        _fail(error)
    except Diverged as error:
        _fail(error)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if is_first():
            undo(workdir, before)
        full = ("RESOURCE_EXHAUSTED", "Out of memory")
        if isinstance(error, jax.errors.JaxRuntimeError) and not any(word in str(error) for word in full):
            raise
        reason = (str(error) or "the machine's memory is used up").partition("\n")[0][:200]
        _fail(RuntimeError(f"out of memory: {reason}; use a smaller model, --batch_size or data set"))
    except OSError as error:
        _say_unwritten(error, workdir)
        os._exit(CANNOT_WRITE)  # threads that still try to write would delay the exit by minutes
    except Interrupted as error:
        log(f"{error}\n{ending}")
        sys.exit(128 + error.signum)
    except KeyboardInterrupt:  # outside of a fit, so there is nothing to save
        log(f"interrupted\n{ending}")
        sys.exit(128 + signal.SIGINT)
    try:
        draw_curves(config)
    except DataError as error:
        log(f"warning: {error}: its curves are not plotted")
    if is_first() and config.tensorboard:
        _report(config, claims)
    if is_first():
        print(claims_table(claims, rows=config.rows), flush=True)
    if failed := getattr(sys.stdout, "failed", ""):
        log(f"stdout: {failed}; the table is in {workdir / 'summary.json'}")
    log(ending)


def _alone(config: Any) -> Any:
    """Returns the flags that all points of a sweep share."""
    return config.replace(sweep=None, trials=None)


def _report(config: RunConfig, claims: Sequence[Finding]) -> None:
    """Writes TensorBoard's hyper-parameters, plots and texts, for each point of a sweep; errors become warnings."""
    for workdir in expand(Path(str(config.workdir))):
        try:
            run = read_run(workdir)
            flags = {f.name: run.flags.get(f.name) for f in flags_of(type(config)) if f.rule.affects_result}
            texts = {path.name: read_text(path) or "" for path in sorted(workdir.glob("*.txt"))}
            texts |= {} if config.sweep else {"claims": claims_table(claims, width=120)}
            write_report(workdir, flags, _last_metrics(run), texts)
        except (OSError, DataError) as error:
            log(f"warning: {workdir}: TensorBoard's report could not be written ({error})")


def _last_metrics(run: Run) -> dict[str, float]:
    """Returns {"test/accuracy": 0.98, ...} of each finished fit, the mean over its seeds."""
    found: dict[str, list[float]] = {}
    for fit, trace in ((fit, trace) for fit, traces in run.fits.items() for trace in traces if trace.ended):
        for part, metrics in (("test", trace.metrics()), ("valid", trace.valid())):
            for metric, value in metrics.items():
                found.setdefault("/".join(filter(None, (part, fit, metric))), []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def draw_curves(config: RunConfig) -> None:
    """Plots the curves of every fit below `workdir` whose NAME/curves.png is missing or older than its history."""
    if not is_first():
        return
    workdir = Path(str(config.workdir))
    for name, traces in read_run(workdir).fits.items():
        picture, logs = workdir / name / "curves.png", [trace.folder / "metrics.jsonl" for trace in traces]
        if not picture.exists() or any(p.exists() and p.stat().st_mtime > picture.stat().st_mtime for p in logs):
            save_figure(config, f"{name}/curves".lstrip("/"), partial(curves, {name: [t.rows for t in traces]}))


def _summary(config: Any, claims: Sequence[Finding], name: str, command: str) -> None:
    workdir, repeat = Path(str(config.workdir)), config.replace(workdir=None, overwrite=False)
    write_json(
        workdir / "summary.json",
        {
            "experiment": name,
            "command": f"{command} {shell(given(repeat))}".rstrip(),
            "flags": dataclasses.asdict(config),
            "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "settings": settings.settings(config.devices),
            **provenance(),
            "fits": {str(p.parent.relative_to(workdir)): read_json(p) for p in sorted(workdir.glob("**/result.json"))},
            "claims": [finding.record() for finding in claims],
        },
    )


def _prepare() -> None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= limit < LEAST:
        raise FlagError(f"ulimit -v {limit >> 10}: must be at least {LEAST >> 10}, or JAX aborts without a message")
    sys.unraisablehook = partial(_without_late_writers, sys.unraisablehook)
    os.environ.setdefault("MPLBACKEND", "Agg")
    # by default scikit-learn's threads spin while they wait; on a busy machine that slows or stalls even small fits
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if jax.config.values.get("jax_compilation_cache_dir") is None:
        jax.config.update("jax_compilation_cache_dir", cache_folder())
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        warnings.showwarning = partial(_without_damaged_entries, warnings.showwarning)


def _without_damaged_entries(before: Callable[..., Any], message: Warning | str, *where: Any, **more: Any) -> None:
    """Removes cache entries that JAX cannot read: it never replaces them, and would warn and compile in every run."""
    found = re.match(r"Error reading persistent compilation cache entry for '([\w.<>-]+)'", str(message))
    if not found:
        before(message, *where, **more)
        return
    for entry in Path(cache_folder()).glob("*-cache"):
        if entry.name.startswith(f"{found[1]}-"):
            entry.unlink(missing_ok=True)
    log(f"warning: {cache_folder()}: the damaged entry for {found[1]} is compiled again")


def _without_late_writers(before: Callable[[Any], Any], late: Any) -> None:
    """Hides the tracebacks of TensorStore's threads that outlive Orbax's event loop after a failed save."""
    if str(late.exc_value) != "Event loop is closed":
        before(late)


def _say_unwritten(error: OSError, workdir: Any) -> None:
    where = "" if isinstance(error, Unwritten) else f"{error.filename or workdir}: "
    print(printable(f"error: {where}{error.strerror or error}"), file=sys.stderr, flush=True)


def _fail(error: Exception) -> NoReturn:
    print(printable(f"error: {error}"), file=sys.stderr, flush=True)
    sys.exit(next((status for kind, status in STATUS.items() if isinstance(error, kind)), 1))
