"""The page where a recipe is written: as a form and as text, with its course and what speaks against it."""

from __future__ import annotations

from gui.pages.recipe.page import RecipePage

__all__ = ["RecipePage"]
