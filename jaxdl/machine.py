"""The machine in words: the processor's name, sizes in bytes. Nothing heavy is imported here."""

import contextlib
import platform
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def processor() -> str:
    """Returns the processor's name as the system gives it."""
    with contextlib.suppress(OSError):
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()


def size(count: float) -> str:
    """Formats a number of bytes: 1.23 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
