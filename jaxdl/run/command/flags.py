"""Flags from a frozen dataclass: one declaration serves the command line, the notebook and the saved record of a run.

    class Config(RunConfig):
        width: int = flag(64, "hidden units", minimum=1)
        learning_rate: float = 0.1          # another default; help and range are inherited from RunConfig
        batch_size: int = flag(None)        # what the recipe of the data set says

absl's flags are made from the dataclass in a private `FlagValues`, and only when a command line is parsed, so any
number of experiments can be imported side by side.
"""

import dataclasses
import difflib
import math
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

from absl import flags as absl_flags

from jaxdl.streams import Printable

C = TypeVar("C")
MOST = 2**31  # whole numbers are 32 bits wide on the device
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class ConfigError(Printable, ValueError):
    """A flag, or the place where a run is to live, is wrong: one line that says what would be right. Exit status 2."""


FlagError = ConfigError  # its name on the command line


class Rule(NamedTuple):
    """What is known of a flag besides its name, type and default."""

    help: str
    group: str = "experiment"
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    more_than: float | None = None
    maximum: float | None = None
    less_than: float | None = None
    shown: str = ""  # the default in words, where its value says little
    affects_result: bool = True  # False: changing it cannot change what the run computes
    needs: tuple[str, tuple[Any, ...]] | None = None  # another flag, and its values with which this one has an effect

    def range(self) -> str:
        """The allowed values in words, empty where there is no bound."""
        if self.choices:
            return "|".join(self.choices)
        bounds = ((">=", self.minimum), (">", self.more_than), ("<=", self.maximum), ("<", self.less_than))
        return " and ".join(f"{sign} {bound:.12g}" for sign, bound in bounds if bound is not None)

    def need(self) -> str:
        """What gives it an effect, in words: "with --optimizer=adam|adamw", "without --text"; empty where nothing."""
        if self.needs is None:
            return ""
        name, allowed = self.needs
        if not any(allowed):
            return f"without --{name}"
        return f"with --{name}" + ("" if allowed == (True,) else "=" + "|".join(map(shown, allowed)))


def flag(default: Any, help: str = "", **rule: Any) -> Any:
    """A dataclass field that is also a flag; the keywords are those of `Rule`.

    None stands for what a recipe fills in, or for what is not set. Without `help` the rule is inherited.
    `needs=("optimizer", ("adam", "adamw"))`: refused, unless at its default, where the other flag has another value.
    None, 0 and "" among the values stand for a flag that is left out, (True,) for a switch that is on.
    """
    if not help:
        return dataclasses.field(default=default)
    if "choices" in rule:
        rule["choices"] = tuple(rule["choices"])
    return dataclasses.field(default=default, metadata={"rule": Rule(help, **rule)})


class Flag(NamedTuple):
    """One flag of a configuration class."""

    name: str
    type: type
    optional: bool
    default: Any
    rule: Rule


def flags_of(config_class: type) -> Iterator[Flag]:
    """The flags of a dataclass in order; a field without a rule of its own has that of the class it overrides."""
    hints = get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        declared = (c.__dict__.get("__dataclass_fields__", {}).get(field.name) for c in config_class.__mro__)
        rule = next((f.metadata["rule"] for f in declared if f is not None and "rule" in f.metadata), None)
        if rule is None:
            raise TypeError(f"{config_class.__name__}.{field.name} is declared without flag(default, help)")
        kinds = [k for k in get_args(hints[field.name]) or (hints[field.name],) if k is not NoneType]
        optional = NoneType in get_args(hints[field.name])
        yield Flag(field.name, kinds[0], optional, field.default, rule)


def check(config: Any) -> None:
    """Raises FlagError for the first value of another type, outside its range, or without effect (`Rule.needs`)."""
    for name, kind, optional, default, rule in flags_of(type(config)):
        value = getattr(config, name)
        if value is None and optional:
            continue
        if value is None and default is None:
            raise FlagError(f"--{name}: not given, and no recipe says it; give one")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and kind in (float, type(value)) if kind in (int, float) else isinstance(value, kind)):
            raise FlagError(f"--{name}={value}: must be {WORDS[kind]}")
        if isinstance(value, int) and abs(value) >= MOST:
            raise FlagError(f"--{name}={value}: must be below {MOST} (2^31)")
        good = not rule.choices or value in rule.choices
        if number:
            good = math.isfinite(value)
            good = (
                good
                and (rule.minimum is None or value >= rule.minimum)
                and (rule.more_than is None or value > rule.more_than)
            )
            good = (
                good
                and (rule.maximum is None or value <= rule.maximum)
                and (rule.less_than is None or value < rule.less_than)
            )
        if not good:
            similar = difflib.get_close_matches(str(value), rule.choices, n=1)
            near = f" (did you mean {similar[0]}?)" if similar else ""
            allowed = rule.range() if rule.choices else f"a finite number {rule.range()}".rstrip()
            raise FlagError(f"--{name}={value}: must be {allowed}{near}")
        if rule.needs and value != default:
            other, effective = rule.needs
            beside = getattr(config, other)
            if beside not in effective:
                there = f"with --{other}={shown(beside)}" if beside else f"without --{other}"
                raise FlagError(f"--{name}={shown(value)}: has no effect {there}; leave it out")


def nearest(word: str, names: Collection[str]) -> str:
    """The flag that a wrong name most likely means: initials (lr: learning_rate), a beginning, or similar letters."""
    initials = lambda name: "".join(part[:1] for part in name.split("_"))
    likely = [name for name in names if initials(name) == word] + [name for name in names if name.startswith(word)]
    return [*likely, *difflib.get_close_matches(word, names, n=1, cutoff=0.0)][0]


def parse(
    config_class: type[C], arguments: Sequence[str], recorded: Callable[[dict[str, Any]], C | None] = lambda given: None
) -> C:
    """The configuration that a command line gives; `--flagfile=FILE` reads flags from a file, one a line.

    Args:
      config_class: whose flags these are.
      arguments: the words behind the program's name.
      recorded: {name: value} of the flags that are given -> the configuration whose values the others have; None: the
        defaults of the class.

    Raises:
      FlagError: an unknown flag (with the nearest one), a value of the wrong type or outside its range, two flags that
        contradict each other, a word that is not a flag, a flag file that is not there.
    """
    table = {f.name: f for f in flags_of(config_class)}
    values = absl_flags.FlagValues()
    define: dict[type, Any] = {
        int: absl_flags.DEFINE_integer,
        float: absl_flags.DEFINE_float,
        bool: absl_flags.DEFINE_boolean,
        str: absl_flags.DEFINE_string,
    }
    for f in table.values():
        define[f.type](f.name, f.default, f.rule.help, flag_values=values)
    try:
        rest = values(["", *arguments])
    except absl_flags.UnrecognizedFlagError as error:
        near = nearest(error.flagname.removeprefix("no"), table)
        raise FlagError(f"--{error.flagname}: no such flag; the nearest is --{near} (--help lists all)") from None
    except absl_flags.IllegalFlagValueError as error:
        word = str(error).removeprefix("flag ").partition(": ")[0]
        kind = table[word.strip("-").partition("=")[0]].type
        raise FlagError(f"{word}: must be {WORDS[kind]}") from None
    except (absl_flags.Error, OSError, UnicodeDecodeError) as error:
        raise FlagError(str(error).removeprefix("ERROR:: ").replace("\n", " ")) from None
    if len(rest) > 1:
        raise FlagError(f"{rest[1]}: not a flag; flags are written --name=value (--help lists all)")
    given = {name: values[name].value for name in table if values[name].present}
    base: Any = recorded(given)
    return config_class(**given) if base is None else base.replace(**given)


def given(config: Any, keep: Collection[str] = ()) -> list[str]:
    """The flags, as words of a command line, that differ from their defaults, and those named in `keep`."""
    words = []
    for name, _, _, default, _ in sorted(flags_of(type(config)), key=lambda f: f.rule.group != "experiment"):
        value = getattr(config, name)
        if value is not None and ((value != default and name not in config.open) or name in keep):
            words.append(f"--{name}={shown(value)}")
    return words


def shown(value: Any) -> str:
    """A flag's value as a command line has it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def recipe_table(by: str, table: Mapping[str, Mapping[str, Any]]) -> str:
    """What each value of the flag `by` fills in, one a line."""
    names = list(dict.fromkeys(name for recipe in table.values() for name in recipe))
    cells = [[by, *names]] + [
        [value, *(shown(recipe[name]) if name in recipe else "-" for name in names)] for value, recipe in table.items()
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  " + "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in cells]
    return f"What --{by} sets, unless a flag says otherwise:\n" + "\n".join(lines)


def help_text(config_class: Any, doc: str, command: str) -> str:
    """The page of `--help`: the module's docstring, then the flags by group, each with range and default."""
    width = min(shutil.get_terminal_size((110, 24)).columns, 120)
    groups: dict[str, list[str]] = {}
    choosing = {
        name: f"by --{by}" for by, table in config_class.recipes.items() for row in table.values() for name in row
    }
    for name, kind, _, default, rule in flags_of(config_class):
        shown = rule.shown or ("not set" if default is None else default)
        shown = shown if default is not None else choosing.get(name, shown)
        head = (
            f"--[no]{name}" if kind is bool else f"--{name}={rule.range() if rule.choices else kind.__name__.upper()}"
        )
        bounds = "" if rule.choices or not rule.range() else f", {rule.range()}"
        need = f"{rule.need()}; " if rule.needs else ""
        body = f"{rule.help} ({need}default: {shown}{bounds})"
        lines = textwrap.wrap(body, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
        groups.setdefault(rule.group, []).append("\n".join([f"  {head}", *lines]))
    order = sorted(groups, key=lambda group: group != "experiment")
    pages = [f"{group[0].upper()}{group[1:]}:\n" + "\n".join(groups[group]) for group in order]
    pages[1:1] = [recipe_table(by, table) for by, table in config_class.recipes.items()]
    extra = "  --flagfile=FILE\n      read flags from a file, one a line, as a run's flags.txt has them\n  --help"
    return "\n\n".join([f"{command} [--flag=value ...]", doc.strip(), *pages, extra])
