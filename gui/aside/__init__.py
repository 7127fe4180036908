"""Fits and files that the window has made in a process of its own, so that the hand never waits for them."""

from __future__ import annotations

from gui.aside.helper import Aside, Failed

__all__ = ["Aside", "Failed"]
