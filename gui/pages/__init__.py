"""The window's pages, in the order of their tabs."""

from __future__ import annotations

from gui.pages.live import LivePage
from gui.pages.page import Page

__all__ = ["LivePage", "Page"]
