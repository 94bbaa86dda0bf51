"""The identity of a fit: digests of flags, data, program and start, to detect whether a folder holds the same fit."""

import hashlib
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

import jax
import numpy as np

from jaxdl.data import Batches, DataError, Stream
from jaxdl.data.trees import leaves as paths
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError, flags_of, shown
from jaxdl.run.engine.distributed import is_first
from jaxdl.run.show.report import log
from jaxdl.run.store.files import plain, read_json, write_json
from jaxdl.run.store.settings import changed, settings, words_for

NAME = "fit.json"
# the fit of one seed does not depend on the number of seeds, and epochs have been converted to steps
APART = ("seeds", "epochs", "sweep", "trials")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def identity(
    config: RunConfig, data: Mapping[str, Any], programs: Mapping[str, str], start: Any
) -> dict[str, dict[str, Any]]:
    """Returns {"flags", "data", "program", "versions", "settings"} of a fit, all of it plain values.

    Args:
      config: resolved.
      data: the parts by name; None for a missing part.
      programs: digests by name.
      start: the given initial state, or None.
    """
    flags = {
        f.name: getattr(config, f.name) for f in flags_of(type(config)) if f.rule.affects_result and f.name not in APART
    }
    parts = {name: digest_of_data(part) for name, part in data.items()}
    if start is not None:
        programs = {**programs, "start": digest_of_arrays(start.replace(key=jax.numpy.zeros(())))}
    return {
        "flags": flags,
        "data": parts,
        "program": dict(programs),
        "versions": versions(),
        "settings": settings(config.devices),
    }


def versions() -> dict[str, str]:
    """Returns the versions on which the text of a program depends."""
    return {"jax": jax.__version__, "python": platform.python_version()}


def claim_folder(folder: Path, now: dict[str, dict[str, Any]]) -> None:
    """Writes the identity into a fit's folder, or compares it with the one there.

    More steps than before are accepted if the program is the same, that is, if no schedule depends on them. With
    several processes only the first does this; the others could see a folder that is being created.

    Raises:
      FlagError: lists the differences, so that the result of another fit is never continued or returned.
    """
    if not is_first():
        return
    try:
        before = read_json(folder / NAME)
    except DataError as error:
        raise FlagError(f"{error}; use another folder, or --overwrite") from None
    if before is None:
        if any((folder / name).exists() for name in ("result.json", "checkpoints")):
            raise FlagError(
                f"{folder}: holds a fit without {NAME}, of an older version; use another folder, or --overwrite"
            )
        write_json(folder / NAME, now)
        return
    old, new = before["settings"], now["settings"]
    found = changed(old, new)
    same(folder, before, now, found)
    if found:
        again = words_for(old, new)
        told = f"{'; '.join(found)}{f'; to restore them, prefix the command with: {again}' if again else ''}"
        log(f"warning: {folder}: started with other settings, so bits will differ: {told}")
    if before["flags"] != now["flags"]:
        write_json(folder / NAME, now | {"settings": old})  # more steps


def same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], besides: Sequence[str] = ()) -> None:
    """Raises FlagError if two identities differ; `besides` lists other differences, which may be the reason."""
    try:
        found = differences(before, now)
    except (AttributeError, KeyError, TypeError):
        raise DataError(f"{folder}: its records are not a run's; use another folder, or --overwrite") from None
    if found:
        found += besides
        raise FlagError(f"{folder}: holds another fit: {'; '.join(found)}; use another folder, or --overwrite")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the differences between two identities in words."""
    found = []
    flags, old = now.get("flags", {}), before.get("flags", {})
    for name in flags:
        longer = name == "steps" and (old.get(name) or 0) < flags[name]
        if name in old and old[name] != flags[name] and not longer:
            found.append(f"--{name} was {shown(old[name])}, is {shown(flags[name])}")
    for part, new in now.get("data", {}).items():
        was = before.get("data", {}).get(part)
        if was != new:
            found.append(f"the {part} data was {_rows(was)}, is {_rows(new)}")
    new, was = now.get("about", {}), before.get("about", {})
    kinds = [kind for kind in new | was if was.get(kind) != plain(new.get(kind))]
    if kinds and "about" in now:
        found.append(f"the description of the data has changed: {', '.join(kinds)}")
    if before["versions"] == now["versions"]:  # in other versions the text of an equal program differs
        new, was = now.get("program", {}), before.get("program", {})
        kinds = [kind for kind in new | was if was.get(kind) != new.get(kind)]
        if kinds and not found:
            grown = (
                f"--steps was {old['steps']}, is {flags['steps']}, or "
                if old.get("steps") != flags.get("steps")
                else ""
            )
            found.append(f"{grown}the code of {', '.join(kinds)} has changed")
    return found


def _rows(part: Any) -> str:
    return "none" if part is None else f"{part['rows']} rows with sha256 {part['sha256'][:8]}"


def digest_of_data(data: Any) -> dict[str, Any] | None:
    """Returns {"rows", "sha256"} of one part: of all its arrays, or of batch 0 if it is not in memory; None of None.

    For a stream, whose order may differ each time, only shapes and dtypes of its batches are used.
    """
    data = data(0) if callable(data) else data
    parts = jax.tree.leaves(data, is_leaf=lambda x: isinstance(x, Batches))
    if not parts:
        return None
    if all(isinstance(x, (Batches, Stream)) for x in parts):
        known = all(isinstance(x, Batches) for x in parts)
        looks = lambda x: repr([(path, a.dtype.name, a.shape) for path, a in paths(x.example)])
        digests = [x.digest() if isinstance(x, Batches) else looks(x) for x in parts]
        rows = sum(x.length for x in parts) if known else "streamed"
        return {"rows": rows, "sha256": hashlib.sha256("".join(digests).encode()).hexdigest()}
    rows = len(data) if hasattr(data, "__len__") else "unknown"
    return {"rows": rows, "sha256": digest_of_arrays(data[0])}


def digest_of_arrays(tree: Any) -> str:
    """Returns the SHA-256 over the leaves of a pytree: paths, dtypes, shapes and bytes."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def digest_of_program(closed: Any, *functions: Callable[..., Any]) -> str:
    """Returns the SHA-256 of a closed jaxpr with its constants, and of the code of functions that run on the host."""
    found = hashlib.sha256(ADDRESS.sub("", str(closed.jaxpr)).encode())
    for constant in closed.consts:
        found.update(digest_of_arrays(constant).encode())
    for function in functions:
        for text in _code(getattr(function, "__code__", None)):
            found.update(text)
    return found.hexdigest()


def _code(code: CodeType | None) -> list[bytes]:
    if code is None:
        return []
    inner = [part for constant in code.co_consts if isinstance(constant, CodeType) for part in _code(constant)]
    # the order of a set of strings differs between processes
    values = [sorted(map(repr, c)) if isinstance(c, frozenset) else c for c in code.co_consts]
    plain = [repr(value).encode() for value in values if not isinstance(value, CodeType)]
    return [code.co_code, repr(code.co_names).encode(), *plain, *inner]
