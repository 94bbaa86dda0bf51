"""Measurements, not tests: they print ratios and never fail."""
