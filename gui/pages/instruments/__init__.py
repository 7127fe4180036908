"""The page of the station: its instruments, and what may be done with them by hand."""

from __future__ import annotations

from gui.pages.instruments.page import InstrumentsPage

__all__ = ["InstrumentsPage"]
