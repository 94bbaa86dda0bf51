"""Initial parameters from another run or a file, in place of those that `init` draws."""

import dataclasses
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdl.core import Learner
from jaxdl.data import DataError, MissingData
from jaxdl.data.trees import leaves
from jaxdl.optim import begun_at, path_of
from jaxdl.run.command.flags import FlagError
from jaxdl.run.engine.result import read_end
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.run.store.files import replacing
from jaxdl.run.store.identity import NAME

ENDING = ".npz"
KEPT = ("step", "key", "opt_state", "fault")  # fields of a state and its learners that a new run does not take over


class Weights(NamedTuple):
    """Arrays by their paths in a state, "learner/params/Dense_0/kernel", and their source."""

    source: str
    arrays: Mapping[str, np.ndarray]


def weights_of(state: Any) -> dict[str, Any]:
    """Returns {path: array} of a network: the parameters that evaluation uses, and batch norm's averages."""
    return {path_of(path): leaf for path, leaf in _leaves(state, lambda learner: learner.averaged)}


def _leaves(
    state: Any, of: Callable[[Learner], Any] = lambda learner: learner.params
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yields (path, leaf) of all but counters, keys and optimiser states; `of` returns the parameters of a learner."""
    rows = {f.name for f in dataclasses.fields(state) if f.metadata.get("per_example")}
    is_learner = lambda node: isinstance(node, Learner)
    for path, node in jax.tree_util.tree_leaves_with_path(state, is_leaf=is_learner):
        if str(getattr(path[0], "name", "")) in (*KEPT, *rows):
            continue
        if not is_learner(node):
            yield path, node
            continue
        params = jax.tree_util.GetAttrKey("params")
        for below, leaf in jax.tree_util.tree_leaves_with_path(of(node)):
            yield (*path, params, *below), leaf


def save_weights(path: str | Path, state: Any) -> None:
    """Writes the weights of a state into FILE.npz, for NumPy and --init.

    Raises:
      FlagError: the name has another suffix.
    """
    if Path(path).suffix != ENDING:
        raise FlagError(f"{path}: must end in {ENDING}")
    with replacing(Path(path)) as file:
        arrays: Any = {name: np.asarray(leaf) for name, leaf in weights_of(state).items()}
        np.savez(file, **arrays)


def read_weights(source: str) -> Weights:
    """Reads the weights of FILE.npz, or of a run's first seed: RUN, or RUN/FIT if it has several fits.

    Raises:
      MissingData: there is no such file or run.
      DataError: it is damaged, or not such a file.
    """
    path = Path(source)
    if path.is_file():
        return Weights(source, _of_file(path))
    if not path.is_dir():
        raise MissingData(f"--init={source}: no such file or folder; give a run, RUN or RUN/FIT, or a {ENDING} file")
    fits = [path] if (path / NAME).exists() else sorted({p.parent for p in path.glob(f"seed*/{NAME}")}, key=_number)
    fits = fits[:1] or sorted(p.parent for p in path.glob(f"*/{NAME}"))
    if len(fits) != 1:
        named = ", ".join(p.name for p in fits)
        told = f"has several fits, {named}; give one, {source}/FIT" if fits else "contains no fit"
        raise MissingData(f"--init={source}: {told}")
    ended = read_end(fits[0]) or {}
    tree = Checkpoints(fits[0] / "checkpoints", write=False).arrays(ended.get("state_step"))
    return Weights(source, dict(_evaluated(tree)))


def _number(path: Path) -> int:
    return int(path.name[4:]) if path.name[4:].isdigit() else 0


def _of_file(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = str(error).partition("\n")[0][:100]
        raise DataError(f"--init={path}: is not an {ENDING} file of arrays ({reason})") from None


def _evaluated(tree: Any, above: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yields (path, array) of a state as a checkpoint stores it, dicts and lists; averaged parameters if there are."""
    for name, node in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        path = f"{above}/{name}".lstrip("/")
        if name == "params" and "opt_state" in tree:
            averages = dict(leaves(_average(tree["opt_state"], node)))
            yield from ((f"{path}/{below}", averages.get(below, leaf)) for below, leaf in leaves(node))
        elif isinstance(node, (dict, list)) and name not in KEPT:
            yield from _evaluated(node, path)
        elif name not in KEPT and isinstance(node, np.ndarray):
            yield path, node


def _average(node: Any, params: Any) -> Any:
    """Returns the average of the parameters in an optimiser's state; {} if it keeps none."""
    if isinstance(node, dict):
        if {"inner", "average"} <= node.keys():
            return node["average"]
        if {"z", "b1", "weight_sum"} <= node.keys():  # Schedule-Free: y = (1 - b1) z + b1 x
            y, b = dict(leaves(params)), node["b1"]
            return {path: (y[path] - (1 - b) * z) / b for path, z in leaves(node["z"]) if path in y}
    inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next(filter(None, (_average(one, params) for one in inside)), {})


def check_weights(like: Any, found: Weights, skip: str | None) -> str:
    """Returns one line that describes the weights that are used.

    Args:
      like: a state, or its shapes.
      found: the weights.
      skip: regular expression of paths that keep their initial values.

    Raises:
      FlagError: shapes differ or weights are missing, at paths that `skip` does not match.
    """
    mine = {path_of(path): tuple(leaf.shape) for path, leaf in _leaves(like)}
    left = [path for path in mine if skip and re.search(skip, path)]
    if skip and not left:
        raise FlagError(f"--init_skip={skip}: matches none of {_some(list(mine))}")
    there = {path: np.shape(array) for path, array in found.arrays.items()}
    side = lambda shape: "x".join(map(str, shape)) or "a scalar"
    other = [
        f"{path} is {side(there[path]) if path in there else 'missing'} there, {side(shape)} here"
        for path, shape in mine.items()
        if path not in left and there.get(path) != shape
    ]
    if other:
        told = "--init_skip=REGEX keeps the initial values of such paths"
        raise FlagError(f"--init={found.source}: its parameters differ from this network's: {_some(other)}; {told}")
    taken, unused = len(mine) - len(left), [path for path in there if path not in mine]
    skipped = f"; skipped: {_some(left)}" if left else ""
    return f"starts from {taken} arrays of {found.source}{skipped}{f'; unused: {_some(unused)}' if unused else ''}"


def _some(words: list[str], most: int = 4) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def begun_with(state: Any, found: Weights, skip: str | None) -> Any:
    """Returns a fresh state with the weights in place of those that `init` drew; averages start from them too."""

    def take(path: tuple[Any, ...], leaf: Any) -> Any:
        name = path_of(path)
        return leaf if (skip and re.search(skip, name)) else jax.numpy.asarray(found.arrays[name], leaf.dtype)

    wanted = {path_of(path) for path, _ in _leaves(state)}
    new = jax.tree_util.tree_map_with_path(lambda p, x: take(p, x) if path_of(p) in wanted else x, state)
    is_learner = lambda node: isinstance(node, Learner)
    begin = lambda node: node.replace(opt_state=begun_at(node.opt_state, node.params)) if is_learner(node) else node
    return jax.tree.map(begin, new, is_leaf=is_learner)
