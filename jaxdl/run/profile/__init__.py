"""Profiling of a training step: its cost and a trace."""
