"""S1, S2: no file that is read can run code or fill the memory."""

import ast
import gzip
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from jaxdl.data import DataError, load_images, load_text, read_csv, read_text
from tests.reliability.test_broken_files import FORMATS, idx, written

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for part in ("jaxdl", "experiments") for path in (ROOT / part).rglob("*.py"))
CALLS = {"eval", "exec", "compile", "__import__"}  # as names; re.compile is an attribute
MEMBERS = {
    "pickle": {"load", "loads", "Unpickler", "_Unpickler"},
    "dill": {"load", "loads"},
    "cloudpickle": {"load", "loads"},
    "joblib": {"load"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "torch": {"load"},
    "yaml": {"load", "unsafe_load"},
    "pandas": {"read_pickle"},
    "os": {"system", "popen"},
}


def dotted(node):
    """A name such as numpy.load, "" if the node is not a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and dotted(node.value):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def true(node):
    return not (isinstance(node, ast.Constant) and node.value in (False, 0, None))


def hits(text):
    """Line and reason of every expression that could run the content of a file."""
    tree, found, names = ast.parse(text), [], {}
    for node in ast.walk(tree):  # the meaning of each name
        if isinstance(node, ast.Import):
            names.update({a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                          for a in node.names})  # fmt: skip
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS and name not in names:
                found.append((node.lineno, name))
            for keyword in node.keywords:
                if keyword.arg in ("shell", "allow_pickle") and true(keyword.value):
                    found.append((node.lineno, f"{keyword.arg}=True"))
        if isinstance(node, (ast.Name, ast.Attribute)):
            head, _, rest = dotted(node).partition(".")
            module, _, member = f"{names.get(head, '')}.{rest}".rstrip(".").rpartition(".")
            if member in MEMBERS.get(module.partition(".")[0], ()):
                found.append((node.lineno, f"{module}.{member}"))
    return found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.loads(b)",
        "from pickle import load as read\nread(f)",
        "import pickle as p\nclass R(p.Unpickler):\n    pass",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import numpy\nnumpy.load(f, allow_pickle=flag)",
        "import torch\ntorch.load(f)",
        "eval(x)",
        "exec(x)",
        "import subprocess\nsubprocess.run(x, shell=True)",
        "import os\nos.system(x)",
    ],
)
def test_each_of_these_is_found(text):
    assert hits(text)


def test_these_are_not():
    assert not hits(
        "import re\nre.compile(x)\nimport numpy as np\nnp.load(f)\nmodel.eval()\nnp.load(f, allow_pickle=False)"
    )


def test_nothing_runs_code_from_a_file(promise):
    found = [f"{path.relative_to(ROOT)}:{line} {reason}" for path in SOURCES for line, reason in hits(path.read_text())]
    assert len(SOURCES) > 60
    promise("S1", len(SOURCES) - len({hit.partition(":")[0] for hit in found}), len(SOURCES), f"files; {found}")


LIMIT = 1 << 20
BOMB = gzip.compress(bytes(64 << 20), 1)  # 64 MB in 300 kB


def broken(name, content):
    """The good files of a format, one of them compressed by `content`."""

    def made(root):
        return written(name, root, content)

    return made


ARCHIVES = {
    "idx bomb": (broken("idx", lambda good: gzip.compress(good[:16]) + BOMB), FORMATS["idx"][1]),
    "usps bomb": (broken("usps", lambda good: BOMB), FORMATS["usps"][1]),
    "cifar bomb": (broken("cifar", lambda good: BOMB), FORMATS["cifar"][1]),
    "text bomb": (broken("text", lambda good: BOMB), lambda root: read_text(root / "text.txt", LIMIT)),
    "cut": (broken("csv", lambda good: gzip.compress(good)[:-20]), FORMATS["csv"][1]),
    "flipped": (broken("text", lambda good: gzip.compress(good)[:-6] + b"\1\2\3\4\5\6"), FORMATS["text"][1]),
}
MORE = {
    "wrong length": (broken("idx", lambda good: gzip.compress(good)[:-4] + b"\0\0\0\1"), FORMATS["idx"][1]),
    "second half lost": (broken("usps", lambda good: gzip.compress(good)[:500]), FORMATS["usps"][1]),
    "only a header": (broken("csv", lambda good: gzip.compress(b"")), FORMATS["csv"][1]),
    "bomb in a bomb": (broken("csv", lambda good: gzip.compress(gzip.compress(good))), FORMATS["csv"][1]),
    "a bomb behind a table": (broken("text", lambda good: gzip.compress(good) + BOMB),
                              lambda root: read_text(root / "text.txt", LIMIT)),
    "noise behind a text": (broken("text", lambda good: gzip.compress(good) + b"noise"), FORMATS["text"][1]),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ARCHIVES, *(pytest.param(n, marks=pytest.mark.full) for n in MORE)])
def test_archives(name, tmp_path, promise, monkeypatch):
    """One line, little more memory than the limit, and no new file."""
    make, read = (ARCHIVES | MORE)[name]
    path = make(tmp_path)
    for module in ("cifar", "usps"):
        monkeypatch.setattr(f"jaxdl.data.{module}.LIMIT", LIMIT)
    before = {str(p) for p in tmp_path.rglob("*")}
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            read(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    told = str(caught.value)
    kept = {str(p) for p in tmp_path.rglob("*")} == before
    good = "\n" not in told and str(path) in told and peak < 8 * LIMIT and kept
    promise("S2", good, 1, f"{name}: {peak / 1e6:.1f} MB, {told}")


def test_good_archives_are_read(tmp_path):
    labels = {"mnist/train-labels-idx1-ubyte": idx(np.arange(7))}
    for files in (FORMATS["idx"][0] | labels, FORMATS["csv"][0], FORMATS["text"][0]):
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / name).write_bytes(gzip.compress(content))
    assert load_images("mnist", tmp_path, valid=0).train["x"].shape == (7, 28, 28, 1)
    assert read_csv(tmp_path / "table.csv", target="price").x.shape == (40, 3)
    assert load_text(file=tmp_path / "text.txt").vocabulary


LIMITED = """
import pathlib, resource, sys
import jaxdl.data as data
used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
try:
    found = eval(sys.argv[2], {"data": data, "path": pathlib.Path(sys.argv[3])})
    told = "read"
except data.DataError as error:
    told = str(error)
    assert "\\n" not in told and len(told) < 1000, len(told)
print(told)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def limited(memory, expression, path, seconds=150):
    """Runs a child process with this much additional memory -> (its message, peak memory in bytes)."""
    words = [sys.executable, "-c", LIMITED, str(memory), expression, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    told, most = done.stdout.splitlines()
    return told, int(most)


@pytest.mark.claims
def test_blank_lines_of_usps_cost_no_memory(tmp_path, promise):
    files = dict(FORMATS["usps"][0])
    (tmp_path / "usps").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_bytes(gzip.compress(b"  \n" * (1 << 18) + content, 1))
    tracemalloc.start()
    images = FORMATS["usps"][1](tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    promise("S2", images.train["x"].shape[0] == 6 and peak < 5 << 20, 1, f"{peak / 1e6:.1f} MB for 0.8")


def test_a_long_line_of_usps_costs_no_memory(tmp_path, promise):
    path = written("usps", tmp_path, lambda good: gzip.compress(b"10 " * (4 << 20), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"line 1: 12,582,912 bytes") as caught:
        FORMATS["usps"][1](tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    promise("S2", str(path) in str(caught.value) and peak < 4 * (12 << 20), 1, f"{peak / 1e6:.1f} MB for 12")


def test_a_text_costs_what_its_tokens_do(tmp_path, promise):
    (tmp_path / "long.txt").write_text("to be or not " * (1 << 20))
    tracemalloc.start()
    length = sum(map(len, load_text(file=tmp_path / "long.txt")[:3]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    promise("S2", length == 13 << 20 and peak < 7 * length, 1, f"{peak / length:.1f} bytes a character")


@pytest.mark.claims
def test_categories_that_would_fill_the_memory(tmp_path, promise):
    """A text column becomes 50 numeric columns: the size of the resulting table is limited too."""
    path = tmp_path / "table.csv"
    path.write_text("y,a,b\n" + "".join(f"1,t{i % 50},u{i % 49}\n" for i in range(1 << 18)))
    told, _ = limited(1 << 31, "[setattr(data.csv_table, 'NUMBERS', 10**7), data.read_csv(path, target='y')]", path)
    assert "25,952,256 numbers" in told
    promise("S2", told.startswith(f"{path}: ") and "JAXDL_MAX_NUMBERS" in told, 1, told)


def bomb(path, head, line, count):
    """A gzipped table with `count` copies of a line."""
    block, rest = line * 100_000, line * (count % 100_000)
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(head)
        for _ in range(count // 100_000):
            file.write(block)
        file.write(rest)


@pytest.mark.claims
def test_a_table_costs_what_its_fields_do(tmp_path, promise):
    """Fields are stored once: 10 bytes plus Python's overhead for a string, for few and for many columns."""
    for columns in (1, 2, 50):
        path = tmp_path / f"{columns}.csv"
        rows = 100_000 // columns
        row = ",".join(["-1.234567"] * columns) + "\n"
        path.write_text(",".join(f"c{i}" for i in range(columns)) + ",y\n" + (row[:-1] + ",3.25\n") * rows)
        tracemalloc.start()
        table = read_csv(path, target="y")
        peak = tracemalloc.get_traced_memory()[1] / (rows * (columns + 1))
        tracemalloc.stop()
        assert table.x.shape == (rows, columns)
        promise("S2", peak < 140, 1, f"{columns} columns: {peak:.0f} bytes a field")


@pytest.mark.full
@pytest.mark.parametrize(
    ("head", "line", "told"),
    [
        (b"a,b\n", b"1,2\n", "has up to 460,000,002 fields"),
        (b"a\n", b"\r\n", "has up to 230,000,001 fields"),
        (b"a" + b",a" * 999_999, b"\r", "has up to 230,999,999 fields"),
    ],
    ids=["two columns", "blank lines", "a million columns"],
)  # fmt: skip
def test_a_table_of_a_gigabyte_in_a_megabyte(head, line, told, tmp_path, promise):
    """230 million lines, below the limit on text: refused before any field is created."""
    path = tmp_path / "bomb.csv.gz"
    bomb(path, head, line, 230_000_000)
    assert path.stat().st_size < 4e6
    begin = time.monotonic()
    found, peak = limited(4 << 30, "data.read_csv(path, target='a')", path)
    took = time.monotonic() - begin
    assert told in found
    good = found.startswith(f"{path}: ") and "JAXDL_MAX_FIELDS" in found and peak < 4e9
    promise("S2", good, 1, f"{path.stat().st_size / 1e6:.1f} MB: {peak / 1e9:.1f} GB, {took:.0f} s; {found}")


@pytest.mark.full
def test_a_table_just_below_the_limit_is_read(tmp_path, promise):
    from jaxdl.data.csv_columns import FIELDS

    path = tmp_path / "large.csv.gz"
    bomb(path, b"a,b\n", b"1.2345678,-2.345678901\n", FIELDS // 2 - 5)
    told, peak = limited(6 << 30, "data.read_csv(path, target='a')", path)
    promise("S2", told == "read" and peak < 4e9, 1, f"{peak / 1e9:.1f} GB")
