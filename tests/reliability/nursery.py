"""Processes of `tests.reliability.program` without their start-up time: one imports everything once, then forks.

Each child is a process of its own, with command-line arguments, that a signal can end. JAX starts no thread and no
device before the first computation, so a fork before it is equivalent to a fresh start (the full gates use fresh ones,
and the results must be the same).
"""

import atexit
import contextlib
import importlib
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from jaxdl.tuned import knows_ynn

ROOT = Path(__file__).parents[2]
PROGRAM = "tests.reliability.program"


def quick_to_compile() -> str:
    """XLA_FLAGS with a flag of jaxlib 0.10 that halves the time of a compilation."""
    return os.environ.get("XLA_FLAGS", "") + (" --xla_cpu_use_fusion_emitters=false" if knows_ynn() else "")


def environment(devices: int = 1) -> dict[str, str]:
    """A user's environment: one device, no test settings, all compiled programs kept."""
    found = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONWARNINGS": "ignore"}
    found["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    found["OMP_WAIT_POLICY"] = "PASSIVE"  # set by a command before it imports scikit-learn
    for name in ("JAX_NUMPY_RANK_PROMOTION", "JAXDL_DATA_DIR"):
        found.pop(name, None)
    return found


class Process:
    """A process of a gate: its id, its exit status, its output."""

    def __init__(self, pid: int, poll, said: Path) -> None:
        self.pid, self._poll, self._said, self.status = pid, poll, said, None

    def poll(self) -> int | None:
        """The exit status, -n for signal n; None while it runs."""
        if self.status is None:
            self.status = self._poll()
        return self.status

    def wait(self, seconds: float = 120) -> int:
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill(signal.SIGKILL)
                raise TimeoutError(f"not ended after {seconds} s; it said: {self.said()[-2000:]}")
            time.sleep(0.002)
        return self.poll()

    def kill(self, signum: int) -> bool:
        """Sends a signal; returns whether the process was alive to receive it."""
        if self.poll() is None:
            os.kill(self.pid, signum)
            return True
        return False

    def said(self) -> str:
        return self._said.read_text(errors="replace")


def start_fresh(words: list[str], said: Path, file_limit: int = 0) -> Process:
    """Starts python -m tests.reliability.program WORDS."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    with said.open("wb") as out:
        command = [sys.executable, "-m", PROGRAM, *words]
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment(),
                                   preexec_fn=limit if file_limit else None)  # fmt: skip
    return Process(process.pid, process.poll, said)


class Nursery:
    """Starts the program, or a module of `modules`, which are imported once, by forking.

    variables: of the environment, beside those of `environment`.
    """

    def __init__(self, *modules: str, devices: int = 1, **variables: str) -> None:
        command = [sys.executable, "-m", "tests.reliability.nursery", *modules]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         env=environment(devices) | variables)  # fmt: skip

    def _ask(self, **question):
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def start(
        self, words, said: Path, file_limit: int = 0, kill_at: int = 0, module: str = PROGRAM, folder: Path = ROOT
    ) -> Process:
        question = {"file_limit": file_limit, "kill_at": kill_at, "module": module, "folder": str(folder)}
        pid = self._ask(words=words, said=str(said), **question)
        return Process(pid, lambda: self._ask(pid=pid), said)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


CALLS = ("rename", "replace", "mkdir", "unlink", "remove", "rmdir", "fsync")


def _count_calls(kill_at: int) -> None:
    """Kills this process just before its kill_at-th change of the file system; prints the number of changes at exit."""
    made = itertools.count(1)
    last = [0]

    def counted(call):
        def counting(*args, **kwargs):
            last[0] = next(made)
            if last[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counting

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    atexit.register(lambda: print(f"calls: {last[0]}", file=sys.stderr, flush=True))


def _child(words: list[str], said: str, file_limit: int, kill_at: int, module: str, folder: str) -> None:
    os.chdir(folder)
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for new, old in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(new, old)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    if file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if kill_at:
        _count_calls(kill_at)
    import runpy

    sys.argv = [module, *words]
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def serve() -> None:
    """Answers each line of stdin: a program to start (its process id), or a process (its status)."""
    from jax._src import xla_bridge
    from orbax.checkpoint import v1  # noqa: F401

    import jaxdl.run  # noqa: F401

    for module in (PROGRAM, *sys.argv[1:]):
        importlib.import_module(module)
        if xla_bridge.backends_are_initialized():
            sys.exit(f"{module}: its import starts JAX's backend, whose threads do not survive a fork")

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup every child would ignore it
    for line in sys.stdin:
        question = json.loads(line)
        if "words" in question:
            answer = os.fork()
            if not answer:
                status = 1
                try:
                    _child(**question)
                    status = 0
                except SystemExit as end:
                    status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
                except BaseException:
                    import traceback

                    traceback.print_exc()
                finally:
                    with contextlib.suppress(Exception):  # as the interpreter does at exit
                        import threading

                        threading._shutdown()
                        atexit._run_exitfuncs()
                        sys.stdout.flush()
                    os._exit(status)
        else:
            pid, status = os.waitpid(question["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
