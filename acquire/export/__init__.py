"""Hands a run to other programs, in their own formats and with what they show."""

from acquire.export.job import Format, export_run

__all__ = ["Format", "export_run"]
