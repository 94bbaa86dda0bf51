"""SIGINT, SIGTERM and SIGHUP end a run after its state is saved; a second signal ends it at once."""

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
        """Stores the number of the signal."""
        super().__init__(f"{signal.Signals(signum).name}: saved at step {step}")
        self.signum = signum


@contextmanager
def caught(active: bool, say: Callable[[str], None]) -> Iterator[list[int]]:
    """Yields a list to which each arriving signal is appended while the block runs; it stays empty if not `active`.

    The first signal is acknowledged by `say`, the second ends the process. A thread does both at once: the handler of
    the operating system wakes it through a pipe. Python itself runs a handler only between two of its instructions, and
    the next one may be a minute away while XLA compiles.
    """
    arrived: list[int] = []
    if not active or threading.current_thread() is not threading.main_thread():
        yield arrived
        return

    def handler(signum: int, frame: Any) -> None:
        arrived.append(signum)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # set_wakeup_fd requires it
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
    """Reads signal numbers until the pipe is closed; the second one that ends a run ends the process."""
    with open(reader, "rb", buffering=0) as pipe:
        first = True
        while number := pipe.read(1):
            if number[0] in ENDING:
                if not first:
                    os._exit(128 + number[0])
                first = False
                with contextlib.suppress(
                    OSError, ValueError
                ):  # stderr may be closed; the second signal must still work
                    say(f"{signal.Signals(number[0]).name}: saving this step, then stopping; repeat to stop at once")
