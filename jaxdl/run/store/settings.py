"""Settings that affect the bits of a run besides its flags, data and code: XLA's flags, jax's settings, the devices."""

import os
from collections.abc import Mapping
from typing import Any

import jax

from jaxdl.streams import shell
from jaxdl.tuned import SETTINGS, SWITCH

# each is an environment variable and, in lower case, a setting of jax.config
OF_JAX = (
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_THREEFRY_PARTITIONABLE",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DISABLE_JIT",
)
PLACES = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES")


def settings(devices: int | None = None) -> dict[str, Any]:
    """Returns {variable: value} of XLA and jax as they are, and "devices": number (None: all) and kind of the used."""
    of_jax = {name: jax.config.values.get(name.lower()) for name in OF_JAX}
    kind = jax.devices()[0].device_kind
    return {"XLA_FLAGS": " ".join(sorted(os.environ.get("XLA_FLAGS", "").split())), **of_jax,
            "devices": f"{devices or jax.device_count()} x {kind}"}  # fmt: skip


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the differences in words."""
    shown = lambda value: "not set" if value in (None, "") else value
    return [f"{name} was {shown(before[name])}, is {shown(now[name])}" for name in now if before[name] != now[name]]


def words_for(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns the command prefix that restores the settings of `before`; empty if nothing differs."""
    unset, put = list[str](), list[str]()
    for name in (name for name in now if before[name] != now[name]):
        value = before[name]
        if name == "devices":
            count, _, kind = value.partition(" x ")
            put += [f"JAX_NUM_CPU_DEVICES={count}", "JAX_PLATFORMS=cpu"] if kind == "cpu" else []
        elif value in (None, ""):
            unset.append(f"-u {name}")
            put += [f"{SWITCH}=0"] if name == "XLA_FLAGS" else []
        else:
            put.append(f"{name}={shell([str(value)])}")
    return " ".join(["env", *unset, *put]) if unset or put else ""


def given(environment: Mapping[str, str]) -> str:
    """Returns the user's environment variables that affect bits, as a command prefix; empty if there are none."""
    usual = {setting.name: setting.value for setting in SETTINGS}
    found = {name: environment[name] for name in (SWITCH, "XLA_FLAGS", *OF_JAX, *PLACES) if name in environment}
    return "".join(f"{name}={shell([value])} " for name, value in found.items() if usual.get(name) != value)
