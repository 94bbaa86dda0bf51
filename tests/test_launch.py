import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.budget import first

LAUNCH = Path(__file__).parents[1] / "launch.sh"


@pytest.fixture
def launch(tmp_path):
    """Returns a function that runs launch.sh with an interpreter that prints its environment and arguments."""
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$JAX_PLATFORMS" "$JAX_NUM_CPU_DEVICES" "$@"\n')
    fake.chmod(0o755)

    def run(*words):
        environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(fake)}
        return subprocess.run(
            [LAUNCH, *words], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )

    return run


def test_environment_and_flags_are_handed_on(launch):
    done = launch("--cpu-devices=4", "image_classifier", "--steps=3")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["cpu", "4", "-m", "experiments.image_classifier", "--steps=3"]
    assert launch("image_classifier").stdout.splitlines() == ["", "", "-m", "experiments.image_classifier"]


def test_a_file_of_ones_own(launch, tmp_path):
    path = tmp_path / "my own" / "try 1.py"
    path.parent.mkdir()
    path.touch()
    relative = "./my own/try 1.py"
    for words in ([], ["--processes=1"]):
        assert launch(*words, relative, "--x=a b").stdout.splitlines() == ["", "", relative, "--x=a b"]
    again = launch("--cpu-devices=2", "--max-restarts=1", str(path), "--steps=3").stdout.splitlines()
    assert again[:3] == ["cpu", "2", str(path)]
    assert again[3].startswith("--workdir=runs/try 1/")
    assert again[4:] == ["--steps=3"]


@pytest.mark.parametrize(
    ("version", "given", "found"),
    [
        ("0.10.2", None, "--xla_cpu_experimental_ynn_fusion_type=individual_dot,reduce"),
        ("0.10.2", "--own", "--own"),
        ("0.11.0", None, ""),  # an unknown flag would abort the program
        ("", None, ""),
    ],
)
def test_convolutions_by_eigen_where_the_flag_is_known(tmp_path, version, given, found):
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo "{version}" || echo "$XLA_FLAGS"\n')
    fake.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(fake)} | ({"XLA_FLAGS": given} if given else {})
    done = subprocess.run([LAUNCH, "image_classifier"], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == found


@pytest.mark.parametrize(
    "word", ["--x=$(touch pwned)", "--x=; touch pwned", "--x=a b", "--x=*", "--x=`touch pwned`", "--x='\""]
)
def test_arguments_stay_literal(launch, word, tmp_path):
    assert launch("image_classifier", word).stdout.splitlines()[-1] == word
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "NAME"),
        (["--cpu-devices=0", "image_classifier"], "--cpu-devices=0: must be an integer from 1 to 1024"),
        (["--cpu-devices=2000", "image_classifier"], "--cpu-devices=2000: "),
        (["--cpu-devices=$(id)", "image_classifier"], "--cpu-devices=$(id): "),
        (["--devices=2", "image_classifier"], "--devices=2: "),
        (["image_clasifier"], "image_clasifier: "),
        (["../setup"], "../setup: "),
        (["not here.py"], "not here.py: "),
        (["--processes", "2", "image_classifier"], ", --processes=2"),
        (["--max-restarts"], ", --max-restarts=N"),
        (["__main__"], "__main__: "),
        (["--processes=0", "image_classifier"], "--processes=0: "),
        (["--processes=two", "image_classifier"], "--processes=two: "),
        (["--max-restarts=-1", "image_classifier"], "from 0 to 9999"),
        (["--process-id=1", "image_classifier"], "--coordinator=HOST:PORT"),
        (["--coordinator=a:1", "--processes=2", "image_classifier"], "--process-id=I"),
        (["--coordinator=a:1", "--process-id=0", "image_classifier"], "--processes=N"),
        (["--coordinator=a", "--processes=2", "--process-id=0", "image_classifier"], "must be HOST:PORT"),
        (["--coordinator=a:99999", "--processes=2", "--process-id=0", "image_classifier"], "from 1 to 65535"),
        (["--coordinator=$(id):1", "--processes=2", "--process-id=0", "image_classifier"], "must be HOST:PORT"),
        (
            ["--coordinator=a:1", "--processes=2", "--process-id=2", "image_classifier"],
            "--process-id=2: must be from 0 to 1",
        ),
        (
            ["--coordinator=a:1", "--processes=2", "--process-id=1", "--max-restarts=1", "image_classifier"],
            "--max-restarts=1: ",
        ),
    ],
)
def test_bad_use_is_one_line(launch, words, told):
    done = launch(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_has_examples(launch):
    done = launch("--help")
    assert done.returncode == 0
    for example in ("--cpu-devices=2", "--processes=2", "--max-restarts=3", "--process-id=1", "srun", "tpu-vm"):
        assert example in done.stdout.partition("Examples:")[2]


def test_shellcheck():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    assert subprocess.run(["shellcheck", LAUNCH], check=False).returncode == 0


@pytest.fixture
def start(tmp_path):
    """Returns a function that starts launch.sh in its own session, with an interpreter that runs a shell script."""
    fake = tmp_path / "python"
    fake.write_text(
        "#!/bin/bash\nif [[ $1 == -c ]]; then [[ $2 != *socket* ]] || echo $((RANDOM + 2000)); exit; fi\n"
        'rank=${JAXDL_PROCESS_ID:-none}\neval "$SCRIPT"\n'
    )
    fake.chmod(0o755)
    started = []

    def run(script, *words, before=(), **environment):
        process = subprocess.Popen(
            [*before, LAUNCH, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # it is ignored under nohup
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(fake), "SCRIPT": script} | environment,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        for pid in there(process):  # left over from a failed test
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def there(process):
    """Returns the ids of launch.sh and of the processes that it started, as far as they are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if session == str(process.pid) and state != "Z":
            found.append(int(stat.parent.name))
    return found


def ended(process, within=20.0):
    """Returns exit status, lines of stdout and lines of stderr."""
    out, err = process.communicate(timeout=within)
    return process.returncode, out.splitlines(), err.splitlines()


def wait_for(*files, within=10):
    until = time.monotonic() + within
    while not all(file.exists() for file in files):
        assert time.monotonic() < until
        time.sleep(0.02)


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_several_processes_share_a_folder_and_say_who_speaks(start):
    script = 'echo "$JAXDL_COORDINATOR $JAXDL_PROCESSES $rank $JAX_NUM_CPU_DEVICES" "$@"; printf "  end\\\\of" >&2'
    status, out, err = ended(start(script, "--processes=3", "--cpu-devices=2", "image_classifier", "--x=$(id) *"))
    assert status == 0
    words = [line.split(maxsplit=8) for line in sorted(out)]
    assert [w[0] for w in words] == ["[0]", "[1]", "[2]"]
    assert [w[3] for w in words] == ["0", "1", "2"]
    assert {(w[2], w[4], w[6], w[8]) for w in words} == {("3", "2", "experiments.image_classifier", "--x=$(id) *")}
    (address,) = {w[1] for w in words}
    assert address.startswith("127.0.0.1:")
    (workdir,) = {w[7] for w in words}
    assert workdir.startswith("--workdir=runs/image_classifier/20")
    assert sorted(err) == ["[0]   end\\of", "[1]   end\\of", "[2]   end\\of"]


def test_help_of_an_experiment_is_shown_once(start):
    assert ended(start('echo "$rank"', "--processes=3", "image_classifier", "--help"))[1] == ["none"]


@pytest.mark.parametrize(
    ("death", "status", "told", "deaf"),
    first(
        [
            (
                "kill -KILL $$",
                137,
                "status 137 (SIGKILL)",
                True,
            ),  # TERM is ignored, as by processes that wait in a collective
            ("kill -SEGV $$", 139, "status 139 (SIGSEGV)", False),
            ("exit 3", 3, "status 3", False),
        ]
    ),
)
def test_one_death_brings_all_down(start, tmp_path, death, status, told, deaf):
    ignore = "trap '' TERM;" if deaf else ""
    script = f"{ignore} echo $$ > pid$rank; ((rank == 1)) || {{ sleep 60 & wait; sleep 60; }}; sleep 0.3; {death}"
    begin = time.monotonic()
    found = ended(start(script, "--processes=3", "image_classifier"))
    assert (found[0], len(found[2])) == (status, 1)
    assert re.match(f"launch.sh: process 1 .*{re.escape(told)}$", found[2][0])
    assert time.monotonic() - begin < 10
    assert all(gone((tmp_path / f"pid{rank}").read_text().strip()) for rank in range(3))


SAVES = """
asked=0
trap 'asked=$((asked + 1))' {name}
touch up$rank
while ((!asked)); do sleep 0.1; done
for t in 1 2 3 4 5; do sleep 0.1; done
echo "saved $asked"
exit {status}
"""


@pytest.mark.parametrize("processes", first([1, 2]))
@pytest.mark.parametrize("whole_group", first([False, True]))
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_passed_on_once(start, tmp_path, signum, status, whole_group, processes):
    script = SAVES.format(name=signal.Signals(signum).name, status=status)
    process = start(script, f"--processes={processes}", "--max-restarts=2", "image_classifier")
    wait_for(*(tmp_path / f"up{rank}" for rank in ([0, 1] if processes == 2 else ["none"])))
    time.sleep(0.1)
    os.killpg(process.pid, signum) if whole_group else process.send_signal(signum)  # as Ctrl-C does
    shown = ["saved 1"] if processes == 1 else ["[0] saved 1", "[1] saved 1"]
    found, out, err = ended(process)
    assert (found, sorted(out), err) == (status, shown, [])


def test_a_second_signal_kills(start, tmp_path):
    process = start("trap '' TERM; touch up$rank; sleep 60; sleep 60", "--processes=2", "image_classifier")
    wait_for(tmp_path / "up0", tmp_path / "up1")
    time.sleep(0.1)
    process.terminate()
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    assert ended(process, within=3)[0] == 137


COUNTED = """
echo "$JAXDL_COORDINATOR $JAXDL_LAUNCH $*" >> ran$rank
(($(wc -l < ran$rank) > {crashes})) || [[ $rank == 0 ]] || exit {status}
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_restarts(start, tmp_path, processes):
    rank = "1" if processes == 2 else "0"
    words = (f"--processes={processes}", "--max-restarts=3", "image_classifier", "--overwrite")
    status, _, err = ended(start(COUNTED.format(crashes=2, status=9), *words))
    assert (status, len(err)) == (0, 2)
    for n, line in enumerate(err, 1):
        assert re.match(rf"launch.sh: process {rank} .*\bstatus 9\b.*\b{n} of 3$", line)
    runs = [line.split() for line in (tmp_path / ("ran1" if processes == 2 else "rannone")).read_text().splitlines()]
    assert len(runs) == 3
    assert len({next(w for w in words if w.startswith("--workdir=")) for words in runs}) == 1
    assert [words[-1] for words in runs] == ["--overwrite"] * 3
    assert len({words[-5] for words in runs}) == 1  # identifies the run that this launch began, for --overwrite
    if processes == 2:
        assert len({words[0] for words in runs}) > 1  # the old port may still be in use


def kinds(lines):
    """Returns "port", "restart" or "failed" for each line of launch.sh."""
    return ["port" if "port" in line else "restart" if "restart" in line else "failed" for line in lines]


def ends(*statuses):
    """Returns a script whose process 0 exits with these statuses, one per start, and whose other processes succeed."""
    return f"""
        [[ $rank == 0 ]] || exit 0
        echo "$JAXDL_COORDINATOR $*" >> ran
        statuses=({" ".join(map(str, statuses))})
        exit ${{statuses[$(wc -l < ran) - 1]}}
    """


@pytest.mark.parametrize("words", [[], ["--max-restarts=0"], ["--max-restarts=1"]])
def test_a_port_that_was_taken_is_chosen_anew(start, tmp_path, words):
    status, _, err = ended(start(ends(75, 75, 0), "--processes=2", *words, "image_classifier", "--x=1"))
    assert (status, kinds(err)) == (0, ["port"] * 2)
    runs = [line.partition(" ") for line in (tmp_path / "ran").read_text().splitlines()]
    assert len({address for address, _, _ in runs}) == 3
    assert len({flags for _, _, flags in runs}) == 1


def test_a_port_that_was_taken_is_no_restart(start):
    words = ("--processes=2", "--max-restarts=1", "image_classifier")
    status, _, err = ended(start(ends(75, 9, *[75] * 5, 0), *words))  # five ports for each attempt
    assert (status, kinds(err)) == (0, ["port", "restart", *["port"] * 5])


def test_five_other_ports_are_tried(start, tmp_path):
    status, _, err = ended(start(ends(*[75] * 99), "--processes=2", "--max-restarts=2", "image_classifier"))
    assert (status, kinds(err)) == (75, ["port"] * 5 + ["failed"])
    assert err[-1].endswith("status 75")
    assert len((tmp_path / "ran").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--coordinator=127.0.0.1:1234", "--processes=2", "--process-id=0"], {}),
        (
            ["--max-restarts=2"],
            {"JAXDL_COORDINATOR": "127.0.0.1:1234", "JAXDL_PROCESSES": "2", "JAXDL_PROCESS_ID": "0"},
        ),
    ],
)
def test_a_port_of_the_users_own_is_tried_once(start, tmp_path, words, environment):
    status, _, err = ended(start(ends(*[75] * 99), *words, "image_classifier", **environment))
    assert (status, "port" in kinds(err)) == (75, False)
    assert len((tmp_path / "ran").read_text().splitlines()) == 1


ENDS_WITH_IT = """
exec {python} -c '
import os, pathlib, sys, time
sys.path.insert(0, "{root}")
os.environ.pop("JAXDL_COORDINATOR", None)  # do not wait for the other process
from jaxdl.run.engine.distributed import initialize
initialize()
pathlib.Path("up" + os.environ.get("JAXDL_PROCESS_ID", "none")).touch()
time.sleep(60)'
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
@pytest.mark.parametrize(
    ("processes", "count"),
    [(1, 2), pytest.param(2, 7, marks=pytest.mark.claims)],  # two more per process, for its labelled lines
)
def test_its_processes_end_with_it(start, tmp_path, processes, count):
    script = ENDS_WITH_IT.format(python=sys.executable, root=LAUNCH.parent)
    process = start(script, f"--processes={processes}", "--max-restarts=1", "image_classifier")
    wait_for(*(tmp_path / f"up{rank}" for rank in ([0, 1] if processes == 2 else ["none"])), within=60)
    assert len(there(process)) == count
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while there(process):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_under_nohup_it_outlives_the_terminal(start, tmp_path):
    script = "touch up$rank; while [[ ! -e go ]]; do sleep 0.1; done; echo done"
    process = start(script, "--processes=2", "image_classifier", before=("nohup",))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    (tmp_path / "go").touch()
    status, out, _ = ended(process)
    assert (status, sorted(out)) == (0, ["[0] done", "[1] done"])


def test_a_terminal_that_is_gone_costs_no_restart(start, tmp_path):
    script = "echo >> ran; touch up$rank; while [[ ! -e go ]]; do sleep 0.1; done; (($(wc -l < ran) == 2)) || exit 9"
    process = start(script, "--max-restarts=1", "image_classifier")
    wait_for(tmp_path / "upnone")
    process.stderr.close()
    (tmp_path / "go").touch()
    assert process.wait(timeout=20) == 0
    assert len((tmp_path / "ran").read_text().splitlines()) == 2


@pytest.mark.parametrize(("status", "runs"), [(9, 3), (2, 1), (65, 1), (66, 1), (70, 1), (75, 1), (0, 1)])
def test_what_is_started_again(start, tmp_path, status, runs):
    found, _, err = ended(start(COUNTED.format(crashes=99, status=status), "--max-restarts=2", "image_classifier"))
    assert found == status
    assert len((tmp_path / "rannone").read_text().splitlines()) == runs
    assert bool(err) == bool(status)
    if status:
        assert re.fullmatch(rf"launch.sh: process 0 .*\bstatus {status}", err[-1])


@pytest.mark.parametrize(
    ("words", "environment", "shown"),
    [
        (["--processes=2"], {}, ["0 0,1", "1 2,3"]),
        (["--processes=4"], {}, ["0 0", "1 1", "2 2", "3 3"]),
        (["--processes=2"], {"CUDA_VISIBLE_DEVICES": "5,GPU-7"}, ["0 5", "1 GPU-7"]),
        (["--processes=2"], {"CUDA_VISIBLE_DEVICES": ""}, ["0 ", "1 "]),
        (["--processes=3", "--cpu-devices=1"], {}, ["0 unset", "1 unset", "2 unset"]),
        (["--max-restarts=1"], {}, ["none unset"]),
    ],
)
def test_gpus_are_divided(start, tmp_path, words, environment, shown):
    smi = tmp_path / "nvidia-smi"
    smi.write_text('#!/bin/sh\nfor i in 0 1 2 3; do echo "GPU $i: H (UUID: x)"; echo "  MIG 1g (UUID: y)"; done\n')
    smi.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | environment
    script = 'echo "$rank ${CUDA_VISIBLE_DEVICES-unset}"'
    status, out, _ = ended(start(script, *words, "image_classifier", **environment))
    assert (status, sorted(line.rpartition("] ")[2] for line in out)) == (0, shown)


def test_gpus_that_cannot_be_divided(start):
    found = ended(start("echo", "--processes=2", "image_classifier", CUDA_VISIBLE_DEVICES="0,1,2"))
    assert (found[0], found[1], len(found[2])) == (2, [], 1)
    assert re.match(r"launch.sh: --processes=2: .*\b3 GPUs\b", found[2][0])


def test_one_process_of_several_machines(start):
    script = 'echo "$JAXDL_COORDINATOR $JAXDL_PROCESSES $rank" "$@"'
    words = ("--coordinator=[fe80::1]:1234", "--processes=3", "--process-id=2", "image_classifier", "--workdir=w")
    assert ended(start(script, *words)) == (
        0,
        ["[fe80::1]:1234 3 2 -m experiments.image_classifier --workdir=w"],
        [],
    )


def test_tasks_of_slurm_share_a_folder(start):
    slurm = {"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "3", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n[1-2]"}
    out = ended(start('echo "$rank" "$@"', "image_classifier", "--workdir=w", **slurm))[1]
    assert out == ["none -m experiments.image_classifier --workdir=runs/image_classifier/slurm-17.3 --workdir=w"]
    status, _, err = ended(start("echo", "--processes=2", "image_classifier", **slurm))
    assert (status, len(err)) == (2, 1)
    assert re.match("launch.sh: srun .*--processes", err[0])
