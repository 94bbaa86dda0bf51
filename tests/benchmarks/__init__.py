"""Benchmarks: they print times and ratios and assert nothing."""
