"""Prefetches batches in a thread while the devices compute."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

AHEAD = 2  # batches fetched beyond the requested one
LONGEST = 5.0  # seconds that `close` waits for a running fetch


class Ahead:
    """Calls fetch(seed, t) for t = 0, 1, ... in a thread, at most AHEAD batches early and never beyond `steps`.

    Fetches run one at a time, in order. The exception of a fetch is raised by the `get` of that batch, and nothing is
    fetched after it. The thread is a daemon: if it blocks in a source forever, the process can still exit.
    """

    def __init__(self, fetch: Callable[[int, int], Any], steps: int) -> None:
        """Stores the arguments; the first `get` starts the thread."""
        self._fetch, self._steps = fetch, steps
        self._thread: threading.Thread | None = None
        self._asked: SimpleQueue[tuple[int, int, Future[Any]] | None] = SimpleQueue()
        self._coming: deque[tuple[int, int, Future[Any]]] = deque()  # (seed, t, batch) in order

    def get(self, seed: int, t: int) -> Any:
        """Returns batch t and requests the next ones."""
        if not self._coming or self._coming[0][:2] != (seed, t):
            self.close()  # another seed, or batches left over from an early end
            self._ask(seed, t)
        while len(self._coming) <= AHEAD and (last := self._coming[-1][1]) + 1 < self._steps:
            self._ask(seed, last + 1)
        try:
            return self._coming.popleft()[2].result()
        except BaseException:
            self.close()  # nothing is fetched after a failure
            raise

    def close(self) -> None:
        """Cancels pending fetches and waits for the running one."""
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
    """Fetches until it receives None or a fetch fails."""
    while job := asked.get():
        seed, t, future = job
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(fetch(seed, t))
        except BaseException as error:
            future.set_exception(error)
            return
