"""Stored runs for the window: read in worker threads, never on the UI thread, never altered.

Nothing here needs Qt. Modules that open stores are imported by the worker that needs them first, so
that the window comes up without waiting for them.
"""

from __future__ import annotations
