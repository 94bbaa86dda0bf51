"""Finds the package `experiments` that comes with jaxdl, even if the user has a folder of that name.

Nothing heavy is imported here, so that listing the experiments does not import jax.
"""

import ast
import functools
import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

PLACE = Path(__file__).resolve().parents[1] / "experiments"  # next to jaxdl, both in a checkout and when installed


def listing() -> dict[str, tuple[str, str]]:
    """Returns {name: (family, first line of its docstring)} of every experiment without importing any."""
    found = {}
    for name in sorted(module.name for module in pkgutil.iter_modules([str(PLACE)])):
        path = PLACE / name / "__init__.py" if (PLACE / name).is_dir() else PLACE / f"{name}.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        families = [
            node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and ast.unparse(node.targets[0]) == "FAMILY"
        ]
        if families:
            found[name] = str(families[0]), (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


@functools.cache  # one module per experiment, even if sys.modules has another under its name
def experiment(name: str) -> ModuleType:
    """Imports the module `experiments.NAME` of this package.

    If Python finds another package `experiments`, it is removed from sys.modules during the import and restored
    afterwards.

    Raises:
      ImportError: the experiment does not exist, or cannot be imported.
    """
    if _is_found():
        return importlib.import_module(f"experiments.{name}")
    theirs, path = _named_so(), sys.path[:]
    for other in theirs:
        del sys.modules[other]
    sys.path.insert(0, str(PLACE.parent))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(f"experiments.{name}")
    finally:
        for ours in _named_so():
            del sys.modules[ours]
        sys.modules.update(theirs)
        sys.path[:] = path


def _named_so() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "experiments"}


def _is_found() -> bool:
    """Whether `import experiments` imports the package next to jaxdl."""
    if "experiments" in sys.modules:
        found = getattr(sys.modules["experiments"], "__path__", None)
    else:
        spec = importlib.util.find_spec("experiments")
        found = spec.submodule_search_locations if spec else None
    return any(Path(place).resolve() == PLACE for place in found or ())
