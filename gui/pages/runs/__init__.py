"""The page of stored runs: a list, a replay, and runs compared in one plot."""

from __future__ import annotations

from gui.pages.runs.page import RunsPage

__all__ = ["RunsPage"]
