"""Hyper-parameters are flags and stored with a fit; parameters are not."""

from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.cross_validation.samples import build
from jaxdl import run
from jaxdl.data import Data
from jaxdl.run import Quantity
from jaxdl.run.command.flags import flags_of
from jaxdl.run.store.files import read_json
from jaxdl.run.store.identity import APART, identity


def flags_and_parameters(config: Any, one: Any, data: Data, fit: run.Result, name: str) -> Iterator[run.Finding]:
    """Reads what a fit has stored, and changes each flag in turn."""
    known = {f.name: f for f in flags_of(type(one)) if f.rule.affects_result and f.name not in APART}
    values = {key: getattr(one, key) for key in known}
    tried, same = 0, 0
    for key, f in known.items():
        for value in others(f, values[key]):
            try:
                other = one.replace(**{key: value})
            except run.FlagError:  # has no effect with the other flags, or contradicts them
                continue
            tried += 1
            same += identity(other, {}, {}, None)["flags"] == identity(one, {}, {}, None)["flags"]
            break
    if config.workdir:
        stored = (read_json(Path(config.workdir) / name / "fit.json") or {})["flags"]
        missing = sum(key not in stored or stored[key] != value for key, value in values.items() if key != "steps")
        plain = sum(not isinstance(v, (int, float, str, bool, type(None))) for v in stored.values())
        yield run.measured(
            "flags",
            Quantity("flags that can change a result", len(known), ">", 20),
            Quantity("not stored with the fit", missing, "==", 0),
            Quantity("stored values that are no number, word or switch", plain, "==", 0),
            Quantity("flags that were changed", tried, ">", 20),
            Quantity("of these, without a new identity", same, "==", 0),
        )
    start = build(one, data).init(jax.random.key(one.seed)).learner.params
    pairs = list(zip(jax.tree.leaves(start), jax.tree.leaves(fit.state.learner.params), strict=True))
    try:
        one.learning_rate = 1.0
        frozen = False
    except FrozenInstanceError:
        frozen = True
    changed = float(np.mean(np.concatenate([np.ravel(a != b) for a, b in pairs])))
    names = {str(path[-1].key) for path, _ in jax.tree_util.tree_leaves_with_path(start)}
    yield run.measured(
        "parameters",
        Quantity("parameters", sum(a.size for a, _ in pairs)),
        Quantity("share of them that training has changed", changed, ">", 0.5),
        Quantity("of them named as a flag", len(names & set(known)), "==", 0),
        Quantity("flags that code can change in place (1: yes)", not frozen, "==", 0),
    )


def others(f: Any, value: Any) -> list[Any]:
    """Returns other values of a flag than its own."""
    if f.rule.choices:
        return [choice for choice in f.rule.choices if choice != value]
    if f.type is bool:
        return [not value]
    if f.type is str:
        return [f"not {value}"]
    return [new for new in (f.type(2 * (value or 0)), f.type(1), f.type(0.5), 200) if new != value]
