"""The command `python -m experiments`, which is `jaxdl` by another name; --help has examples."""

from jaxdl.console import command, main
from jaxdl.packaged import listing

__all__ = ["listing", "main"]

if __name__ == "__main__":
    command()
