"""Servers that answer vendors' protocols for simulated instruments."""
