"""Compiles all that is measured with, once on a machine: ``python -m acquire.measure.warm``."""

from __future__ import annotations

from acquire.measure import eels, particles


def warm_up() -> None:
    """Compile every kernel that runs use, or load it from disk; minutes the first time."""
    particles.warm_up()
    eels.warm_up()


if __name__ == "__main__":
    warm_up()
