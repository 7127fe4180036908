"""The live image and what is drawn, measured and saved of it."""

from __future__ import annotations

from gui.panels.image.panel import ImagePanel

__all__ = ["ImagePanel"]
