"""The variables of the environment that jaxdl reads, and the usual ones of jax, with what each does."""

import difflib

OF_JAXDL = {
    "JAXDL_DATA_DIR": "the folder with original data files; --data_dir overrides it",
    "JAXDL_TUNED": "0 turns off the settings that make a CPU fast",
    "JAXDL_COORDINATOR": "HOST:PORT where the processes of one run meet, or auto",
    "JAXDL_PROCESSES": "the number of processes of one run",
    "JAXDL_PROCESS_ID": "the number of this process, from 0",
    "JAXDL_MAX_FIELDS": "the most fields of a table that is read",
    "JAXDL_MAX_COLUMNS": "the most columns of a table that is read",
    "JAXDL_MAX_NUMBERS": "the most numbers that a table becomes",
    "JAXDL_MAX_TEXT_BYTES": "the most bytes of a text that is read, after decompression",
    "JAXDL_MAX_IMAGE_BYTES": "the most bytes of pixels that a folder of images becomes",
    "JAXDL_LAUNCHER": "set by launch.sh: its process id",
    "JAXDL_LAUNCH": "set by launch.sh: the name of this launch",
    "JAXDL_STARTED_ANEW": "set by jaxdl when it starts itself again",
}
OF_JAX = {
    "JAX_PLATFORMS": "the backends that jax may use, in order",
    "JAX_NUM_CPU_DEVICES": "the number of devices that the CPU is divided into",
    "JAX_ENABLE_X64": "64-bit numbers",
    "JAX_DISABLE_JIT": "runs programs without compiling them",
    "JAX_DEBUG_NANS": "raises at the first NaN; slow",
    "JAX_DEBUG_INFS": "raises at the first infinity; slow",
    "JAX_DEFAULT_MATMUL_PRECISION": "the precision of matrix products and convolutions",
    "JAX_DEFAULT_PRNG_IMPL": "the random number generator",
    "JAX_THREEFRY_PARTITIONABLE": "random numbers that do not depend on how an array is split",
    "JAX_NUMPY_RANK_PROMOTION": "whether arrays of different rank are broadcast: allow, warn or raise",
    "JAX_COMPILATION_CACHE_DIR": "the folder of compiled programs",
    "JAX_ENABLE_COMPILATION_CACHE": "false turns the cache of compiled programs off",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "programs that compile faster are not cached",
    "JAX_LOG_COMPILES": "logs each compilation",
    "JAX_TRACEBACK_FILTERING": "whether tracebacks hide jax's own frames",
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "what connects CPU processes: gloo or mpi",
    "JAX_COORDINATOR_ADDRESS": "HOST:PORT where processes meet, read by jax",
    "JAX_COORDINATOR_PORT": "the port where processes meet, read by jax",
    "JAX_COORDINATOR_BIND_ADDRESS": "the address at which process 0 listens, read by jax",
    "JAX_LOCAL_DEVICE_IDS": "the devices of this process, read by jax",
}


def purpose(name: str) -> str:
    """What a variable of jax or jaxdl does, in a few words; of an unknown name, the one that it resembles most."""
    known = OF_JAXDL if name.startswith("JAXDL_") else OF_JAX
    if name in known:
        return known[name]
    if name.startswith(("JAXDL_MARGIN", "JAXDL_PROMISES")):
        return "read by jaxdl's own tests"
    near = difflib.get_close_matches(name, known, 1, 0.75)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"jaxdl reads no such variable{hint}" if known is OF_JAXDL else f"see the documentation of jax{hint}"
