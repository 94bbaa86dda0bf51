"""Deep-learning research in JAX: pure functions, one command from flags to report."""

__version__ = "0.1.0"
