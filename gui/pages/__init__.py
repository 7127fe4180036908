"""The window's pages, in the order of their tabs."""

from __future__ import annotations

from gui.pages.instruments import InstrumentsPage
from gui.pages.live import LivePage
from gui.pages.page import Page
from gui.pages.recipe import RecipePage
from gui.pages.runs import RunsPage

__all__ = ["InstrumentsPage", "LivePage", "Page", "RecipePage", "RunsPage"]
