"""What a thread fetches while the devices compute."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

AHEAD = 2  # batches beyond the one that is asked for
LONGEST = 5.0  # seconds that an end waits for a fetch under way


class Ahead:
    """fetch(seed, t) for t = 0, 1, ... in a thread of its own, AHEAD of what is asked for and never beyond `steps`.

    One fetch is under way at a time, in order. What it raises comes up where that batch is asked for, and nothing is
    fetched after it. The thread is a daemon: one that waits in a source for ever keeps no process from its end.
    """

    def __init__(self, fetch: Callable[[int, int], Any], steps: int) -> None:
        """The thread starts with the first `get`."""
        self._fetch, self._steps = fetch, steps
        self._thread: threading.Thread | None = None
        self._asked: SimpleQueue[tuple[int, int, Future[Any]] | None] = SimpleQueue()
        self._coming: deque[tuple[int, int, Future[Any]]] = deque()  # (seed, t, batch) in order

    def get(self, seed: int, t: int) -> Any:
        """Waits for batch t and has the next ones fetched."""
        if not self._coming or self._coming[0][:2] != (seed, t):
            self.close()  # another seed, or batches that an early end left
            self._ask(seed, t)
        while len(self._coming) <= AHEAD and (last := self._coming[-1][1]) + 1 < self._steps:
            self._ask(seed, last + 1)
        try:
            return self._coming.popleft()[2].result()
        except BaseException:
            self.close()  # nothing comes behind what failed
            raise

    def close(self) -> None:
        """Drops what is not begun and waits for what is."""
        if self._thread is None:
            return
        for _, _, future in self._coming:
            future.cancel()
        self._coming.clear()
        self._asked.put(None)
        self._thread.join(LONGEST)
        self._thread, self._asked = None, SimpleQueue()

    def _ask(self, seed: int, t: int) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=_work, args=(self._fetch, self._asked), name="jaxdl-feed", daemon=True
            )
            self._thread.start()
        job = seed, t, Future[Any]()
        self._coming.append(job)
        self._asked.put(job)


def _work(fetch: Callable[[int, int], Any], asked: "SimpleQueue[tuple[int, int, Future[Any]] | None]") -> None:
    """Fetches until it is told to end, or one fetch fails."""
    while job := asked.get():
        seed, t, future = job
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(fetch(seed, t))
        except BaseException as error:
            future.set_exception(error)
            return
