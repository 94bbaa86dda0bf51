"""Where a result was measured: commit, processor, Python and the versions of the libraries that it depends on."""

import functools
import importlib.metadata
import platform
import subprocess

from jaxdl.machine import processor
from jaxdl.run.records.sources import OURS, ROOT

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn")  # those that compute results


def provenance() -> dict[str, object]:
    """{"commit", "processor", "python", "versions": {library: version}} of this process."""
    return {
        "commit": commit(),
        "processor": processor(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """{library: version} of those that compute results."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@functools.cache  # the code of this process, which a sweep records at every point
def commit() -> str:
    """The commit of the checkout that this code is in, with "+" if its code differs; "" outside a checkout."""
    git = ("git", "-C", str(ROOT))
    try:
        run = lambda *words: (
            subprocess.run([*git, *words], capture_output=True, text=True, timeout=10, check=True).stdout
        )
        if not (ROOT / "pyproject.toml").is_file():  # installed below somebody else's checkout
            return ""
        return run("rev-parse", "--short=10", "HEAD").strip() + "+" * bool(run("status", "--porcelain", "--", *OURS))
    except (OSError, subprocess.SubprocessError):
        return ""
