"""SIGINT, SIGTERM and SIGHUP end a run after its state is saved; a second one ends it at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(RuntimeError):
    """A signal ended the run after its state was saved; the exit status is 128 + signum."""

    def __init__(self, signum: int, step: int) -> None:
        """Remembers which signal it was."""
        super().__init__(f"{signal.Signals(signum).name}: saved at step {step}")
        self.signum = signum


@contextmanager
def caught(active: bool, say: Callable[[str], None]) -> Iterator[list[int]]:
    """A list that is filled when a signal arrives, while the block runs; not `active`, it stays empty.

    The first is acknowledged by `say`, a second one ends the process, both at once and by a thread that the system's
    own handler tells through a pipe: Python runs a handler only between two of its own instructions, and the next one
    may be a minute away where XLA compiles.
    """
    arrived: list[int] = []
    if not active or threading.current_thread() is not threading.main_thread():
        yield arrived
        return

    def handler(signum: int, frame: Any) -> None:
        arrived.append(signum)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # as set_wakeup_fd wants it
    threading.Thread(target=_end_at_second, args=(reader, say), name="signals", daemon=True).start()
    wanted = [signum for signum in ENDING if signal.getsignal(signum) != signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {signum: signal.signal(signum, handler) for signum in wanted}
    told = signal.set_wakeup_fd(writer)
    try:
        yield arrived
    finally:
        signal.set_wakeup_fd(told)
        for signum, old in before.items():
            signal.signal(signum, old)
        os.close(writer)


def _end_at_second(reader: int, say: Callable[[str], None]) -> None:
    """Reads the numbers of signals until the pipe is closed, or two of them were to end the run."""
    with open(reader, "rb", buffering=0) as pipe:
        first = True
        while number := pipe.read(1):
            if number[0] in ENDING:
                if not first:
                    os._exit(128 + number[0])
                first = False
                with contextlib.suppress(OSError, ValueError):  # stderr may be closed; the second one must still count
                    say(f"{signal.Signals(number[0]).name}: ends when this step is saved; once more ends at once")
