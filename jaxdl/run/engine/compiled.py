"""Compiles pure functions that a report calls besides its fits: gradients, a few steps by hand."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxdl.run.engine.parallel import remembered

QUICK = {"xla_backend_optimization_level": 0}


def compiled(function: Callable[..., Any], quick: bool = False) -> Callable[..., Any]:
    """Returns a pure function compiled for one device when it is first called; all calls have the shapes of the first.

    Equal programs are compiled once per process, also if they differ in the arrays that they close over;
    `experiment.init` is the program that `fit` has compiled.

    Args:
      function: arrays -> a pytree of arrays.
      quick: optimise less; it compiles in half the time, for functions that are called a few dozen times.
    """
    found: list[Any] = []

    def call(*args: Any) -> Any:
        if not found:
            closed, like = jax.make_jaxpr(function, return_shape=True)(*args)
            program = functools.partial(jax.core.eval_jaxpr, closed.jaxpr)
            jitted = jax.jit(_quick(program), compiler_options=QUICK) if quick else jax.jit(program)
            found.extend((remembered(jitted), closed.consts, jax.tree.structure(like)))
        run, constants, structure = found
        return jax.tree.unflatten(structure, run(constants, *jax.tree.leaves(args)))

    return call


def _quick(program: Callable[..., Any]) -> Callable[..., Any]:
    def quick(*args: Any) -> Any:  # its name is part of the text by which equal programs are recognised
        return program(*args)

    return quick
