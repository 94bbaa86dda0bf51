"""Settings of the C library and of XLA that speed up training on a CPU; a process must have them before jax starts.

`python -m experiments.NAME` and `jaxdl run` restart themselves with them, `launch.sh` exports them, and
`jaxdl.run.main` sets those that XLA reads. Variables that the user has set are not changed, and JAXDL_TUNED=0 turns all
of this off. This module imports nothing heavy: it runs before jax does.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

SWITCH = "JAXDL_TUNED"
STARTED_ANEW = "JAXDL_STARTED_ANEW"  # the process id, which exec keeps and children do not share


class Setting(NamedTuple):
    """An environment variable, its value, and whether this machine supports it."""

    name: str
    value: str
    fits: Callable[[], bool]


def has_glibc() -> bool:
    """Returns whether the C library is glibc, whose allocator GLIBC_TUNABLES configures."""
    return "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {})


def knows_ynn() -> bool:
    """Returns whether the installed jaxlib has the flag for YNN; others would abort at an unknown flag."""
    from importlib import metadata  # half of this module's run time, and not needed if XLA_FLAGS is set

    try:
        return metadata.version("jaxlib").startswith("0.10.")
    except metadata.PackageNotFoundError:
        return False


# Both are set for accelerators too: they affect only the host, and the bits of its results should not depend on the
# attached devices or on JAX_PLATFORMS.
SETTINGS = (
    # Huge pages for large buffers: page faults take a fifth of a CPU step (the 32-64 CNN: 38 ms, with huge pages 31).
    Setting("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", has_glibc),
    # jaxlib 0.10's default library for CPU convolutions, YNN, does much of the work on one core: the 32-64 CNN's step
    # takes 28 ms with it and 19 ms without; its matrix products and reductions are fast and stay enabled.
    Setting("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=individual_dot,reduce", knows_ynn),
)


def missing(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns {name: value} of the settings that fit this machine and are not set; {} if JAXDL_TUNED is 0."""
    if environment.get(SWITCH) == "0":
        return {}
    return {name: value for name, value, fits in SETTINGS if not environment.get(name) and fits()}


def set_xla_flags() -> None:
    """Sets XLA_FLAGS if missing; XLA reads them when jax first looks for devices, so call this before."""
    os.environ.update({name: value for name, value in missing(os.environ).items() if name == "XLA_FLAGS"})


def start_anew() -> None:
    """Restarts `python -m experiments.NAME` with the settings, as `set_all` does; for other programs, does nothing."""
    if _starts_an_experiment():
        set_all()


def set_all() -> None:
    """Restarts this program with the missing settings, if there are any.

    The process keeps its id, its arguments and the options of its interpreter. If the system refuses the restart, the
    program continues with XLA's settings alone.
    """
    settings = missing(os.environ)
    os.environ.update(settings)
    # The C library reads its variable once, when a program starts; XLA reads its own later.
    if "GLIBC_TUNABLES" in settings and os.environ.get(STARTED_ANEW) != str(os.getpid()):
        os.environ[STARTED_ANEW] = str(os.getpid())
        with contextlib.suppress(OSError):
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def cache_folder() -> str:
    """The user's own folder for compiled programs, where JAX_COMPILATION_CACHE_DIR names no other."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "jaxdl", "xla")


def _starts_an_experiment() -> bool:
    """Returns whether Python itself is about to run the module `experiments.NAME`.

    While Python looks for the module of -m, sys.argv[0] is "-m" and __main__ is empty; under pytest, a debugger or a
    profiler, __main__ is theirs. The word before the arguments is the module's name, possibly joined to -m.
    """
    if sys.argv[:1] != ["-m"] or hasattr(sys.modules["__main__"], "__file__"):
        return False
    return re.fullmatch(r"(-\w*m)?experiments\.[a-z]\w*", sys.orig_argv[-len(sys.argv)]) is not None
