"""What becomes of stdout and stderr ends nothing that trains, and what is shown is printable."""

import io
import json
import os
import subprocess
import sys

import pytest

from jaxdl.data import DataError, MissingData
from jaxdl.run import FlagError
from jaxdl.streams import Unfailing, printable, shell
from tests.reliability.nursery import PROGRAM, environment

WORDS = ["--steps=6", "--checkpoint_every=3", "--eval_every=3", "--progress=true"]


@pytest.mark.claims
@pytest.mark.parametrize("end", [">/dev/full 2>/dev/full", ">&- 2>&-", "2>&1 | head -c 1 >/dev/null"])
def test_a_run_whose_streams_are_closed_full_or_broken_ends_well(end, tmp_path):
    command = [sys.executable, "-m", PROGRAM, f"--workdir={tmp_path / 'run'}", *WORDS]
    line = 'exec "$@" ' + end if "|" not in end else f'"$@" {end}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", line, "bash", *command], env=environment(), check=False, timeout=120)
    assert done.returncode == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["step"] == 6
    assert (tmp_path / "run" / "summary.json").is_file()


class Refusing(io.StringIO):
    """A stream whose writes fail, and the number of tries."""

    tries = 0

    def write(self, text):
        self.tries += 1
        raise BrokenPipeError(32, "Broken pipe")


def test_the_first_failure_is_kept_and_ends_nothing():
    stream = Unfailing(Refusing())
    assert stream.failed == ""
    assert [stream.write("one"), stream.write("three")] == [3, 5]
    stream.flush()
    assert stream.failed == "Broken pipe"
    closed = io.StringIO()
    closed.close()
    closed = Unfailing(closed)
    closed.write("x")
    assert "closed file" in closed.failed


def test_what_an_encoding_lacks_is_escaped():
    raw = io.BytesIO()
    stream = Unfailing(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("1.0 ± 0.1 \udcff\n")
    stream.flush()
    assert raw.getvalue() == b"1.0 \\xb1 0.1 \\udcff\n"
    assert stream.failed == ""


def test_a_line_for_the_shell_gives_the_words_back():
    words = [
        "a b",
        "",
        "it's",
        "$(touch x)",
        "a\x1b[31m's \\x41",
        "two\nlines",
        "\u202ename é",
        os.fsdecode(b"\xff.png"),
    ]
    line = shell(words)
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]
    assert shell(["\ud800"]) == "$'\\xed\\xa0\\x80'"  # no name has it, but a forged record may


@pytest.mark.parametrize("kind", [DataError, FlagError, MissingData])
def test_errors_are_printable(kind):
    assert str(kind("a\x1b[2J\nb\u202ec ±")) == "a\\x1b[2J\\nb\\u202ec ±"
    assert printable("\x9b31m\x00") == "\\x9b31m\\x00"
