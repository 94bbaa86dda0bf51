"""R19: after any damage to a file of a run folder, an action gives the same result as before, or one line that names
the file.
"""

import os
import random
from pathlib import Path

import pytest

from tests.reliability.runs import ACTIONS, READING


def flipped(path, draw):
    content = bytearray(path.read_bytes() or b"\0")
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def replaced(make):
    def how(path, draw):
        path.unlink()
        make(path)

    return how


DAMAGES = {
    "flip": flipped,
    "cut": lambda path, draw: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path, draw: path.write_bytes(b""),
    "deleted": replaced(lambda path: None),
    "folder": replaced(lambda path: path.mkdir()),
    "link to nothing": replaced(lambda path: path.symlink_to(path.with_name("nothing"))),
    "pipe": replaced(os.mkfifo),
    "null": lambda path, draw: path.write_text("null\n"),
    "[]": lambda path, draw: path.write_text("[]\n"),
    "{}": lambda path, draw: path.write_text("{}\n"),
}


def held(found, expected, name: str) -> str:
    """The fault of an answer, "" if none: it must be the same result, or one line that names the file."""
    status, said, result = found
    if "Traceback" in said or "\x1b" in said:
        return "a traceback or an escape sequence"
    if status == 0:
        if not isinstance(result, list):
            return "" if result == expected[2] else "another result"
        own = [line for line in result if "/run " in line]  # of a table, whose other lines must not change
        others = [line for line in expected[2] if "/run " not in line]
        told = [name in line or "at step" in line or line in expected[2] for line in own]
        kept = [line for line in result if line not in own] == others
        # a folder without config.json is not a run's, and is not listed
        return "" if kept and all(told) and (own or name == "config.json") else "another result"
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    return "" if len(errors) == 1 and name in errors[0] else "not one line that names the file"


def named(path: Path, run: Path) -> str:
    """The name of a file in errors; for a checkpoint, its folder."""
    inside = path.relative_to(run).parts
    return "/".join(inside[:2]) if inside[0] == "checkpoints" else path.name


def damaged(runs, action, pick):
    """Tries every (file, damage) of the action's run that `pick` selects: (number passed, number tried, failures)."""
    wrong, tried, draw = [], 0, random.Random(action)
    files = sorted(p.relative_to(runs.copy(action)) for p in runs.copy(action).rglob("*") if p.is_file())
    for file, kind in pick([(file, kind) for file in files for kind in DAMAGES]):
        place = runs.copy(action)
        DAMAGES[kind](place / file, draw)
        fault = held(found := runs.act(place, action), runs.expected(action), named(place / file, place))
        tried += 1
        if fault:
            wrong.append((str(file), kind, fault, found[0], found[1][-300:]))
    return tried - len(wrong), tried, wrong


@pytest.mark.parametrize("action", READING)
@pytest.mark.claims
def test_some_damage_in_every_file(runs, promise, action):
    draw = random.Random(action)
    pick = lambda cases: draw.sample(cases, 15)
    passed, tried, wrong = damaged(runs, action, pick)
    promise("R19", passed, tried, f"{action}; failed: {wrong}" if wrong else action)


@pytest.mark.full
@pytest.mark.parametrize("action", ACTIONS)
def test_every_damage_in_every_file(runs, promise, action):
    passed, tried, wrong = damaged(runs, action, lambda cases: cases)
    promise("R19", passed, tried, f"{action}; failed: {wrong}" if wrong else action)
