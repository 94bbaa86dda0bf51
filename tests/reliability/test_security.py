"""S1, S2: no file that is read can run code or fill the memory."""

import ast
import gzip
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
    """A name such as numpy.load, "" if the node is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and dotted(node.value):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def true(node):
    return not (isinstance(node, ast.Constant) and node.value in (False, 0, None))


def hits(text):
    """Line and reason of everything that could run what stands in a file."""
    tree, found, names, restricted = ast.parse(text), [], {}, set()
    for node in ast.walk(tree):  # what each name stands for
        if isinstance(node, ast.Import):
            names.update({a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                          for a in node.names})  # fmt: skip
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
        elif isinstance(node, ast.ClassDef):  # a base class is restricted where it decides what may be called
            methods = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
            if {"find_class", "persistent_load"} <= methods:
                restricted.update(id(base) for base in node.bases)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS and name not in names:
                found.append((node.lineno, name))
            for keyword in node.keywords:
                if keyword.arg in ("shell", "allow_pickle") and true(keyword.value):
                    found.append((node.lineno, f"{keyword.arg}=True"))
        if isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in restricted:
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
    restricted = "def find_class(self, m, n): ...\n    def persistent_load(self, p): ..."
    assert not hits(f"import pickle\nclass R(pickle.Unpickler):\n    {restricted}")


def test_nothing_runs_code_from_a_file(promise):
    found = [f"{path.relative_to(ROOT)}:{line} {reason}" for path in SOURCES for line, reason in hits(path.read_text())]
    assert len(SOURCES) > 60
    promise("S1", len(SOURCES) - len({hit.partition(":")[0] for hit in found}), len(SOURCES), f"files; {found}")


LIMIT = 1 << 20
BOMB = gzip.compress(bytes(64 << 20), 1)  # 64 MB in 300 kB


def broken(name, content):
    """The good files of a format, one of them in gzip as `content` makes it."""

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
    """One line, no more memory than the limit and a little, and no file more than before."""
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
