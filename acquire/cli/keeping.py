"""`hotstage verify` and `hotstage recover`: is a run whole, and what can be mended of it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from acquire.cli.console import err, out, say
from acquire.store import ZARR_NAME, Finding, Verification, recover_run, verify_run
from acquire.units import show_bytes

_STYLES = {"damage": "bold red", "loss": "yellow", "note": "dim"}
_MOST_NOTES = 40


def verify(folder: Path) -> int:
    """Check a run with its continuations, print what was found; 0 if all is good, 1 if not."""
    return max(_verify(part) for part in _parts(folder))


def recover(folder: Path) -> int:
    """Repair a run with its continuations, and print what was done."""
    return max(_recover(part) for part in _parts(folder))


def _parts(folder: Path) -> list[Path]:
    place = folder.parent if folder.name == ZARR_NAME else folder
    continued = (p for p in place.glob("continued-*") if (p / ZARR_NAME).is_dir())
    return [folder, *sorted(continued, key=lambda p: (len(p.name), p.name))]


def _verify(folder: Path) -> int:
    columns = (TextColumn("reading"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        result = verify_run(folder, lambda done: bar.update(task, completed=done))
    out.print(_table(result))
    _print_findings(result.findings)
    counts = {s: sum(f.severity == s for f in result.findings) for s in _STYLES}
    state = "still being written" if result.live else f"state: {result.state}"
    if not result.good:
        say(
            f"{result.path} is damaged, see above: {counts['damage']} ({state}). "
            "`hotstage recover` mends what can be mended, and declares the rest.",
            "bold red",
        )
        return 1
    losses = f"losses recorded: {counts['loss']}" if counts["loss"] else "nothing is missing"
    say(f"{result.path} is whole: all bytes are as they were written; {losses} ({state}).", "green")
    return 0


def _recover(folder: Path) -> int:
    result = recover_run(folder)
    if not result.changes:
        say(f"{result.path} needs no recovery; nothing was changed.")
    else:
        say(f"{result.path} was recovered:", "bold")
        for change in result.changes:
            say(f"  {change}")
    _print_findings(result.losses)
    return 0


def _print_findings(findings: tuple[Finding, ...]) -> None:
    """The worst first."""
    order = list(_STYLES)
    for severity, group in groupby(
        sorted(findings, key=lambda f: order.index(f.severity)), key=lambda f: f.severity
    ):
        told = list(group)
        shown = told if severity == "damage" else told[:_MOST_NOTES]
        for finding in shown:
            out.print(
                Text.assemble(
                    (f"{severity}: ", _STYLES[severity]), f"{finding.where}: ", finding.text
                )
            )
        if len(told) > len(shown):
            say(f"{severity}: {len(told) - len(shown)} more", _STYLES[severity])


def _table(result: Verification) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("group")
    for heading in ("arrays", "rows", "chunks", "read", "faults"):
        table.add_column(heading, justify="right")
    for group, members in groupby(result.rows, key=lambda row: row.path.rpartition("/")[0]):
        rows = list(members)
        faults = sum(row.faults for row in rows)
        table.add_row(
            Text(group),
            str(len(rows)),
            str(result.lengths[group]),
            str(sum(row.chunks for row in rows)),
            show_bytes(sum(row.nbytes for row in rows)),
            Text(str(faults), "bold red" if faults else ""),
        )
    return table
