"""`hotstage show` and `hotstage plot`: look at a run, finished, under way or cut off."""

from __future__ import annotations

from pathlib import Path

from acquire.cli.console import out, say
from acquire.engine.experiment import PICTURE_NAME
from acquire.errors import StoreError
from acquire.report import plot_maps, plot_run, summarise, to_rich
from acquire.store import open_run


def show_run(folder: Path) -> int:
    """Print a run's summary."""
    out.print(to_rich(summarise(open_run(folder))))
    return 0


def plot_page(folder: Path, output: Path | None) -> int:
    """Draw a run as a PNG page."""
    run = open_run(folder)
    path = output if output is not None else run.path / PICTURE_NAME
    try:
        plot_run(run, path)
        maps = plot_maps(run, path.parent)
    except (OSError, ValueError) as error:
        raise StoreError(f"the picture {str(path)!r} cannot be written: {error}.") from error
    say(f"Drawn to {', '.join(map(str, [path, *maps]))}")
    return 0
