"""`jaxdl doctor`: versions, devices, settings, compilation cache, data and extras of this installation.

Each part is examined on its own, and a part that fails is one line: the command is for installations that are broken.
Nothing heavy is imported before it is examined, and no run imports this module.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from jaxdl import extras, packaged, tuned, variables
from jaxdl.machine import processor, size
from jaxdl.streams import printable

NEEDED = (5, 1)  # bash, for --processes and --max-restarts
SHOWN = 8  # devices


class Line(NamedTuple):
    """A name, what was found, and whether jaxdl cannot work with it."""

    name: str
    value: str
    problem: bool = False


def examine(as_json: bool = False) -> int:
    """Prints the report and returns the exit status: 1 if something that jaxdl needs is missing or of a wrong version.

    Args:
      as_json: print {"problems": [text], "sections": {title: [{"name", "value", "problem"}]}} instead of text.
    """
    sections = {title: list(_guarded(title, part)) for title, part in PARTS.items()}
    problems = [f"{line.name}: {line.value}" for lines in sections.values() for line in lines if line.problem]
    if as_json:
        found = {title: [line._asdict() for line in lines] for title, lines in sections.items()}
        print(json.dumps({"problems": problems, "sections": found}, indent=2))
        return int(bool(problems))
    width = max(len(line.name) for lines in sections.values() for line in lines)
    for title, lines in sections.items():
        print(title)
        for line in lines:
            print(printable(f"{'!' if line.problem else ' '} {line.name:{width}}  {line.value}"))
        print()
    print("no problem found" if not problems else f"{len(problems)} of the lines above, marked !, must be mended")
    return int(bool(problems))


def _guarded(title: str, part: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines of a part; an exception ends the part with a line, and is a problem where jaxdl cannot do without."""
    try:
        yield from part()
    except Exception as error:
        text = (str(error).splitlines() or [""])[0][:200]
        yield Line("error", f"{type(error).__name__}: {text}", title in ("Versions", "Devices"))


def versions() -> Iterator[Line]:
    """Python and the packages that jaxdl depends on, each with the versions that jaxdl works with."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    python, wanted = _requirements()
    found = platform.python_version()
    good = SpecifierSet(python).contains(found, prereleases=True)
    yield Line("jaxdl", f"{_version('jaxdl') or 'not installed'} (imported from {packaged.PLACE.parent})")
    yield Line("python", f"{found} ({sys.executable}){'' if good else f'; needs {python}'}", not good)
    for requirement in map(Requirement, wanted):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        good = version is not None and requirement.specifier.contains(version, prereleases=True)
        value = version or "not installed"
        yield Line(requirement.name, value if good else f"{value}; needs {requirement.specifier}", not good)
        if requirement.name == "jax":
            yield Line("jaxlib", _version("jaxlib") or "not installed", not _version("jaxlib"))


def _requirements() -> tuple[str, list[str]]:
    """The range of Python and the requirements: those of the checkout, else those of the installed package."""
    project = packaged.PLACE.parent / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return table["requires-python"], table["dependencies"]
    return metadata.metadata("jaxdl")["Requires-Python"], metadata.requires("jaxdl") or []


def _version(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def devices() -> Iterator[Line]:
    """Backend and devices as jax sees them, the processor and the memory of this machine."""
    yield Line("processor", f"{processor()}, {_cores()} cores")
    yield Line("memory", size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    tuned.set_xla_flags()
    # else asking for the devices would take most of the memory of a GPU on which a run may be training
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    found = jax.devices()
    yield Line("backend", f"{jax.default_backend()}, {len(found)} {'device' if len(found) == 1 else 'devices'}")
    for device in found[:SHOWN]:
        limit = (device.memory_stats() or {}).get("bytes_limit")
        yield Line(str(device), f"{device.device_kind}{f', {size(limit)}' if limit else ''}")
    if len(found) > SHOWN:
        yield Line("...", f"{len(found) - SHOWN} more")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settings() -> Iterator[Line]:
    """What jaxdl sets before a run, and the variables of jax and jaxdl that are set, with what each does."""
    own = tuned.missing(GIVEN)
    for name, value, fits in tuned.SETTINGS:
        if GIVEN.get(name):
            by = "jaxdl's own value" if GIVEN[name] == value else f"given; jaxdl's own value is {value}"
            yield Line(name, f"{GIVEN[name]} ({by})")
        elif name in own:
            yield Line(name, f"{value} (a run sets it)")
        else:
            why = f"{tuned.SWITCH}=0" if fits() else "this installation does not know the setting"
            yield Line(name, f"not set ({why})")
    for name in sorted(name for name in GIVEN if name.startswith(("JAX_", "JAXDL_"))):
        yield Line(name, f"{GIVEN[name]} ({variables.purpose(name)})")


def cache() -> Iterator[Line]:
    """The folder of compiled programs."""
    if GIVEN.get("JAX_ENABLE_COMPILATION_CACHE", "").lower() in ("0", "false", "no", "off"):
        yield Line("cache", "off (JAX_ENABLE_COMPILATION_CACHE)")
        return
    folder = Path(GIVEN.get("JAX_COMPILATION_CACHE_DIR") or tuned.cache_folder())
    if not folder.is_dir():
        yield Line("folder", f"{folder} (the first run makes it)")
        return
    yield Line("folder", f"{folder}{'' if os.access(folder, os.W_OK) else ' (cannot be written)'}")
    with os.scandir(folder) as entries:
        sizes = [(entry.name.endswith("-cache"), entry.stat().st_size) for entry in entries if entry.is_file()]
    programs = sum(is_program for is_program, _ in sizes)
    yield Line("content", f"{programs:,} programs, {size(sum(count for _, count in sizes))}")


def data() -> Iterator[Line]:
    """The data sets in JAXDL_DATA_DIR; only names of files are looked at."""
    folder = GIVEN.get("JAXDL_DATA_DIR", "")
    yield Line("JAXDL_DATA_DIR", folder or "not set; it names the folder that holds original data files")
    if folder and not Path(folder).is_dir():
        yield Line("error", f"{folder}: no such folder")
        return
    from jaxdl.data.known import KNOWN

    for name, files in KNOWN.items() if folder else ():
        if not (missing := files.missing(folder)):
            yield Line(name, f"found, {len(files.names)} {'file' if len(files.names) == 1 else 'files'}")
        elif len(missing) == len(files.names):
            yield Line(name, f"not found ({next(filter(None, files.folders))}/{missing[0]})")
        else:
            yield Line(name, f"incomplete, without {', '.join(missing)}")
    yield Line("without files", "digits, glyphs, iris, wine, breast_cancer, diabetes, python_docs")


def optional() -> Iterator[Line]:
    """The extras: installed, or what is missing, what it is for and how to install it."""
    for name, extra in extras.EXTRAS.items():
        if missing := extras.absent(name):
            some = "" if len(missing) == len(extra.modules) else f"without {', '.join(missing)}; "
            yield Line(name, f"{some or 'not installed; '}{extra.purpose}: {extras.command(name)}")
        else:
            yield Line(name, f"installed; {extra.purpose}")


def launcher() -> Iterator[Line]:
    """What launch.sh needs."""
    script = packaged.PLACE.parent / "launch.sh"
    yield Line("launch.sh", str(script) if script.is_file() else "not found; a checkout of jaxdl has it")
    bash = shutil.which("bash")
    if not bash:
        yield Line("bash", "not found; launch.sh needs it")
        return
    told = subprocess.run([bash, "--version"], capture_output=True, text=True, timeout=10).stdout
    match = re.search(r"version (\d+)\.(\d+)\S*", told)
    old = match is not None and (int(match[1]), int(match[2])) < NEEDED
    number = match[0].removeprefix("version ") if match else "of an unknown version"
    yield Line("bash", f"{number}{'; --processes and --max-restarts need 5.1 or newer' if old else ''}")


def runs() -> Iterator[Line]:
    """Whether runs can be written where the command was called."""
    folder = Path("runs").absolute()
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield Line("folder", f"{folder} cannot be written ({error.strerror}); give runs another --workdir")
        return
    made = "" if there == folder else ", made by the first run"
    yield Line("folder", f"{folder} (can be written{made}; {size(shutil.disk_usage(there).free)} free)")


GIVEN = dict(os.environ)  # before this module sets anything
PARTS: dict[str, Callable[[], Iterator[Line]]] = {
    "Versions": versions,
    "Devices": devices,
    "Settings": settings,
    "Compilation cache": cache,
    "Data": data,
    "Extras": optional,
    "launch.sh": launcher,
    "Runs": runs,
}
