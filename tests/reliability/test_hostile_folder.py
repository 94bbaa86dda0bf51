"""S6: a malicious run folder changes nothing outside, runs nothing, prints no control characters and never hangs."""

import json
import os
import random
import re
import shutil

import pytest

from jaxdl.run.store.files import read_json, write_json
from tests.reliability.conftest import snapshot
from tests.reliability.runs import COMMANDS, READING

RECORDS = ("config.json", "fit.json", "result.json", "summary.json", "metrics.jsonl", "flags.txt")
WRITTEN = (*RECORDS, "predictions.csv", "curves.png", "confusion.png")
FOLDERS = ("checkpoints", *(f"checkpoints/{step}" for step in (8, 16, 21)), "watched", "tensorboard", ".overwritten")
NAMES = ("\x1b[2J\x1b]0;title\x07", "$(touch INVADED)", "; touch INVADED #", "$50_to_$100", "a\nerror: b",
         "<img src=x>", "\u202eexe.csv", "\x9b31m")  # fmt: skip
SEALS = "checkpoints/16/checksums.json"
FACTS = ("facts", "facts log", "facts watched", "facts score")
ODD = (None, 5, "x", [9, 9], {"x": 1})
MODULES = ("os", "../../x", "__main__", None, 5)


def lead(name):
    """Replaces a file or a folder by a link out of the run."""

    def how(place, outside):
        path = place / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(outside / ("folder" if name in FOLDERS else "file"))

    return how


def changed(name, value, *keys):
    """Sets another value at a place in a record, with a valid seal."""

    def how(place, outside):
        record = inner = read_json(place / name) or {}
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = value
        write_json(place / name, record)

    return how


def pipe(name):
    def how(place, outside):
        (place / name).unlink(missing_ok=True)
        os.mkfifo(place / name)

    return how


def filled(name, content):
    return lambda place, outside: (place / name).write_bytes(content)


def huge(name):
    """A file of 4 GB that uses no space on the disk."""

    def how(place, outside):
        with (place / name).open("ab") as file:
            file.truncate(1 << 32)

    return how


def device(name):
    def how(place, outside):
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to("/dev/zero")

    return how


HARMS = {
    **{f"link {name}": lead(name) for name in (*WRITTEN, ".lock", *FOLDERS)},
    **{f"link {name}.part": lead(f"{name}.part") for name in WRITTEN},
    **{f"pipe {name}": pipe(name) for name in (*WRITTEN, ".lock")},
    **{f"device {name}": device(name) for name in RECORDS},
    **{f"huge {name}": huge(name) for name in RECORDS},
    **{f"deep {name}": filled(name, b"[" * 1_000_000) for name in RECORDS},
    **{f"digits {name}": filled(name, b'{"step": %s}' % (b"9" * 100_000)) for name in RECORDS},
    **{f"experiment {x!r}": changed("config.json", x, "experiment") for x in (*MODULES, *NAMES)},
    **{f"kind {x!r}": changed("fit.json", [x, f"{x}2", f"{x}3"], "about", "facts", "schema", "names") for x in NAMES},
    **{f"target {x!r}": changed("config.json", x, "flags", "target") for x in NAMES},
    **{f"unknown flag {x!r}": changed("config.json", 1, "flags", x) for x in NAMES},
    **{f"table {x!r}": changed("config.json", x, "flags", "table") for x in ("/dev/zero", "/etc/passwd", *NAMES)},
    **{
        f"workdir {x!r}": changed("config.json", x, "flags", "workdir")
        for x in ("/etc", "../../outside/folder", *NAMES)
    },
    **{f"seal {key} {x!r}": changed(SEALS, x, *key.split()) for key in ("step", "files", *FACTS) for x in ODD},
    **{f"metric {x!r}": changed("result.json", {x: 1.0}, "metrics") for x in NAMES},
}


def done(runs, action, name):
    """The harm done, "" for none."""
    outside = runs.folder / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    for part in ("folder", "folder/0", "folder/8/state"):
        (outside / part).mkdir(parents=True, exist_ok=True)
    for part in ("file", "folder/0/photo.png", "folder/8/state/kept", "folder/notes.npz"):
        (outside / part).write_text("not yours")
    place = runs.copy(action)
    HARMS[name](place, outside)
    before = snapshot(outside)
    try:
        _, said, _ = runs.act(place, action)
    except TimeoutError:
        return "it did not end"
    if snapshot(outside) != before:
        return "something outside was changed"
    if list(runs.folder.rglob("INVADED*")) or os.path.exists("INVADED"):
        return "a command was run"
    if "Traceback" in said:
        return f"a traceback: {said[-300:]}"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said):
        return f"raw characters: {said!r:.300}"
    return ""


def gate(runs, promise, action, names):
    wrong = {name: harm for name in names if (harm := done(runs, action, name))}
    promise("S6", len(names) - len(wrong), len(names), f"{action}; failed: {json.dumps(wrong)}" if wrong else action)


@pytest.mark.parametrize("action", READING)
@pytest.mark.claims
def test_some_harms(runs, promise, action):
    gate(runs, promise, action, random.Random(action).sample(sorted(HARMS), 10))


@pytest.mark.full
@pytest.mark.parametrize("action", [*READING, *COMMANDS, "overwrite"])
def test_every_harm(runs, promise, action):
    gate(runs, promise, action, sorted(HARMS))
