"""Runs several processes as one, through JAX's distributed runtime.

The environment configures the processes; the first of these that is set applies:

1. JAXDL_COORDINATOR=HOST:PORT, JAXDL_PROCESSES, JAXDL_PROCESS_ID, as launch.sh sets them. JAXDL_COORDINATOR=auto alone
   leaves all three to jax, which also detects Open MPI, Kubernetes, and TPU pods whose metadata server must be queried.
2. A Slurm step with several tasks (`srun`), TPU_WORKER_HOSTNAMES with several hosts, or several TPU slices
   (MEGASCALE_NUM_SLICES): jax detects the rest. jax then gives each Slurm task the one GPU of its local number.

The second has been tested in a simulated environment only, not on a cluster or a pod.
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

HEARTBEAT = 20  # seconds of silence after which a process counts as dead; jax's default, 100, is a long wait
JOIN = 300  # seconds for all processes to join: they may be started by hand on several machines


class PortTaken(FlagError):
    """The coordinator's port is in use. Exit status 75, on which launch.sh chooses another port."""


def initialize() -> None:
    """Joins the other processes of this run; does nothing for a single process, or when called again.

    Call it before a device is used. On one machine (HOST is 127.0.0.1, ::1 or localhost) every listening socket is
    bound to the loopback interface.

    Raises:
      FlagError: the environment is contradictory, the port is taken, or the others do not join within JOIN seconds.
    """
    end_with_launcher()
    found = _settings(os.environ)
    if found is None or jax.distributed.is_initialized():
        return
    where = found.get("coordinator_address", "")
    if where:
        _check(where, found["process_id"])
    # jax would catch SIGTERM for its own service, and the process would not terminate.
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

    # In a thread, because jax aborts the process with a C++ stack trace when its own timeout expires.
    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(JOIN)
    if thread.is_alive():
        count = f"{found['num_processes']} " if "num_processes" in found else ""
        raise FlagError(f"coordinator {where or 'found by jax'}: the {count}processes did not all join within {JOIN} s")
    if failed:
        reason = (str(failed[0]) or type(failed[0]).__name__).splitlines()[0]
        raise FlagError(f"coordinator {where or 'not found by jax'}: {reason}")


def end_with_launcher() -> None:
    """Makes the kernel send SIGTERM to this process when the launch.sh that started it dies, even by SIGKILL (Linux).

    If PYTHON is a wrapper script that runs in between, this has no effect while launch.sh is alive.
    """
    launcher = os.environ.pop("JAXDL_LAUNCHER", "")  # child processes have another parent
    if not (launcher.isdecimal() and sys.platform == "linux") or int(launcher) not in (os.getppid(), _gone(launcher)):
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != int(launcher):  # it has died already
        os.kill(os.getpid(), signal.SIGTERM)


def _gone(process: str) -> int | None:
    """Returns the id of a process that has ended, or None if it is alive."""
    return None if os.path.exists(f"/proc/{process}") else int(process)


def _gloo_on_loopback() -> None:
    """Makes gloo listen on 127.0.0.1: by default it uses the host name's address, and jax has no setting for that.

    The replaced function is private to jax. If this version of jax does not have it, a warning is issued.
    """
    try:
        from jax._src import xla_bridge

        make = xla_bridge._jax.make_gloo_tcp_collectives
    except (ImportError, AttributeError):
        told = f"gloo cannot be bound to 127.0.0.1 with jax {jax.__version__}: it listens on the host's own address"
        warnings.warn(f"{told}, which other machines may reach", stacklevel=3)
        return
    xla_bridge._jax.make_gloo_tcp_collectives = functools.partial(make, hostname="127.0.0.1")


def is_first() -> bool:
    """Returns whether this process writes and prints for all; a single process does, and no device is touched."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def processes() -> int:
    """Returns the number of processes of this run; a single process touches no device."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


@contextlib.contextmanager
def failing_at_once() -> Iterator[None]:
    """Ends a process that has joined others as soon as the block raises, with traceback and exit status.

    Otherwise jax waits at exit, up to 300 s, for the other processes, which wait for this one. Statuses above 128 are
    left alone: all processes end on the same signal, in order.
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
    """Returns the arguments of jax.distributed.initialize, or None for a single process."""
    coordinator = environment.get("JAXDL_COORDINATOR")
    if coordinator == "auto":
        return {}
    if coordinator:
        number = [environment.get(name, "") for name in ("JAXDL_PROCESSES", "JAXDL_PROCESS_ID")]
        if not all(n.isdecimal() for n in number) or int(number[1]) >= int(number[0]):
            raise FlagError(
                f"JAXDL_COORDINATOR={coordinator}: requires JAXDL_PROCESSES=N and JAXDL_PROCESS_ID=0..N-1, "
                f"got {number[0] or 'nothing'} and {number[1] or 'nothing'}"
            )
        host, _, port = coordinator.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise FlagError(f"JAXDL_COORDINATOR={coordinator}: must be HOST:PORT with a port from 1 to 65535")
        return {
            "coordinator_address": coordinator,
            "num_processes": int(number[0]),
            "process_id": int(number[1]),
            "cluster_detection_method": "deactivate",
        }
    # The node list is set only inside a step: a batch script has the other variables too, and runs alone.
    slurm = {"SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NODELIST"} <= set(environment)
    several = (
        slurm and environment.get("SLURM_NTASKS", "1") != "1",
        "," in environment.get("TPU_WORKER_HOSTNAMES", ""),
        environment.get("MEGASCALE_NUM_SLICES", "1") != "1",
    )
    return {} if any(several) else None


def _check(coordinator: str, process: int) -> None:
    """Detects an unknown host, or at process 0 a port in use: jax would wait forever or crash."""
    host, _, port = coordinator.rpartition(":")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    except OSError:
        raise FlagError(f"coordinator {coordinator}: no such host; give the host name of process 0") from None
    if process:
        return
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # On several machines jax listens on all interfaces, and HOST may be an address that a router translates.
            probe.bind(address if _is_local(coordinator) else ("", int(port)))
        except OSError as error:
            told = f"process 0 cannot listen on port {port} ({error.strerror})"
            raise PortTaken(f"coordinator {coordinator}: {told}; choose a free one") from None


def _is_local(coordinator: str) -> bool:
    host = coordinator.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
