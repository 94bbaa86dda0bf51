"""Digests of the code on which an experiment's results depend.

Imports are followed through `jaxdl` and `experiments`: a package's module is included only if a name that it defines is
used. The rooms of jaxdl.run that store and show results are left out, because tests hold that they change none.
"""

import ast
import functools
import hashlib
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

from jaxdl.packaged import PLACE

ROOT = PLACE.parent
OURS = ("jaxdl", "experiments")
# code of these changes no result
LEFT_OUT = ("jaxdl.run.command", "jaxdl.run.profile", "jaxdl.run.records", "jaxdl.run.show", "jaxdl.run.store")
ALWAYS = "jaxdl.run.command.config"  # makes the optimiser of a configuration
FLAGS = ("flag", "no_validation")  # declare a flag
SMALL = "SMALL"  # an experiment's flags for the tests


def code_digests(module: str) -> dict[str, str]:
    """{module: first 8 hex digits of its SHA-256} of `module` and of the code that it uses, sorted by name.

    Comments, docstrings, blanks, claims, SMALL and texts for people (log lines, errors) do not count, nor do the
    declarations of flags: a record compares their values.
    """
    found, todo = dict[str, str](), [module, ALWAYS]
    while todo:
        name = todo.pop()
        if name in found or _file(name) is None:
            continue
        found[name] = _digest(name)
        todo += [used for used in _used(name) if used == ALWAYS or not used.startswith(LEFT_OUT)]
    return dict(sorted(found.items()))


def code_of(source: bytes) -> bytes:
    """A module's source without comments, docstrings, blanks, claims, SMALL, flags and texts for people.

    It is the same in all versions of Python, unlike a dump or unparsed text of the syntax tree.
    """
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    cuts = list[tuple[int, int]]()
    for node in _texts(ast.parse(source)):
        end = starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)
        cuts.append((starts[node.lineno - 1] + node.col_offset, end))
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            start = starts[token.start[0] - 1] + len(token.line[: token.start[1]].encode())
            cuts.append((start, start + len(token.string.encode())))
    kept, at = list[bytes](), 0
    for start, end in sorted(cuts):
        kept.append(source[at:start])
        at = max(at, end)
    return b"".join(b"".join([*kept, source[at:]]).split())


def _texts(tree: ast.Module) -> Iterator[ast.expr | ast.stmt]:
    """The docstrings, what is raised, claims, declarations of flags, log lines, and SMALL."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            assert isinstance(node.body[0], ast.Expr)
            yield node.body[0].value
        elif isinstance(node, ast.Raise) and node.exc:
            yield node.exc
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            if SMALL in _names(node) or _called(node.value) in FLAGS:
                yield node
        elif isinstance(node, ast.Call):
            if _called(node) == "Claim":
                yield node
            elif _called(node) == "log" and node.args:
                yield node.args[0]


def _called(node: ast.AST | None) -> str:
    """The last part of the name that a call calls; "" for any other node."""
    return getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""


def _names(node: ast.Assign | ast.AnnAssign) -> set[str]:
    """The names that a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _file(module: str) -> Path | None:
    """The file of a module of ours, or None."""
    path = ROOT / module.replace(".", "/")
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((p for p in candidates if p.is_file()), None) if module.split(".")[0] in OURS else None


def _is_package(module: str) -> bool:
    return (ROOT / module.replace(".", "/") / "__init__.py").is_file()


@functools.cache  # experiments share most modules
def _digest(module: str) -> str:
    path = _file(module)
    return hashlib.sha256(code_of(path.read_bytes() if path else b"")).hexdigest()[:8]


@functools.cache
def _tree(module: str) -> ast.Module:
    path = _file(module)
    return ast.parse(path.read_bytes() if path else b"")


@functools.cache
def _used(module: str) -> set[str]:
    """The modules of ours that define what a module imports; of a package imported whole, what its attributes need."""
    tree, whole, found = _tree(module), dict[str, str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if _is_package(inner):
                    whole[alias.asname or alias.name] = inner
                else:
                    found.add(_definer(node.module, alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (package := whole.get(_dotted(node.value))):
            found.add(_definer(package, node.attr))
    return found | {name for name in whole.values() if not _is_package(name)}


def _dotted(node: ast.expr) -> str:
    """The text of a name, a.b.c; "" of any other expression."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _definer(module: str, name: str) -> str:
    """The module in which `name` of `module` is defined, through what packages import from their modules."""
    if _file(f"{module}.{name}"):
        return f"{module}.{name}"
    if _is_package(module):
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return _definer(node.module, alias.name)
    return module
