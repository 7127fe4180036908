"""`hotstage export`: a run in the formats of other programs."""

from __future__ import annotations

from pathlib import Path

from acquire.cli.console import say, say_warning
from acquire.export import Format, export_run
from acquire.store import open_run


def export_folder(folder: Path, to: str, stream: str | None, output: Path | None) -> int:
    """Export a run, and tell what becomes of it."""
    run = open_run(folder)
    if run.report is None:
        say_warning("the run is not closed; what is on the disk by now is exported.")
    say(f"Exported to {export_run(run, Format(to), stream, output, tell=say)}")
    return 0
