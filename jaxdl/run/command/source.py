"""Where an experiment's code is: what a run records of it, and a file of one's own as a module."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from jaxdl.data import DataError, MissingData


def source_of(module: Any) -> dict[str, str]:
    """{"module", "file", "sha256"}: the name by which it is imported, "" of a file; the file, or folder of a package.

    The digest is that of the file, or of names and contents of all Python files of the package.
    """
    spec, path = module.__spec__, Path(module.__file__).absolute()
    name = spec.name.removesuffix(".__main__") if spec and "." in spec.name else ""
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    found = hashlib.sha256()
    for file in files:
        if len(files) > 1:
            found.update(str(file.relative_to(path.parent)).encode())
        found.update(file.read_bytes())
    return {
        "module": name,
        "file": str(path.parent if path.name == "__init__.py" else path),
        "sha256": found.hexdigest(),
    }


def module_from(path: Path) -> Any:
    """The experiment in a file, or in the folder of a package, of one's own.

    Raises:
      MissingData: it is not there.
      DataError: it cannot be imported, or is no experiment.
    """
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        raise MissingData(f"--module={path}: no such file; name the Python file of the experiment")
    spec = importlib.util.spec_from_file_location(path.stem, file)
    if spec is None or spec.loader is None:
        raise DataError(f"--module={path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where a dataclass looks for the names in its annotations
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"--module={path}: cannot be imported ({type(error).__name__}: {error})") from None
    if not hasattr(module, "Config") or not hasattr(module, "build"):
        raise DataError(f"--module={path}: has no Config and build; it is no experiment")
    return module


def check_source(record: Any, module: Any, run: Path) -> None:
    """Raises DataError where a run was made by other code of one's own than `module`."""
    if not isinstance(record, dict) or not record or str(record.get("module")).startswith("experiments."):
        return  # those of the package change with its version, and fit.json knows their programs
    now = source_of(module)
    if record.get("sha256") != now["sha256"]:
        was = f"{record.get('file')} with sha256 {str(record.get('sha256'))[:8]}"
        raise DataError(f"{run}: was made by {was}, {now['file']} has {now['sha256'][:8]}; give the file as it was")
