"""Markdown tables of findings, for the documents that are made of records."""

import re

from jaxdl.run.records.record import short
from jaxdl.run.show.claims import Finding, verdict
from jaxdl.streams import printable


def line(*cells: str) -> str:
    """One line of a Markdown table."""
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def head(*names: str, numbers: int = 0) -> list[str]:
    """The first two lines of a Markdown table; the last `numbers` columns are aligned to the right."""
    rules = ["---"] * (len(names) - numbers) + ["---:"] * numbers
    return [line(*names), line(*rules)]


def text(words: str) -> str:
    """Plain words inside a Markdown table: no link, picture, HTML or new line comes of them."""
    return re.sub(r"([\\|*~<`[\]])", r"\\\1", printable(" ".join(words.split())))


def code(command: str) -> str:
    """A command inside a Markdown table, without the prefix that all commands share."""
    command = short(command)
    ticks = "``" if "`" in command else "`"
    return ticks + printable(command).replace("|", r"\|") + ticks


def cell(words: str, between: str = "; ") -> str:
    """Several lines of words inside a Markdown table."""
    return between.join(text(line) for line in words.split("\n"))


def holds(finding: Finding) -> str:
    """Whether a claim holds, in the words of the claims table."""
    return text(verdict(finding).lower())
