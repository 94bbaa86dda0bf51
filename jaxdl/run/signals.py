"""SIGINT and SIGTERM end a run after its state is saved; a second one ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(RuntimeError):
    """A signal ended the run after its state was saved; the exit status is 128 + signum."""

    def __init__(self, signum: int, step: int) -> None:
        """Remembers which signal it was."""
        super().__init__(f"{signal.Signals(signum).name}: saved at step {step}")
        self.signum = signum


@contextmanager
def caught(active: bool) -> Iterator[list[int]]:
    """A list that is filled when a signal arrives, while the block runs; not `active`, it stays empty."""
    arrived: list[int] = []
    if not active or threading.current_thread() is not threading.main_thread():
        yield arrived
        return

    def handler(signum: int, frame: Any) -> None:
        if arrived:
            os._exit(128 + signum)
        arrived.append(signum)

    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield arrived
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)
