"""Lists the experiments, one line each."""

import ast
import pkgutil
from pathlib import Path

import experiments


def summaries() -> dict[str, str]:
    """{name: first line of its docstring} of every experiment, none of which is imported."""
    names = sorted(module.name for module in pkgutil.iter_modules(experiments.__path__) if module.name[0] != "_")
    sources = {name: (Path(experiments.__path__[0]) / f"{name}.py").read_text(encoding="utf-8") for name in names}
    return {name: (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0] for name, text in sources.items()}


if __name__ == "__main__":
    print("python -m experiments.NAME [--flag=value ...]    (--help tells an experiment's flags)\n")
    lines = summaries()
    for name, line in lines.items():
        print(f"  {name:{max(map(len, lines))}}  {line}")
