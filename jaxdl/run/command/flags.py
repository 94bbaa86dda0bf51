"""Flags from a frozen dataclass: one declaration serves the command line, notebooks and the saved record of a run.

    class Config(RunConfig):
        width: int = flag(64, "hidden units", minimum=1)
        learning_rate: float = 0.1          # another default; help and range are inherited from RunConfig
        batch_size: int = flag(None)        # filled in by the recipe of the data set

absl's flags are made from the dataclass only when a command line is parsed, in a private `FlagValues`, so any number
of experiments can be imported in one process.
"""

import dataclasses
import difflib
import math
import re
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

from absl import flags as absl_flags

from jaxdl.streams import Printable

C = TypeVar("C")
MOST = 2**31  # integers are 32 bits wide on the device
WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}


class ConfigError(Printable, ValueError):
    """A flag or a run folder is invalid. The message is one line that says what would be valid. Exit status 2."""


FlagError = ConfigError  # its name on the command line


class Rule(NamedTuple):
    """The properties of a flag besides its name, type and default."""

    help: str
    group: str = "experiment"
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    more_than: float | None = None
    maximum: float | None = None
    less_than: float | None = None
    shown: str = ""  # the default in words, if its value explains little
    affects_result: bool = True  # False: changing it cannot change what the run computes
    needs: tuple[str, tuple[Any, ...]] | None = None  # (other flag, values of it with which this flag has an effect)

    def range(self) -> str:
        """Returns the allowed values in words; "" if there is no bound."""
        if self.choices:
            return "|".join(self.choices)
        bounds = ((">=", self.minimum), (">", self.more_than), ("<=", self.maximum), ("<", self.less_than))
        return " and ".join(f"{sign} {bound:.12g}" for sign, bound in bounds if bound is not None)

    def need(self) -> str:
        """Returns the condition under which it has an effect: "with --optimizer=adam|adamw", "without --text" or ""."""
        if self.needs is None:
            return ""
        name, allowed = self.needs
        if not any(allowed):
            return f"without --{name}"
        return f"with --{name}" + ("" if allowed == (True,) else "=" + "|".join(map(shown, allowed)))


def flag(default: Any, help: str = "", **rule: Any) -> Any:
    """Declares a dataclass field that is also a flag.

    Args:
      default: None means that a recipe fills it in, or that it is not set.
      help: its line in --help. Without it the rule of the parent class is inherited.
      rule: fields of `Rule`. With `needs=("optimizer", ("adam", "adamw"))` a value other than the default raises
        FlagError unless `optimizer` has one of these values. None, 0 or "" among them mean that the other flag is not
        given, (True,) that it is switched on or has any value.
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
    """Yields the flags of a dataclass in order; a field without a rule inherits that of the field it overrides."""
    hints = get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        declared = (c.__dict__.get("__dataclass_fields__", {}).get(field.name) for c in config_class.__mro__)
        rule = next((f.metadata["rule"] for f in declared if f is not None and "rule" in f.metadata), None)
        if rule is None:
            raise TypeError(f"{config_class.__name__}.{field.name} is declared without flag(default, help)")
        kinds = [k for k in get_args(hints[field.name]) or (hints[field.name],) if k is not NoneType]
        optional = NoneType in get_args(hints[field.name])
        yield Flag(field.name, kinds[0], optional, field.default, rule)


def no_validation(why: str) -> Any:
    """Declares --valid_fraction of an experiment that chooses nothing by validation data: it is always 0.

    Args:
      why: the reason, for --help.
    """
    return flag(0.0, f"always 0: {why}", group="data", minimum=0, maximum=0)


def check(config: Any) -> None:
    """Raises FlagError for the first value of a wrong type, outside its range, or without effect (`Rule.needs`)."""
    for name, kind, optional, default, rule in flags_of(type(config)):
        value = getattr(config, name)
        if value is None and optional:
            continue
        if value is None and default is None:
            raise FlagError(f"--{name}: missing, and no recipe sets it; give a value")
        check_range(name, kind, rule, value)
        if rule.needs and value != default:
            other, effective = rule.needs
            current = getattr(config, other)
            if current not in effective and not (effective == (True,) and current):
                condition = f"with --{other}={shown(current)}" if current else f"without --{other}"
                raise FlagError(f"--{name}={shown(value)}: has no effect {condition}; leave it out")


def check_range(name: str, kind: type, rule: Rule, value: Any) -> None:
    """Raises FlagError if a flag's value has the wrong type or is outside its range."""
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
        of_number = f"{'an integer' if kind is int else 'a finite number'} {rule.range()}".rstrip()
        allowed = rule.range() if rule.choices else of_number
        raise FlagError(f"--{name}={value}: must be {allowed}{near}")


def nearest(word: str, names: Collection[str]) -> str:
    """Returns the most likely flag for a wrong name: by initials (lr: learning_rate), prefix, or similar spelling."""
    initials = lambda name: "".join(part[:1] for part in name.split("_"))
    likely = [name for name in names if initials(name) == word] + [name for name in names if name.startswith(word)]
    return [*likely, *difflib.get_close_matches(word, names, n=1, cutoff=0.0)][0]


def parse(
    config_class: type[C], arguments: Sequence[str], recorded: Callable[[dict[str, Any]], C | None] = lambda given: None
) -> C:
    """Parses a command line; `--flagfile=FILE` reads flags from a file, one per line.

    Args:
      config_class: the configuration class that declares the flags.
      arguments: the words after the program's name.
      recorded: {name: value} of the given flags -> the configuration that supplies all other values; None for the
        defaults of the class.

    Returns:
      The configuration.

    Raises:
      FlagError: an unknown flag (the message suggests one), a value of a wrong type or outside its range, flags that
        contradict each other, a word that is not a flag, a missing flag file.
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
        raise FlagError(f"--{error.flagname}: no such flag; did you mean --{near}? (--help lists all)") from None
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
    """Returns the flags that differ from their defaults, and those in `keep`, as words of a command line."""
    words = []
    for name, _, _, default, _ in sorted(flags_of(type(config)), key=lambda f: f.rule.group != "experiment"):
        value = getattr(config, name)
        if value is not None and ((value != default and name not in config.open) or name in keep):
            words.append(f"--{name}={shown(value)}")
    return words


def shown(value: Any) -> str:
    """Formats a flag's value as on a command line."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def recipe_table(by: str, table: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats what each value of the flag `by` sets, one value per line."""
    names = list(dict.fromkeys(name for recipe in table.values() for name in recipe))
    cells = [[by, *names]] + [
        [value, *(shown(recipe[name]) if name in recipe else "-" for name in names)] for value, recipe in table.items()
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  " + "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in cells]
    return f"Defaults set by --{by}:\n" + "\n".join(lines)


def help_text(config_class: Any, doc: str, command: str) -> str:
    """Returns the text of `--help`: the module's docstring, then the flags by group, each with range and default."""
    width = min(shutil.get_terminal_size((110, 24)).columns, 120)
    groups: dict[str, list[str]] = {}
    choosing = {
        name: f"by --{by}" for by, table in config_class.recipes.items() for row in table.values() for name in row
    }
    for name, kind, _, default, rule in flags_of(config_class):
        unset = default is None or default == kind()  # `shown` explains such a value, not one that an experiment sets
        shown = rule.shown if rule.shown and unset else "not set" if default is None else default
        shown = shown if default is not None else choosing.get(name, shown)
        head = (
            f"--[no]{name}" if kind is bool else f"--{name}={rule.range() if rule.choices else kind.__name__.upper()}"
        )
        bounds = (
            "" if rule.choices else re.sub("([<>]=?) ", "\\1\N{NO-BREAK SPACE}", rule.range())
        )  # not cut at a line's end
        facts = "; ".join(filter(None, (rule.need(), bounds, f"default: {shown}")))
        lines = textwrap.wrap(f"{rule.help} ({facts})", width, initial_indent=" " * 6, subsequent_indent=" " * 6)
        lines = [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
        groups.setdefault(rule.group, []).append("\n".join([f"  {head}", *lines]))
    order = sorted(groups, key=lambda group: group != "experiment")
    pages = [f"{group[0].upper()}{group[1:]}:\n" + "\n".join(groups[group]) for group in order]
    pages[1:1] = [recipe_table(by, table) for by, table in config_class.recipes.items()]
    extra = "  --flagfile=FILE\n      read flags from a file with one flag per line, such as flags.txt of a run\n"
    extra += "  --help\n      print this text"
    return "\n\n".join([f"{command} [--flag=value ...]", doc.strip(), *pages, extra])
