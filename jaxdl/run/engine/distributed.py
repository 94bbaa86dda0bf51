"""Several processes as one run, by jax's own distributed runtime.

Who the processes are is read from the environment, the first of these that is there:

1. JAXDL_COORDINATOR=HOST:PORT, JAXDL_PROCESSES, JAXDL_PROCESS_ID: what launch.sh sets. JAXDL_COORDINATOR=auto alone
   leaves all three to jax, which also knows Open MPI, Kubernetes and TPU pods whose metadata server has to be asked.
2. A step of Slurm with several tasks (`srun`), TPU_WORKER_HOSTNAMES with several hosts, or several TPU slices
   (MEGASCALE_NUM_SLICES): jax detects the rest. jax then gives each task of Slurm the one GPU of its local number.

The second is tested in a simulated environment only: no cluster and no pod has been at hand.
"""

import contextlib
import ctypes
import functools
import ipaddress
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxdl.run.command.flags import FlagError

HEARTBEAT = 20  # seconds of silence after which a process counts as dead; jax's 100 is long for those who wait
JOIN = 300  # seconds for all to come together: people start them by hand on several machines


class PortTaken(FlagError):
    """The port of the coordinator is in use: exit status 75, on which launch.sh chooses another one."""


def initialize() -> None:
    """Joins the other processes of this run; does nothing for a single one, or a second time.

    To be called before a device is used. On one machine (HOST is 127.0.0.1, ::1 or localhost) everything that listens
    is bound to the loopback interface.

    Raises:
      FlagError: the environment contradicts itself, the port is taken, or the others do not come within JOIN seconds.
    """
    end_with_launcher()
    found = _settings(os.environ)
    if found is None or jax.distributed.is_initialized():
        return
    where = found.get("coordinator_address", "")
    if where:
        _check(where, found["process_id"])
    # jax would catch SIGTERM for a service of its own, and the process would outlive it.
    jax.config.update("jax_enable_preemption_service", False)
    if _is_local(where):
        found["coordinator_bind_address"] = where
        _gloo_on_loopback()
    failed: list[Exception] = []

    def join() -> None:
        try:
            jax.distributed.initialize(**found, initialization_timeout=2 * JOIN, heartbeat_timeout_seconds=HEARTBEAT)
        except Exception as error:
            failed.append(error)

    # A thread, because when its own time is up jax aborts the process with a trace of its stack in C++.
    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(JOIN)
    if thread.is_alive():
        count = f"{found['num_processes']} " if "num_processes" in found else ""
        raise FlagError(f"coordinator {where or 'found by jax'}: the {count}processes did not all join in {JOIN} s")
    if failed:
        reason = (str(failed[0]) or type(failed[0]).__name__).splitlines()[0]
        raise FlagError(f"coordinator {where or 'not found by jax'}: {reason}")


def end_with_launcher() -> None:
    """Has the system send SIGTERM to this process when the launch.sh that started it dies, even by SIGKILL (Linux).

    Where PYTHON is a script that stays in between, this does nothing while launch.sh lives.
    """
    launcher = os.environ.pop("JAXDL_LAUNCHER", "")  # what this process starts has another parent
    if not (launcher.isdecimal() and sys.platform == "linux") or int(launcher) not in (os.getppid(), _gone(launcher)):
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != int(launcher):  # it died before
        os.kill(os.getpid(), signal.SIGTERM)


def _gone(process: str) -> int | None:
    """The number of a process that is no more, None of one that is."""
    return None if os.path.exists(f"/proc/{process}") else int(process)


def _gloo_on_loopback() -> None:
    """Lets gloo listen at 127.0.0.1: by itself it takes the address of the host's name, and no setting of jax tells it.

    What it replaces is private to jax. Where another version has no such function, a warning says so.
    """
    try:
        from jax._src import xla_bridge

        make = xla_bridge._jax.make_gloo_tcp_collectives
    except (ImportError, AttributeError):
        told = f"jax {jax.__version__} does not say how to bind gloo to 127.0.0.1: it listens at the host's own address"
        warnings.warn(f"{told}, which other machines may reach", stacklevel=3)
        return
    xla_bridge._jax.make_gloo_tcp_collectives = functools.partial(make, hostname="127.0.0.1")


def is_first() -> bool:
    """Whether this process writes and speaks for all; a single one does, and no device is touched to know it."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def processes() -> int:
    """How many processes this run has; a single one touches no device to know it."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


@contextlib.contextmanager
def failing_at_once() -> Iterator[None]:
    """An error inside the block ends a process that has joined others at once, with its traceback and exit status.

    jax otherwise waits at exit, for 300 s, until all other processes end too, and they wait for this one. A status
    above 128 is left alone: all processes end on the same signal, in order.
    """
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 1
        if not jax.distributed.is_initialized() or code in (None, 0) or (isinstance(code, int) and code > 128):
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        elif isinstance(code, str):
            print(code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _settings(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of jax.distributed.initialize, None for a single process."""
    coordinator = environment.get("JAXDL_COORDINATOR")
    if coordinator == "auto":
        return {}
    if coordinator:
        number = [environment.get(name, "") for name in ("JAXDL_PROCESSES", "JAXDL_PROCESS_ID")]
        if not all(n.isdecimal() for n in number) or int(number[1]) >= int(number[0]):
            raise FlagError(
                f"JAXDL_COORDINATOR={coordinator}: needs JAXDL_PROCESSES=N and JAXDL_PROCESS_ID=0..N-1, "
                f"found {number[0] or 'nothing'} and {number[1] or 'nothing'}"
            )
        host, _, port = coordinator.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise FlagError(f"JAXDL_COORDINATOR={coordinator}: must be HOST:PORT, the port from 1 to 65535")
        return {
            "coordinator_address": coordinator,
            "num_processes": int(number[0]),
            "process_id": int(number[1]),
            "cluster_detection_method": "deactivate",
        }
    # The node list is there only inside a step: a batch script has the other variables too, and runs alone.
    slurm = {"SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NODELIST"} <= set(environment)
    several = (
        slurm and environment.get("SLURM_NTASKS", "1") != "1",
        "," in environment.get("TPU_WORKER_HOSTNAMES", ""),
        environment.get("MEGASCALE_NUM_SLICES", "1") != "1",
    )
    return {} if any(several) else None


def _check(coordinator: str, process: int) -> None:
    """Finds a wrong host, or at process 0 a port in use, where jax would wait in vain or end in a fault of memory."""
    host, _, port = coordinator.rpartition(":")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    except OSError:
        raise FlagError(f"coordinator {coordinator}: no such host; name the machine of process 0") from None
    if process:
        return
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # On several machines jax listens on all interfaces, and HOST may be an address that a router translates.
            probe.bind(address if _is_local(coordinator) else ("", int(port)))
        except OSError as error:
            told = f"process 0 cannot listen on port {port} ({error.strerror})"
            raise PortTaken(f"coordinator {coordinator}: {told}; name a free one") from None


def _is_local(coordinator: str) -> bool:
    host = coordinator.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
