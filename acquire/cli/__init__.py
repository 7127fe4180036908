"""The `hotstage` command."""

from acquire.cli.app import main

__all__ = ["main"]
