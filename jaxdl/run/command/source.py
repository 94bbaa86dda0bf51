"""The source code of an experiment: its record in a run, and the import of your own file as a module."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from jaxdl.data import DataError, MissingData


def source_of(module: Any) -> dict[str, str]:
    """Returns {"module", "file", "sha256"} of an experiment.

    module: its import name, "" for a single file. file: the file, or the folder of a package. sha256: the digest of the
    file, or of the names and contents of all Python files of the package.
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
    """Imports an experiment from your own file or package folder.

    Raises:
      MissingData: the file does not exist.
      DataError: it cannot be imported, or is not an experiment.
    """
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        raise MissingData(f"--module={path}: no such file; give the Python file of the experiment")
    spec = importlib.util.spec_from_file_location(path.stem, file)
    if spec is None or spec.loader is None:
        raise DataError(f"--module={path}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses resolve the names in annotations there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"--module={path}: cannot be imported ({type(error).__name__}: {error})") from None
    if not hasattr(module, "Config") or not hasattr(module, "build"):
        raise DataError(f"--module={path}: is not an experiment; it must define Config and build")
    return module


def check_source(record: Any, module: Any, run: Path) -> None:
    """Raises DataError if a run was made by another version of your own file than `module`."""
    if not isinstance(record, dict) or not record or str(record.get("module")).startswith("experiments."):
        return  # for experiments of this package fit.json has digests of the programs, which survive a new version
    now = source_of(module)
    if record.get("sha256") != now["sha256"]:
        was = f"{record.get('file')} with sha256 {str(record.get('sha256'))[:8]}"
        raise DataError(f"{run}: was made by {was}, but {now['file']} has {now['sha256'][:8]}; use the unchanged file")
