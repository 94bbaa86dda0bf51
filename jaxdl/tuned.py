"""Settings of the C library and of XLA under which a CPU trains fast; a process must have them before jax starts.

`python -m experiments.NAME` and `jaxdl run` start themselves anew with them, `launch.sh` exports them, and
`jaxdl.run.main` sets those that XLA reads. What the user has set stays as it is, and JAXDL_TUNED=0 turns all of this
off. Nothing heavy is imported here: it runs before jax does.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

SWITCH = "JAXDL_TUNED"
STARTED_ANEW = "JAXDL_STARTED_ANEW"  # holds the process's id, which exec keeps and children do not share


class Setting(NamedTuple):
    """A variable of the environment, its value, and whether this machine understands it."""

    name: str
    value: str
    fits: Callable[[], bool]


def has_glibc() -> bool:
    """Whether the C library is glibc, whose allocator GLIBC_TUNABLES is for."""
    return "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {})


def knows_ynn() -> bool:
    """Whether the installed jaxlib has the flag for YNN; any other would end the program at a flag it does not know."""
    from importlib import metadata  # half of the time this module takes, and not needed where XLA_FLAGS is set

    try:
        return metadata.version("jaxlib").startswith("0.10.")
    except metadata.PackageNotFoundError:
        return False


# Both are set where there is an accelerator too: they concern its host only, and the bits of what the host computes
# should not depend on what is plugged in, nor on JAX_PLATFORMS.
SETTINGS = (
    # Huge pages for large buffers: a fifth of a CPU step goes into page faults without (the 32-64 CNN: 38 ms, then 31).
    Setting("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", has_glibc),
    # jaxlib 0.10's default library for CPU convolutions, YNN, uses one core for much of the work: the 32-64 CNN's step
    # takes 28 ms with it and 19 ms without; its matrix products and reductions are good and stay.
    Setting("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=individual_dot,reduce", knows_ynn),
)


def missing(environment: Mapping[str, str]) -> dict[str, str]:
    """{name: value} of the settings that fit this machine and are not in `environment`; {} if JAXDL_TUNED is 0."""
    if environment.get(SWITCH) == "0":
        return {}
    return {name: value for name, value, fits in SETTINGS if not environment.get(name) and fits()}


def set_xla_flags() -> None:
    """Sets XLA_FLAGS if they are missing; XLA reads them when jax first looks for devices, so call it before."""
    os.environ.update({name: value for name, value in missing(os.environ).items() if name == "XLA_FLAGS"})


def start_anew() -> None:
    """If `python -m experiments.NAME` is starting, gives it the settings, as `set_all` does; else does nothing."""
    if _starts_an_experiment():
        set_all()


def set_all() -> None:
    """Starts this program once more with the missing settings, if there are any.

    The process keeps its id, its arguments and the options of its interpreter. If the system refuses to start it anew,
    it goes on with XLA's settings alone.
    """
    settings = missing(os.environ)
    os.environ.update(settings)
    # The C library reads its variable once, as a program starts; for XLA's it is early enough here.
    if "GLIBC_TUNABLES" in settings and os.environ.get(STARTED_ANEW) != str(os.getpid()):
        os.environ[STARTED_ANEW] = str(os.getpid())
        with contextlib.suppress(OSError):
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def cache_folder() -> str:
    """The user's own folder for compiled programs, where JAX_COMPILATION_CACHE_DIR names no other."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "jaxdl", "xla")


def _starts_an_experiment() -> bool:
    """Whether Python itself is about to run the module `experiments.NAME`.

    While it looks for the module of -m, sys.argv[0] is "-m" and __main__ is empty; with pytest, a debugger or a
    profiler in between, __main__ is theirs. The word before the arguments is the module's name, maybe joined to -m.
    """
    if sys.argv[:1] != ["-m"] or hasattr(sys.modules["__main__"], "__file__"):
        return False
    return re.fullmatch(r"(-\w*m)?experiments\.[a-z]\w*", sys.orig_argv[-len(sys.argv)]) is not None
