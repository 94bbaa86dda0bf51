"""R17: a folder of a run with other flags is refused, for every flag of every experiment that can change a result."""

import dataclasses
import importlib

import pytest

from jaxdl.run import FlagError
from jaxdl.run.command.flags import flags_of
from jaxdl.run.store.folder import open_run
from tests.reliability.conftest import snapshot
from tests.test_experiments import NAMES, Setting

# another value of a text flag without choices
TEXTS = {
    "monitor": "loss|accuracy",
    "freeze": "kernel",
    "rates": "kernel:0.5",
    "sweep": "learning_rate=0.001,0.002",
    "dataset": "glyphs",
    "augment": "shift",
    "text": "other.txt",
    "table": "other.csv",
    "target": "price",
    "drop": "id",
    "hidden": "7",
    "init": "other.npz",
    "init_skip": "kernel",
    "group": "patient",
    "positive": "7",
    "run": "runs/other",
    "module": "other.py",
    "settings": "cnn_digits",
    "faults": "few_steps",
}
# flags under which a flag has an effect, in addition to its `needs`
WITH = {"target": {"table": "some.csv"}, "drop": {"table": "some.csv"}, "remat": {"model": "resnet20"},
        "features": {"parameters": 200_000}, "init_skip": {"init": "some.npz"}, "separator": {"table": "some.csv"},
        "module": {"run": "runs/some"}, "trials": {"sweep": "learning_rate=0.001,0.002"},
        "no_header": {"table": "some.csv"}, "decimal": {"table": "some.csv"},
        "split": {"table": "some.csv"}, "group": {"table": "some.csv", "split": "group", "group": "id"}}  # fmt: skip
LENGTH = ("steps", "epochs")  # one of the two is set
# flags that need files of their own, or do not belong to a single fit: tested with `open_run` only
NO_FIT = ("sweep", "trials", "seeds", "epochs", "dataset", "text", "table", "target", "drop", "task",
          "image_size", "init", "init_skip", "separator", "no_header", "decimal", "split", "group")  # fmt: skip


def others(flag, value):
    """Other values of a flag than its own, the least unusual first; for steps only smaller ones."""
    if flag.type is bool:
        return [not value]
    if flag.type is str:
        return [text for text in flag.rule.choices or TEXTS[flag.name].split("|") if text != value]
    if flag.name in LENGTH:
        return [value // 2]
    kind, value = flag.type, value or 0
    return [x for x in (kind(value / 2), kind(2 * value), value + 1, kind(0.5), 64) if x != value]


def changes(config):
    """(flag, base, changed) for each flag that can change a result.

    base is the configuration as given, or with flags under which this flag has an effect; changed has another value.
    """
    for flag in flags_of(type(config)):
        unset = flag.name in LENGTH and getattr(config, flag.name) is None
        if unset or not flag.rule.affects_result or len(flag.rule.choices) == 1:
            continue
        effect = {}
        if flag.rule.needs and getattr(config, flag.rule.needs[0]) not in flag.rule.needs[1]:
            needed, values = flag.rule.needs
            allowed = next(f.rule.choices for f in flags_of(type(config)) if f.name == needed) or values
            if not set(values) & set(allowed):
                continue  # the experiment does not accept what the flag needs, such as Adam for beta2
            effect = {needed: next(value for value in values if value in allowed)}
        effect |= {name: value for name, value in WITH.get(flag.name, {}).items() if hasattr(config, name)}
        base = dataclasses.replace(config, **effect)
        for value in others(flag, getattr(base, flag.name)):
            try:
                changed = dataclasses.replace(base, **{flag.name: value})
            except FlagError as error:
                if f"--{flag.name}=" not in str(error):
                    raise
                continue  # violates the experiment's own rules
            yield flag, base, changed
            break


def refused(flag, act, *args, **kwargs) -> bool:
    """Whether it is refused in one line that names the flag: as a difference, or as an invalid value."""
    try:
        act(*args, **kwargs)
    except FlagError as error:
        return "\n" not in str(error) and f"--{flag.name}" in str(error)
    return False


@pytest.mark.claims
def test_a_command_with_any_other_flag_is_refused(tmp_path, promise):
    tried, wrong = 0, []
    for name in NAMES:
        module = importlib.import_module(f"experiments.{name}")
        for flag, base, changed in changes(module.Config(**module.SMALL)):
            folder = tmp_path / name / flag.name
            open_run(dataclasses.replace(base, workdir=str(folder)), name)
            before, tried = snapshot(folder), tried + 1
            other = dataclasses.replace(changed, workdir=str(folder))
            if not refused(flag, open_run, other, name) or snapshot(folder) != before:
                wrong.append(f"{name} --{flag.name}")
    promise("R17", tried - len(wrong), tried, f"failed: {wrong}" if wrong else f"flags of {len(NAMES)} experiments")


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_a_fit_with_any_other_flag_is_refused(name, tmp_path, promise):
    """Also if the fit was unfinished."""
    setting, tried, wrong = Setting(name), 0, []
    for flag, base, changed in changes(setting.config):
        if flag.name in NO_FIT:
            continue
        folder = tmp_path / flag.name
        try:
            first, second = (Setting(name, **dataclasses.asdict(config)) for config in (base, changed))
        except FlagError as error:
            if flag.name not in str(error):
                raise
            continue  # its data do not allow this value
        metrics = first.fit(workdir=str(folder)).metrics
        for ended in (True, False):
            if not ended:
                (folder / "result.json").unlink()
            before, tried = snapshot(folder), tried + 1
            if not refused(flag, second.fit, workdir=str(folder)) or snapshot(folder) != before:
                wrong.append(f"--{flag.name} {'ended' if ended else 'not ended'}")
        if first.fit(workdir=str(folder)).metrics != metrics:
            wrong.append(f"--{flag.name} as at first")
    promise("R17", tried - len(wrong), tried, f"failed: {wrong}" if wrong else "flags, twice each")
