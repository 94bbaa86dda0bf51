import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxdl.run.command.flags import FlagError
from jaxdl.run.command.main import _fail
from jaxdl.run.engine import distributed
from jaxdl.run.engine.distributed import PortTaken, end_with_launcher, failing_at_once, initialize, is_first, processes

ROOT = Path(__file__).parents[2]
MINE = {"JAXDL_COORDINATOR": "node1:1234", "JAXDL_PROCESSES": "3", "JAXDL_PROCESS_ID": "2"}
SLURM = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "3", "SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "n[1-3]"}

LISTENING = """
def listening():
    import os
    held = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    inodes = {os.readlink(path) for path in held if os.path.islink(path)}
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in open(table).readlines()[1:]:
            words = row.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                found.append(words[1].partition(":")[0])
    return found
"""
PROGRAM = (
    LISTENING
    + """
import sys, time
import jax, jax.numpy as jnp
from jaxdl.run.engine.distributed import failing_at_once, initialize, is_first, processes
with failing_at_once():
    initialize()
    initialize()
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    spec = jax.P("data")
    x = jax.make_array_from_callback(
        (jax.device_count(),), jax.NamedSharding(mesh, spec), lambda index: jnp.arange(1.0, 9.0)[index]
    )
    add = jax.jit(jax.shard_map(lambda x: jax.lax.psum(x, "data"), mesh=mesh, in_specs=spec, out_specs=jax.P()))
    total = float(add(x)[0])
    print("found", processes(), jax.device_count(), is_first(), total, *listening(), flush=True)
    if "fail" in sys.argv and not is_first():
        sys.exit(65)
    if sys.argv[1:]:
        time.sleep(60)
"""
)


def started(*words, prefix=(), **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX", "XLA", "SLURM", "TPU"))}
    kept |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"} | environment
    command = [*prefix, sys.executable, "-c", *words]
    return subprocess.Popen(command, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def two(*words, prefix=()):
    given = {"JAXDL_COORDINATOR": f"127.0.0.1:{free_port()}", "JAXDL_PROCESSES": "2"}
    return [started(PROGRAM, *words, prefix=prefix, JAXDL_PROCESS_ID=str(rank), **given) for rank in range(2)]


def reported(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return re.search("^found (.*)$", out, re.MULTILINE)[1].split()


def is_loopback(address):
    """Whether an address of /proc is 127.*, mapped or not, or ::1."""
    return address.endswith("7F") or address == "0" * 24 + "01000000"


def named_after_its_address():
    """A command prefix under which the host's name is an address that others can reach, as on a server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            address = probe.getsockname()[0]
        except OSError:
            return None
    prefix = ["unshare", "--uts", "sh", "-c", f'hostname {address} && exec "$@"', "sh"]
    try:
        return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else None
    except FileNotFoundError:
        return None


@pytest.mark.claims
def test_two_processes_add_and_listen_on_loopback_only():
    prefix = named_after_its_address() or ()  # without the permission to rename, the name's own address is used
    found = [reported(process) for process in two(prefix=prefix)]
    assert [words[:4] for words in found] == [["2", "4", "True", "10.0"], ["2", "4", "False", "10.0"]]  # 1 + 2 + 3 + 4
    addresses = [address for words in found for address in words[4:]]
    assert len(addresses) == 3  # the coordinator, and gloo in each
    assert all(is_loopback(address) for address in addresses), addresses


@pytest.mark.claims
def test_a_single_process_listens_nowhere():
    assert reported(started(PROGRAM)) == ["1", "2", "True", "3.0"]


@pytest.mark.claims
def test_a_process_that_fails_does_not_wait_for_the_others():
    first, second = two("fail")
    try:
        assert second.wait(timeout=50) == 65
        assert first.poll() is None
    finally:
        first.kill()
        for process in (first, second):
            process.communicate()


@pytest.mark.claims
def test_processes_end_on_sigterm_where_nobody_catches_it():
    both = two("sleep")
    try:
        for process in both:
            while not process.stdout.readline().startswith("found"):
                assert process.poll() is None
        for process in both:
            process.terminate()
        assert [process.wait(timeout=50) for process in both] == [-signal.SIGTERM] * 2
    finally:
        for process in both:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_one_machine(host):
    assert distributed._is_local(f"{host}:1234")


@pytest.mark.parametrize("host", ["node1", "10.0.0.1", "[fe80::1]", "localhost.example.org"])
def test_several_machines(host):
    assert not distributed._is_local(f"{host}:1234")


def test_another_jax_warns_that_gloo_can_be_reached(monkeypatch):
    from jax._src import xla_bridge

    monkeypatch.delattr(xla_bridge._jax, "make_gloo_tcp_collectives")
    with pytest.warns(UserWarning, match=r"gloo .*127\.0\.0\.1"):
        distributed._gloo_on_loopback()


def test_nothing_private_is_imported_with_the_module():
    assert "xla_bridge" not in vars(distributed)


@pytest.mark.claims
@pytest.mark.parametrize("rank", [0, 1])
def test_others_that_do_not_come_are_one_line(rank):
    program = "from jaxdl.run.engine import distributed as d; d.JOIN = 1\nwith d.failing_at_once():\n d.initialize()"
    address = f"127.0.0.1:{free_port()}"
    process = started(program, JAXDL_COORDINATOR=address, JAXDL_PROCESSES="2", JAXDL_PROCESS_ID=str(rank))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(rf"Error: coordinator {address}: the 2 processes .*1 s$", err.splitlines()[-1])


@pytest.fixture
def joined(monkeypatch):
    """The arguments of jax.distributed.initialize, which is not called."""
    for name in [*MINE, *SLURM, "TPU_WORKER_HOSTNAMES", "MEGASCALE_NUM_SLICES"]:
        monkeypatch.delenv(name, raising=False)
    given = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: given.append(arguments))
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("", 0))])

    def join(environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        initialize()
        return given

    return join


TIMES = {"initialization_timeout": 600, "heartbeat_timeout_seconds": 20}
BY_HAND = {"coordinator_address": "node1:1234", "num_processes": 3, "process_id": 2}


@pytest.mark.parametrize(
    ("environment", "given"),
    [
        ({}, []),
        (MINE, [BY_HAND | TIMES | {"cluster_detection_method": "deactivate"}]),
        (MINE | SLURM, [BY_HAND | TIMES | {"cluster_detection_method": "deactivate"}]),
        ({"JAXDL_COORDINATOR": "auto"}, [TIMES]),
        (SLURM, [TIMES]),
        (SLURM | {"SLURM_NTASKS": "1"}, []),
        ({name: SLURM[name] for name in SLURM if name != "SLURM_STEP_NODELIST"}, []),  # a batch script
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, []),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, [TIMES]),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, [TIMES]),
    ],
)
def test_who_takes_part_in_simulated_surroundings(joined, environment, given):
    assert joined(environment) == given


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (MINE | {"JAXDL_PROCESS_ID": "3"}, r"JAXDL_PROCESS_ID=0..N-1, .* 3 and 3"),
        (MINE | {"JAXDL_PROCESSES": ""}, r"JAXDL_PROCESSES=N .* and 2"),
        (MINE | {"JAXDL_COORDINATOR": "node1"}, r"JAXDL_COORDINATOR=node1: .*HOST:PORT"),
        (MINE | {"JAXDL_COORDINATOR": "node1:70000"}, r"node1:70000: .*65535"),
    ],
)
def test_surroundings_that_contradict_themselves(joined, environment, told):
    with pytest.raises(FlagError, match=told):
        joined(environment)


def test_coordinator_that_cannot_be(monkeypatch):
    for name, value in (MINE | {"JAXDL_COORDINATOR": "no-such-host.invalid:1234"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FlagError, match=r"no-such-host.invalid:1234"):
        initialize()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("JAXDL_COORDINATOR", f"127.0.0.1:{port}")
        monkeypatch.setenv("JAXDL_PROCESS_ID", "0")
        with pytest.raises(PortTaken, match=f"port {port}"):
            initialize()


def test_the_status_of_a_port_in_use_is_one_of_its_own(capsys):
    with pytest.raises(SystemExit) as ending:
        _fail(PortTaken("coordinator a:1: taken"))
    assert (ending.value.code, capsys.readouterr().err) == (75, "error: coordinator a:1: taken\n")


def ended_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return str(process.pid)


LAUNCHED = """
import os
from jaxdl.run.engine.distributed import initialize
initialize()
print("went on", os.environ.get("JAXDL_LAUNCHER"), flush=True)
"""


@pytest.mark.claims
@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
def test_whose_launcher_died_before_ends_at_once():
    process = started(LAUNCHED, JAXDL_LAUNCHER=ended_process())
    assert (process.communicate(timeout=60)[0], process.returncode) == ("", -signal.SIGTERM)


@pytest.mark.claims
@pytest.mark.parametrize("launcher", ["parent", "1", "no number"])
def test_whose_launcher_lives_goes_on(launcher):
    """Also if launch.sh is not the parent, but a script in between; child processes have another parent."""
    process = started(LAUNCHED, JAXDL_LAUNCHER=str(os.getpid()) if launcher == "parent" else launcher)
    assert (process.communicate(timeout=60)[0], process.returncode) == ("went on None\n", 0)


def test_no_launcher_is_watched_elsewhere_than_on_linux(monkeypatch):
    asked = []
    monkeypatch.setattr(distributed.ctypes, "CDLL", asked.append)
    monkeypatch.setattr(distributed.os, "kill", lambda *words: asked.append(words))
    monkeypatch.setenv("JAXDL_LAUNCHER", ended_process())
    monkeypatch.setattr(distributed.sys, "platform", "darwin")
    end_with_launcher()
    assert asked == []


def test_what_jax_cannot_detect_is_one_line(joined, monkeypatch):
    def refuse(**arguments):
        raise ValueError("coordinator_address should be defined.\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(FlagError, match=r"^coordinator .*: coordinator_address should be defined.$"):
        joined({"JAXDL_COORDINATOR": "auto"})


def test_a_single_process_is_first_and_fails_as_ever():
    assert is_first()
    assert processes() == 1
    with pytest.raises(SystemExit), failing_at_once():
        sys.exit(3)


@pytest.mark.parametrize(("code", "left"), [(0, None), (None, None), (143, None), (65, 65), ("told", 1)])
def test_only_failures_leave_at_once(monkeypatch, code, left, capsys):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    statuses = []
    monkeypatch.setattr(distributed.os, "_exit", statuses.append)
    try:
        with failing_at_once():
            sys.exit(code)
    except SystemExit:
        assert left is None
    assert statuses == ([] if left is None else [left])
    assert capsys.readouterr().err == ("told\n" if code == "told" else "")
