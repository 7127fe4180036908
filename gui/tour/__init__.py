"""The tour: cards beside the parts of the window, for whoever sees it for the first time."""

from __future__ import annotations

from gui.tour.tour import Tour

__all__ = ["Tour"]
