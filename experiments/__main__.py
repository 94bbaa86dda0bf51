"""The command `python -m experiments`, an alias of `jaxdl`; --help shows examples."""

from jaxdl.console import command, main
from jaxdl.packaged import listing

__all__ = ["listing", "main"]

if __name__ == "__main__":
    command()
