import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[1] / "launch.sh"


@pytest.fixture
def launch(tmp_path):
    """launch.sh with an interpreter that prints, one a line, what it was given."""
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


@pytest.mark.parametrize(
    ("version", "given", "found"),
    [
        ("0.10.2", None, "--xla_cpu_experimental_ynn_fusion_type=individual_dot,reduce"),
        ("0.10.2", "--own", "--own"),
        ("0.11.0", None, ""),  # an unknown flag would end the program
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
        ([], "no experiment named"),
        (["--cpu-devices=0", "image_classifier"], "--cpu-devices=0: must be a whole number from 1 to 1024"),
        (["--cpu-devices=2000", "image_classifier"], "from 1 to 1024"),
        (["--cpu-devices=$(id)", "image_classifier"], "from 1 to 1024"),
        (["--devices=2", "image_classifier"], "--devices=2: no such option"),
        (["image_clasifier"], "image_clasifier: no such experiment"),
        (["../setup"], "no such experiment"),
        (["__main__"], "no such experiment"),
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
    assert "./launch.sh --cpu-devices=2 image_classifier" in done.stdout


def test_shellcheck():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    assert subprocess.run(["shellcheck", LAUNCH], check=False).returncode == 0
